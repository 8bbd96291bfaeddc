"""What traces and logs show of a run; traces through LangSmith's own collectors, no network."""

import logging
import subprocess
import sys
from typing import Any

import pytest
from langchain_core.tracers import LangChainTracer
from langchain_core.tracers.run_collector import RunCollectorCallbackHandler
from langsmith import Client

from tpo_graph import create_tpo_graph, optimize
from tpo_graph.testing import ScriptedChatModel, prefer_longer

QUERY: Any = {"messages": [("user", "Say hello.")]}
CONTEXT: Any = {"depth": 1, "width": 2}
ONCE = ["sample", "reward_score", "select", "loss", "gradient", "update", "reward_score", "select"]


def traced(config: Any = None) -> Any:
    """The root run of one TPO run, as a LangSmith tracer sees it."""
    collector = RunCollectorCallbackHandler()
    graph = create_tpo_graph(ScriptedChatModel(), prefer_longer)
    out = graph.invoke(QUERY, {**(config or {}), "callbacks": [collector]}, context=CONTEXT)
    (root,) = collector.traced_runs
    return root, out


class TestTraces:
    def test_the_six_nodes_stand_under_the_run_with_their_names(self):
        root, _ = traced()
        assert root.name == "tpo"
        assert [run.name for run in root.child_runs] == ONCE
        assert {run.run_type for run in root.child_runs} == {"chain"}

    def test_model_calls_stand_beneath_their_node_and_say_run_iteration_and_stage(self):
        root, out = traced({"tags": ["mine"], "metadata": {"tenant": "t1"}})
        calls = [(node, call) for node in root.child_runs for call in node.child_runs]
        calls = [(node, call) for node, call in calls if call.run_type in ("llm", "chat_model")]
        assert [(node.name, call.name) for node, call in calls] == [
            (stage, stage) for stage in ("sample", "loss", "gradient", "update")
        ]
        metadata = [call.extra["metadata"] for _, call in calls]
        for key in ("langgraph_node", "tpo_stage"):
            assert [m[key] for m in metadata] == ["sample", "loss", "gradient", "update"]
        assert [m["tpo_iteration"] for m in metadata] == [0, 0, 0, 1]
        assert {m["tpo_run_id"] for m in metadata} == {out["run_id"]}
        assert {m["tenant"] for m in metadata} == {"t1"}
        for node, call in calls:
            assert {"mine", "nostream", f"tpo:{node.name}"} <= set(call.tags)

    def test_langsmiths_client_is_sent_the_same_tree(self):
        class Recorder(Client):
            def __init__(self) -> None:
                super().__init__(
                    api_url="http://localhost:1", api_key="none", auto_batch_tracing=False
                )
                self.sent: dict[str, Any] = {}

            def create_run(self, name: str, *args: Any, **kwargs: Any) -> None:
                self.sent[str(kwargs["id"])] = {"name": name, "parent": kwargs.get("parent_run_id")}

            def update_run(self, *args: Any, **kwargs: Any) -> None:
                pass

        client = Recorder()
        graph = create_tpo_graph(ScriptedChatModel(), prefer_longer)
        tracer = LangChainTracer(client=client)
        graph.invoke(QUERY, {"callbacks": [tracer]}, context=CONTEXT)
        tracer.wait_for_futures()
        paths = []
        for run in client.sent.values():
            above = client.sent.get(str(run["parent"]))
            paths.append(f"{above['name']}/{run['name']}" if above else run["name"])
        assert {"tpo", *(f"tpo/{step}" for step in ONCE), "loss/loss"} <= set(paths)


class TestLogs:
    def test_each_step_is_one_line_with_the_runs_id(self, caplog: pytest.LogCaptureFixture):
        caplog.set_level(logging.INFO, logger="tpo_graph")
        result = optimize("Hi", model=ScriptedChatModel(), reward_model=prefer_longer, **CONTEXT)
        records = [r for r in caplog.records if r.name == "tpo_graph"]
        assert [r.step for r in records] == ONCE  # type: ignore[attr-defined]
        assert {r.run_id for r in records} == {result.run_id}  # type: ignore[attr-defined]
        assert records[0].getMessage() == f"run {result.run_id}, iteration 0, sample: 2 responses"
        assert records[-1].getMessage().endswith("stop: depth")
        assert not any("Answer" in r.getMessage() for r in records)

    def test_nothing_is_said_unless_logging_is_configured(self):
        code = (
            "from tpo_graph import optimize; from tpo_graph.testing import *; "
            "optimize('Hi', model=ScriptedChatModel(), reward_model=prefer_longer, depth=1)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
