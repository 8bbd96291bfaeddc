"""How a run shows in traces (LangSmith and its like) and in logs (logger "tpo_graph").

Traces: the six nodes carry their names, and the model calls beneath them the metadata made here.
Logs: one INFO line per finished step, which nobody sees unless logging is configured. Neither
holds texts: those are in the state, and in the cache.
"""

import logging
from typing import Any

from tpo_graph.state import TPOState

logger = logging.getLogger("tpo_graph")


def call_metadata(run_id: str, iteration: int, stage: str) -> dict[str, Any]:
    """Metadata of one model call: the run in the cache, the iteration it works for, the node."""
    return {"tpo_run_id": run_id, "tpo_iteration": iteration, "tpo_stage": stage}


def log_step(step: str, state: TPOState) -> None:
    """One line about a finished step, from the state after it.

    The record has attributes for structured logs: `run_id`, `iteration`, `step`, and those of the
    step: `responses`; `rewards`; `best_reward` and `stop_reason`; or `characters`.
    """
    if not logger.isEnabledFor(logging.INFO):
        return
    about = {"run_id": state["run_id"], "iteration": state["iteration"], "step": step}
    fields = {**about, **_numbers(step, state)}
    outcome = _outcome(step, state)
    logger.info("run %s, iteration %d, %s: %s", *about.values(), outcome, extra=fields)


def _numbers(step: str, state: TPOState) -> dict[str, Any]:
    if step in ("sample", "update"):
        return {"responses": len(state["samples"])}
    if step == "reward_score":
        return {"rewards": list(state["rewards"])}
    if step == "select":
        best = state["chosen"] and state["chosen"]["reward"]
        return {"best_reward": best, "stop_reason": state["stop_reason"]}
    return {"characters": len(state["loss" if step == "loss" else "gradient"])}


def _outcome(step: str, state: TPOState) -> str:
    if (failure := state.get("failure")) is not None and step == failure["step"]:
        return f"failed: {failure['error']}"
    if step in ("sample", "update"):
        return f"{len(state['samples'])} responses"
    if step == "reward_score":
        rewards = state["rewards"]
        return f"rewards {min(rewards):.4g} to {max(rewards):.4g}" if rewards else "no responses"
    if step == "select":
        best = f"best {state['chosen']['reward']:.4g}" if state["chosen"] else "nothing to choose"
        return f"{best}, stop: {state['stop_reason']}" if state["stop_reason"] else best
    return f"{len(state['loss' if step == 'loss' else 'gradient'])} characters"
