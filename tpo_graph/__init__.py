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

_EXPORTS = {
    "agents.chat_model": ("ChatTPO",),
    "agents.middleware": ("TPOMiddleware",),
    "agents.node": ("tpo_node",),
    "batch.job": ("arun_batch", "run_batch"),
    "batch.many": ("aoptimize_many", "optimize_many"),
    "batch.output": ("awrite_output", "write_output"),
    "candidates": ("Candidate",),
    "context": ("TPOContext",),
    "frames": ("candidates_df", "runs_df", "steps_df", "usage_df"),
    "graph": ("create_tpo_graph",),
    "report": ("awrite_report", "write_report"),
    "rewards": ("Score",),
    "rewards.load": ("load_reward_model",),
    "rows": ("make_rows", "read_rows"),
    "session.rescore": ("arescore", "rescore"),
    "session.result": ("TPOResult",),
    "session.resume": ("aextend", "aresume", "extend", "resume"),
    "session.run": ("aoptimize", "optimize"),
    "store": ("Store", "open_store"),
}
_HOMES = {name: home for home, names in _EXPORTS.items() for name in names}

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
