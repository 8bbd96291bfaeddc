"""How a run shows in traces, in metrics and in logs (logger "tpo_graph").

Traces of LangChain (LangSmith and its like): the six nodes carry their names, and the model calls
beneath them the metadata made here. OpenTelemetry: a span per run and per step, and metrics, where
`opentelemetry-api` is installed and the program has set up its SDK. Logs: one INFO line per
finished step, which nobody sees unless logging is configured. None of them holds texts: those are
in the state, and in the cache.
"""

import logging
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from functools import cache
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


class _Instruments:
    """OpenTelemetry's tracer and meters; they do nothing until a program sets up the SDK."""

    def __init__(self) -> None:
        from opentelemetry import metrics, trace

        self.tracer = trace.get_tracer("tpo_graph")
        meter = metrics.get_meter("tpo_graph")
        self.in_flight = meter.create_up_down_counter(
            "tpo.runs.in_flight", "{run}", "Runs being worked on in this process."
        )
        self.steps = meter.create_up_down_counter(
            "tpo.steps.in_flight", "{step}", "Steps being worked on, by step."
        )
        self.runs = meter.create_counter("tpo.runs", "{run}", "Runs that ended, by stop reason.")
        self.tokens = meter.create_counter(
            "tpo.tokens", "{token}", "Tokens of runs that ended, by stage and type."
        )
        self.reward = meter.create_histogram("tpo.reward", "1", "Reward of the answer.")
        self.gain = meter.create_histogram(
            "tpo.gain", "1", "Reward of the answer minus that of the best first sample."
        )
        self.seconds = meter.create_histogram("tpo.model_time", "s", "Time a run's calls took.")


@cache
def _instruments() -> _Instruments | None:
    try:
        return _Instruments()
    except ImportError:
        return None


@contextmanager
def run_span(run_id: str, settings: Mapping[str, Any]) -> Generator[None]:
    """A span around a run, or what is left of it; its steps stand beneath it."""
    tell = _instruments()
    if tell is None:
        yield
        return
    about = {f"tpo.{name}": settings[name] for name in ("depth", "width")} | {"tpo.run_id": run_id}
    tell.in_flight.add(1)
    try:
        with tell.tracer.start_as_current_span("tpo run", attributes=about):
            yield
    finally:
        tell.in_flight.add(-1)


@contextmanager
def step_span(step: str) -> Generator[dict[str, Any]]:
    """A span around a step; the state after it belongs into what this gives."""
    after: dict[str, Any] = {}
    tell = _instruments()
    if tell is None:
        yield after
        return
    tell.steps.add(1, {"tpo.step": step})
    try:
        with tell.tracer.start_as_current_span(f"tpo {step}") as span:
            yield after
            if after and span.is_recording():
                span.set_attributes({"tpo.run_id": after["run_id"], "tpo.step": step})
                span.set_attribute("tpo.iteration", after["iteration"])
                found = _numbers(step, after)  # pyright: ignore[reportArgumentType]
                numbers = {f"tpo.{n}": v for n, v in found.items() if v is not None}
                span.set_attributes(numbers)
    finally:
        tell.steps.add(-1, {"tpo.step": step})


def count_run(state: TPOState, reward: float) -> None:
    """Count a run that ends with this state, and what it took."""
    tell = _instruments()
    if tell is None:
        return
    tell.runs.add(1, {"tpo.stop_reason": str(state["stop_reason"])})
    for stage, usage in state["usage"].items():
        about = {"tpo.step": stage}
        tell.tokens.add(usage["prompt_tokens"], {**about, "gen_ai.token.type": "input"})
        tell.tokens.add(usage["completion_tokens"], {**about, "gen_ai.token.type": "output"})
    tell.reward.record(reward)
    tell.gain.record(reward - state["history"][0]["best_so_far"])
    tell.seconds.record(sum(usage["seconds"] for usage in state["usage"].values()))
