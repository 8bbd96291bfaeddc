"""Bad values through every entry point: a right answer or one clear error, and nothing else."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from tests.hostile.values import FIELDS, TEXTS, VALUES
from tpo_graph import aoptimize, create_tpo_graph
from tpo_graph.cli import tpo
from tpo_graph.conversation import well_formed
from tpo_graph.errors import TPOError
from tpo_graph.rows import read_rows
from tpo_graph.settings import Settings
from tpo_graph.store import open_store
from tpo_graph.testing import ScriptedChatModel, prefer_longer


def judge(query: str, response: str) -> float:
    return float(len(response))


def policy() -> ScriptedChatModel:
    return ScriptedChatModel(replies=["an answer", "a longer answer"])


def need_clear(error: BaseException, given: object = None) -> None:
    """An error is ours, and short enough to be read."""
    ours = isinstance(error, TPOError | click.ClickException)
    assert ours and 0 < len(str(error)) < 3_000, f"{given!r:.300}: {error!r:.500}"  # noqa: PT018


async def answers_or_refuses(call: Callable[[], Any]) -> str | None:
    try:
        return (await call()).response
    except Exception as error:
        need_clear(error)
        return None


async def test_texts_in_python(database_url: str) -> None:
    async with open_store(database_url) as store:
        for name, text in TEXTS.items():
            model = ScriptedChatModel(replies=[f"{text}1", f"{text}22"])
            answer = await answers_or_refuses(
                lambda text=text, model=model: aoptimize(
                    text, model=model, reward_model=judge, database=store, depth=0, width=2
                )
            )
            # Half a character and null are replaced; every other text is answered as it is.
            expected = well_formed(f"{text}22").replace("\0", "\ufffd")
            assert answer == expected or not text.strip(), name


async def test_settings_and_contexts() -> None:
    graph = create_tpo_graph(policy(), judge, defaults={"depth": 0, "width": 1})
    small: dict[str, Any] = {"depth": 0, "width": 1}
    for field in FIELDS:
        for value in VALUES:
            if (field in ("width", "depth") and value in (1, 1.5)) or (field, value) == ("", ""):
                continue
            given = {**small, field: value}
            await answers_or_refuses(
                lambda given=given: aoptimize(
                    "Q", **{"model": policy(), "reward_model": judge, **given}
                )
            )
            try:
                await graph.ainvoke({"messages": [("user", "Q")]}, context=given)
            except Exception as error:
                need_clear(error, (field, value))


@pytest.mark.parametrize("drafts", [5, "text", [5], [None], {"a": 1}])
async def test_drafts_of_a_wrong_shape(drafts: Any) -> None:
    graph = create_tpo_graph(policy(), prefer_longer, defaults={"depth": 0, "width": 1})
    with pytest.raises(TPOError, match="drafts"):
        await graph.ainvoke({"messages": [("user", "Q")], "drafts": drafts})


async def test_row_files(tmp_path: Path) -> None:
    whole = [json.dumps({"prompt": text}) for text in TEXTS.values()]
    odd = ['{"prompt": "cut', "null", "5", "[]", '{"prompt": 5}', '{"prompt": NaN}', "\x00", '{"']
    deep = ["[" * 100_000, '{"prompt": ' + "9" * 5_000 + "}"]
    lines = tmp_path / "rows.jsonl"
    lines.write_bytes(b"\xef\xbb\xbf" + "\r\n".join([*whole, *odd, *deep]).encode() + b"\n\xff\xfe")
    table = tmp_path / "rows.csv"
    with table.open("w", newline="", encoding="utf-8-sig", errors="surrogatepass") as file:
        csv.writer(file).writerows([["prompt"], *([text] for text in TEXTS.values())])
    half = tmp_path / "half.csv"
    half.write_bytes(b'prompt\n"cut\x00\xff')
    for file in (lines, table, half, tmp_path / "none.jsonl", tmp_path):
        try:
            rows = list(read_rows(file))
        except Exception as error:
            need_clear(error)
            continue
        assert rows, file


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xfe", b"\xef\xbb\xbfdepth = 1", b"depth = ", b"depth = 1e999", b"[depth]\nx=1",
     b"depth = " + b"9" * 5_000, b"model = \"\\u0000\"", b"x" * 100_000, b"\x00",
     b"reward_models = 5", b"a = " + b"[" * 5_000],
)  # fmt: skip
def test_configuration_files(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "tpo.toml"
    file.write_bytes(content)
    try:
        Settings.load({}, file)
    except Exception as error:
        need_clear(error)


def test_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    specs = ["", ":", "openai:", "nope:x", "\udcff", "vllm:", "vllm:http://[#m", "vllm:#", "judge:",
             "vllm:http://h:99999999#m", "ensemble:/", "local:\x00", "length-penalty:none.toml",
             "x" * 100_000, "vllm:http://\x00#m", "judge:none.toml"]  # fmt: skip
    names = [
        "",
        "none",
        "sqlite:////proc/none/x.db",
        "mysql://x",
        "sqlite:///\x00",
        "://",
        "\udcff",
    ]
    calls = [["run", "Q", "--model", "openai:m", "--reward-model", spec] for spec in specs]
    calls += [["run", "Q", "--model", spec, "--reward-model", "judge:openai:m"] for spec in [
        "", ":", "openai:", "nope:x", "\udcff", "local:\x00", "local:/none"]]  # fmt: skip
    calls += [["runs", "list", "--database", name] for name in names]
    calls += [["runs", "show", text] for text in TEXTS.values()]
    calls += [
        ["run", "Q", "--config", "none.toml"],
        ["run", "--file", "none"],
        ["batch", "none.jsonl"],
    ]
    calls += [["run", "Q", "--depth", str(value)] for value in VALUES]
    for call in calls:
        done = CliRunner().invoke(tpo, call, standalone_mode=False)
        error = done.exception
        if error is not None:
            need_clear(error, call)
