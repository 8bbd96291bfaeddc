"""Test-Time Preference Optimization as a LangGraph state graph, with its cache in SQL."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tpo_graph.agents.chat_model import ChatTPO
    from tpo_graph.agents.middleware import TPOMiddleware
    from tpo_graph.agents.node import tpo_node
    from tpo_graph.batch.job import arun_batch, run_batch
    from tpo_graph.batch.many import aoptimize_many, optimize_many
    from tpo_graph.batch.output import awrite_output, write_output
    from tpo_graph.candidates import Candidate
    from tpo_graph.context import TPOContext
    from tpo_graph.frames import candidates_df, runs_df, steps_df, usage_df
    from tpo_graph.graph import create_tpo_graph
    from tpo_graph.report import awrite_report, write_report
    from tpo_graph.rewards import Score
    from tpo_graph.rewards.load import load_reward_model
    from tpo_graph.rows import make_rows, read_rows
    from tpo_graph.session.rescore import arescore, rescore
    from tpo_graph.session.result import TPOResult
    from tpo_graph.session.resume import aextend, aresume, extend, resume
    from tpo_graph.session.run import aoptimize, optimize
    from tpo_graph.store import Store, open_store

_HOMES = {
    "Candidate": "candidates",
    "ChatTPO": "agents.chat_model",
    "Score": "rewards",
    "Store": "store",
    "TPOContext": "context",
    "TPOMiddleware": "agents.middleware",
    "TPOResult": "session.result",
    "aextend": "session.resume",
    "aoptimize": "session.run",
    "aoptimize_many": "batch.many",
    "arescore": "session.rescore",
    "aresume": "session.resume",
    "arun_batch": "batch.job",
    "awrite_output": "batch.output",
    "awrite_report": "report",
    "candidates_df": "frames",
    "create_tpo_graph": "graph",
    "extend": "session.resume",
    "load_reward_model": "rewards.load",
    "make_rows": "rows",
    "open_store": "store",
    "optimize": "session.run",
    "optimize_many": "batch.many",
    "read_rows": "rows",
    "rescore": "session.rescore",
    "resume": "session.resume",
    "run_batch": "batch.job",
    "runs_df": "frames",
    "steps_df": "frames",
    "tpo_node": "agents.node",
    "usage_df": "frames",
    "write_output": "batch.output",
    "write_report": "report",
}

__all__ = [
    "Candidate",
    "ChatTPO",
    "Score",
    "Store",
    "TPOContext",
    "TPOMiddleware",
    "TPOResult",
    "aextend",
    "aoptimize",
    "aoptimize_many",
    "arescore",
    "aresume",
    "arun_batch",
    "awrite_output",
    "awrite_report",
    "candidates_df",
    "create_tpo_graph",
    "extend",
    "load_reward_model",
    "make_rows",
    "open_store",
    "optimize",
    "optimize_many",
    "read_rows",
    "rescore",
    "resume",
    "run_batch",
    "runs_df",
    "steps_df",
    "tpo_node",
    "usage_df",
    "write_output",
    "write_report",
]


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("tpo-graph")
    # Loaded when first used: `tpo --help` and `tpo_graph.errors` need no LangGraph.
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(f"tpo_graph.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
