"""docs/observability.md runs as it stands; its spans, metrics and feedback say what it says."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from langsmith import Client

from tpo_graph import TPOResult, optimize
from tpo_graph.testing import ScriptedChatModel, prefer_longer

PAGE = (Path(__file__).parent.parent / "docs" / "observability.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.DOTALL | re.MULTILINE)
TELL = """
import json
sums = {}
for scope in reader.get_metrics_data().resource_metrics[0].scope_metrics:
    for metric in scope.metrics:
        points = metric.data.data_points
        sums[metric.name] = sum(getattr(p, "sum", None) or getattr(p, "value", 0) for p in points)
ended = spans.get_finished_spans()
ids = {span.context.span_id: span.name for span in ended}
found = [(s.name, ids.get(s.parent.span_id) if s.parent else None) for s in ended]
numbers = [dict(span.attributes) for span in ended if span.name == "tpo select"]
print(json.dumps({"sums": sums, "spans": found, "select": numbers, "reward": result.reward,
                  "gain": result.gain, "tokens": result.tokens, "run_id": result.run_id}))
"""


def test_opentelemetry_gets_a_span_per_step_and_the_numbers_of_the_run():
    code = "\n".join([*PYTHON, TELL])
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    steps = ["sample", "reward_score", "select", "loss", "gradient", "update"]
    steps += ["reward_score", "select"]
    assert told["spans"] == [*([f"tpo {step}", "tpo run"] for step in steps), ["tpo run", None]]
    assert told["select"][-1] == {
        "tpo.run_id": told["run_id"],
        "tpo.step": "select",
        "tpo.iteration": 1,
        "tpo.best_reward": told["reward"],
        "tpo.stop_reason": "depth",
    }
    sums = told["sums"]
    assert (sums["tpo.runs"], sums["tpo.reward"]) == (1, told["reward"])
    assert (sums["tpo.gain"], sums["tpo.tokens"]) == (told["gain"], told["tokens"])
    assert sums["tpo.runs.in_flight"] == sums["tpo.steps.in_flight"] == 0
    assert "run_id" not in done.stderr  # log lines hold no texts, and no fields unless asked
    assert re.search(r"run \S+, iteration 1, select: best .*, stop: depth", done.stderr)
    names = set(re.findall(r"`(tpo\.[a-z_.]+)`", PAGE.partition("| metric |")[2]))
    assert names - {"tpo.stop_reason", "tpo.step"} == set(sums)


def test_rewards_are_sent_as_feedback_on_the_trace_of_the_run():
    class Recorder(Client):
        def __init__(self) -> None:
            super().__init__(api_url="http://localhost:1", api_key="none", auto_batch_tracing=False)
            self.seen: list[str] = []
            self.scores: dict[tuple[str, str], Any] = {}

        def create_run(self, name: str, inputs: Any, run_type: Any, **kwargs: Any) -> None:
            if name == "tpo":
                self.seen.append(str(kwargs["id"]))

        def update_run(self, *args: Any, **kwargs: Any) -> None: ...

        def create_feedback(self, run_id: Any = None, key: str = "", **kwargs: Any) -> Any:
            self.scores[str(run_id), key] = kwargs["score"]

    from langchain_core.tracers import LangChainTracer
    from langchain_core.tracers.context import tracing_v2_callback_var

    client = Recorder()
    token = tracing_v2_callback_var.set(LangChainTracer(client=client))
    try:
        result: TPOResult = optimize(
            "Say hello.", model=ScriptedChatModel(), reward_model=prefer_longer, depth=1
        )
    finally:
        tracing_v2_callback_var.reset(token)
    assert client.seen == [result.run_id]
    space: dict[str, Any] = {}
    exec(PYTHON[0], space)  # noqa: S102
    space["send_feedback"](client, result)
    assert client.scores == {
        (result.run_id, "tpo_reward"): result.reward,
        (result.run_id, "tpo_gain"): result.gain,
    }
