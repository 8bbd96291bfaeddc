"""How stored runs look on standard output: the list, the trajectory, rewards of several models."""

from textwrap import indent

from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from tpo_graph.cache import Step, UnusableReply
from tpo_graph.candidates import place
from tpo_graph.cli.display import Console, for_tables
from tpo_graph.store.runs import RunSummary
from tpo_graph.store.trajectory import ScoredCandidate, Trajectory

_SHORT = 400
"""Characters of a text that is shown without --full."""
_BEFORE_QUERY = 82
"""Columns of a terminal that the list needs for a run's id, time, status and reward."""


def _state(status: str, stop_reason: str | None) -> str:
    return status if stop_reason in (None, status) else f"{status} ({stop_reason})"


def print_runs(runs: list[RunSummary]) -> None:
    """A table, a line per run; `--json` has the rest."""
    console = for_tables()
    table = Table("run", "started (UTC)", "status", box=None, pad_edge=False)
    table.add_column("reward", justify="right")
    table.add_column("query")
    room = max(8, console.width - _BEFORE_QUERY)
    for run in runs:
        reward = run["best_reward"]
        table.add_row(
            run["run_id"],
            f"{run['created_at']:%m-%d %H:%M}",
            _state(run["status"], run["stop_reason"]),
            "-" if reward is None else f"{reward:.3f}",
            Text(" ".join(run["conversation"][-1]["content"].split())[:room]),
        )
    console.print(table)


def print_stored_run(trajectory: Trajectory, *, iteration: int | None, full: bool) -> None:
    """The query, then per iteration the pair, loss, gradient and samples, then what it cost."""
    console = for_tables()
    run = trajectory["run"]
    state = _state(run["status"], run["stop_reason"])
    console.print(Text(f"run {run['run_id']}  {state}", "bold"))
    if run["error"]:
        console.print(Text(run["error"], "red"), soft_wrap=True)
    models = Text(f"policy {run['policy']}, reward model {run['reward_model']}")
    console.print(models, soft_wrap=True)
    for turn in run["conversation"]:
        _text(console, turn["role"], turn["content"], full)
    steps = {step["iteration"]: step for step in trajectory["steps"]}
    numbers = [each["iteration"] for each in (*trajectory["candidates"], *trajectory["unusable"])]
    for number in sorted(set(numbers)):
        if iteration in (None, number):
            samples = [c for c in trajectory["candidates"] if c["iteration"] == number]
            _iteration(console, number, samples, steps.get(number), full)
            unusable = [u for u in trajectory["unusable"] if u["iteration"] == number]
            _unusable(console, unusable, full)
    if iteration is None:
        _usage(console, trajectory)


def _iteration(
    console: Console, number: int, samples: list[ScoredCandidate], step: Step | None, full: bool
) -> None:
    title = f"iteration {number}" if number >= 0 else "sampled again: an earlier attempt"
    _heading(console, title)
    for candidate in samples:
        reward = f"sample {candidate['position'] + 1}  reward {candidate['reward']:.3f}"
        if candidate.get("finish_reason") == "length":
            reward += "  cut by the token limit"
        _line(console, reward, candidate["response"], full)
        if full and (reason := candidate.get("reason")):
            _text(console, "the reward model said", reason, full)
    for role in ("chosen", "rejected"):
        if step is not None and (candidate := step.get(role)) is not None:
            title = f"{role}  reward {candidate['reward']:.3f}  ({place(candidate)})"
            _text(console, title, candidate["response"], full)
    for part in ("loss", "gradient"):
        if step is not None and (text := step.get(part)):
            _text(console, part, text, full)


def _unusable(console: Console, replies: list[UnusableReply], full: bool) -> None:
    for reply in replies:
        title = f"unusable reply to {reply['stage']}: {reply['why']}"
        _line(console, title, reply["text"], full)


def _line(console: Console, title: str, text: str, full: bool) -> None:
    if full:
        _text(console, title, text, full)
    else:
        line = " ".join(text.split())[:60]
        console.print(Text(f"{title}  {line}", no_wrap=True, overflow="ellipsis"))


def _text(console: Console, title: str, text: str, full: bool) -> None:
    if not full and len(text) > _SHORT:
        text = f"{text[:_SHORT]}… ({len(text)} characters; --full shows all)"
    console.print(Text(title, style="bold"), soft_wrap=True)
    # As Text, never as markup: model output may contain anything.
    if console.is_terminal:
        console.print(Padding(Text(text), (0, 0, 0, 2)))
    else:  # a break in the middle of a sentence would hide it from a grep
        console.print(Text(indent(text, "  ")), soft_wrap=True)


def _heading(console: Console, title: str) -> None:
    if console.is_terminal:
        console.rule(title, align="left")
    else:
        console.print(Text(f"── {title} ──"))


def _usage(console: Console, trajectory: Trajectory) -> None:
    table = Table("stage", box=None, pad_edge=False)
    for title in ("requests", "prompt", "cached", "completion", "score cache hits", "seconds"):
        table.add_column(title, justify="right")
    for stage, usage in trajectory["usage"].items():
        table.add_row(
            stage,
            str(usage["requests"]),
            str(usage["prompt_tokens"]),
            str(usage["cached_tokens"]),
            str(usage["completion_tokens"]),
            str(usage["score_cache_hits"]),
            f"{usage['seconds']:.1f}",
        )
    _heading(console, "usage")
    console.print(table)


def print_rewards(trajectory: Trajectory) -> None:
    """The rewards of every candidate, a column per reward model."""
    candidates = trajectory["candidates"]
    own = trajectory["run"]["reward_model"]
    others = sorted({name for c in candidates for name in c["other_rewards"]})
    table = Table("iteration", "sample", box=None, pad_edge=False)
    for name in (own, *others):
        table.add_column(name, justify="right", overflow="fold")
    for candidate in candidates:
        rewards = [candidate["reward"], *(candidate["other_rewards"].get(n) for n in others)]
        table.add_row(
            str(candidate["iteration"]),
            str(candidate["position"] + 1),
            *("-" if reward is None else f"{reward:.3f}" for reward in rewards),
        )
    for_tables().print(table)
