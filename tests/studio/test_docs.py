"""docs/studio.md: its snippets run, its JSON is what a person sees, its tables are complete."""

import json
import re
from pathlib import Path
from typing import Any, get_args

import langgraph_cli.config
import pytest

from tests.studio.documented import question, state_after, steps
from tpo_graph.events import Event

DOCS = Path(__file__).parent.parent.parent / "docs"
TEXT = (DOCS / "studio.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"^```python\n(.*?)^```", TEXT, flags=re.DOTALL | re.MULTILINE)
SERVED = [snippet for snippet in SNIPPETS if "langgraph_sdk" in snippet]
LOCAL = [snippet for snippet in SNIPPETS if snippet not in SERVED]


def json_under(heading: str) -> list[Any]:
    """The JSON blocks of one section, in order."""
    section = re.split(r"^#+ ", TEXT.split(f"# {heading}\n", 1)[1], flags=re.MULTILINE)[0]
    blocks = re.findall(r"^```json\n(.*?)^```", section, flags=re.DOTALL | re.MULTILINE)
    return [json.loads(block) for block in blocks]


def same(shown: Any, real: Any) -> bool:
    """Equal, in the same order of keys."""
    return json.dumps(shown) == json.dumps(real)


def test_the_state_is_the_real_one():
    assert same(json_under("The state"), [state_after("gradient")])


def test_the_steps_are_the_real_ones():
    for node, change in steps()[:6]:
        assert same(json_under(node), [change]), node


def test_the_question_is_the_real_one():
    assert same(json_under("A person in the loop"), [question()])


def test_long_texts_come_last():
    keys = list(state_after("gradient"))
    assert keys[:3] == ["run_id", "iteration", "stop_reason"]
    assert keys[-4:] == ["loss", "gradient", "samples", "messages"]


def test_the_local_snippets_run(capsys: pytest.CaptureFixture[str]):
    assert LOCAL
    for snippet in LOCAL:
        exec(compile(snippet, "docs/studio.md", "exec"), {})  # noqa: S102
    assert capsys.readouterr().out.startswith("Which pair should the critic compare?\nAnswer!")


def test_langgraph_json_is_the_one_shown_and_valid(root: Path):
    (shown,) = json_under("LangGraph Studio and LangGraph Server")
    assert shown == json.loads((root / "langgraph.json").read_text(encoding="utf-8"))
    (auth,) = json_under("Authentication")
    merged = {**shown, **auth}
    assert langgraph_cli.config.get_unknown_keys(merged) == []
    langgraph_cli.config.validate_config(merged)
    assert (root / auth["auth"]["path"].split(":")[0]).is_file()


def test_the_table_of_events_is_complete():
    rows = re.findall(r"^\| `(\w+)` \| [^|]* \| ([^|]*) \|$", TEXT, flags=re.MULTILINE)
    shown = {name: set(re.findall(r"`(\w+)`", keys)) for name, keys in rows}
    for kind in get_args(Event):
        (name,) = get_args(kind.__annotations__["event"])
        assert shown[name] == set(kind.__annotations__) - {"event", "run_id", "iteration"}
