"""One run as reports and live pages show it: its samples with what changed, the critic's words.

Values only; `trajectory.html` turns them into a page.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from statistics import fmean
from typing import Any, Literal

from tpo_graph.cache import Step
from tpo_graph.candidates import Candidate, best, place
from tpo_graph.conversation import Turn
from tpo_graph.report.diff import Piece, compare
from tpo_graph.report.figures import Table
from tpo_graph.report.wording import number
from tpo_graph.store.labels import Label
from tpo_graph.store.runs import StoredRun, settings_of
from tpo_graph.store.trajectory import ScoredCandidate, Trajectory
from tpo_graph.store.trajectory import answer as answer_of


@dataclass(frozen=True)
class Sample:
    """One candidate."""

    count: int
    """Among the samples of its iteration, from 1, as wherever a person reads it."""
    reward: float
    roles: list[str]
    """"chosen", "rejected" or both, by the iteration that it belongs to or a later one."""
    top: bool
    """The best of its iteration."""
    pieces: list[Piece]
    """Its text, against the response that it revises."""
    reason: str
    """What the reward model said about it."""


@dataclass(frozen=True)
class Compared:
    """One side of the pair that an iteration compared."""

    role: Literal["chosen", "rejected"]
    reward: float
    place: str
    response: str | None
    """None where it is the one of the iteration before."""


@dataclass(frozen=True)
class Iteration:
    """The samples of an iteration, the pair that was compared then, and the critic's words."""

    iteration: int
    revises: bool
    """Whether the samples are shown against the response that they revise."""
    samples: list[Sample]
    pair: list[Compared]
    loss: str
    gradient: str


@dataclass(frozen=True)
class Curve:
    """Places in a drawing of 384 by 160."""

    lines: list[str]
    """Of the best so far, one per run."""
    dots: list[dict[str, Any]]
    ticks: list[dict[str, Any]]
    iterations: list[dict[str, Any]]
    words: str
    """What a screen reader says."""


@dataclass(frozen=True)
class Answer:
    """The answer, or the best response so far, against the best first sample."""

    title: str
    note: str
    pieces: list[Piece]

    @property
    def text(self) -> str:
        """As the user would read it."""
        return "".join(piece.text for piece in self.pieces if piece.kind != "removed")


@dataclass(frozen=True)
class Shown:
    """A run without what only a live page knows of it."""

    prefix: str
    """Begins the ids of its samples on the page."""
    turns: Sequence[Turn]
    """The conversation that was answered."""
    error: str
    answer: Answer | None
    """None where nothing was scored."""
    curve: Curve | None
    rewards: Table
    iterations: list[Iteration]
    facts: list[tuple[str, str]]
    """Name and value."""
    label: Label | None = None
    """What a person said of the answer."""

    @property
    def query(self) -> str:
        """What was asked last."""
        return self.turns[-1]["content"]


def shown(found: Trajectory, prefix: str = "sample") -> Shown:
    """What there is to show of a stored run."""
    run, candidates, steps = found["run"], found["candidates"], found["steps"]
    return Shown(
        prefix=prefix,
        turns=run["conversation"],
        error=run["error"] or "",
        answer=_answer(found) if candidates else None,
        curve=curve([("", prefix, candidates, steps)]) if candidates else None,
        rewards=_rewards(candidates),
        iterations=_iterations(candidates, steps),
        facts=facts(run),
        label=found.get("label"),
    )


def changes(before: Candidate, after: Candidate) -> tuple[str, list[Piece]]:
    """What changed from one response to another: in a few words, and word by word."""
    pieces = compare(before["response"], after["response"])
    added, removed = (
        sum(len(piece.text.split()) for piece in pieces if piece.kind == kind)
        for kind in ("added", "removed")
    )
    return f"{added:,} words added, {removed:,} removed", pieces


def _answer(found: Trajectory) -> Answer:
    last = answer_of(found)
    firsts = [candidate for candidate in found["candidates"] if candidate["iteration"] == 0]
    title = "Answer" if found["run"]["status"] == "finished" else "Best response so far"
    if not firsts or last["response"] == best(firsts)["response"]:
        same = "This is the best first sample, unchanged."
        note = same if firsts else "Earlier texts were pruned."
        return Answer(title, note, [Piece("same", last["response"])])
    first = best(firsts)
    said, pieces = changes(first, last)
    note = (
        f"From the best first sample (reward {number(first['reward'])}) to "
        f"{place(last)} (reward {number(last['reward'])}): {said}."
    )
    return Answer(title, note, pieces)


def _rewards(candidates: Sequence[ScoredCandidate]) -> Table:
    rows: list[list[str]] = []
    highest = float("-inf")
    others = sorted({name for c in candidates for name in c["other_rewards"]})
    for iteration in sorted({candidate["iteration"] for candidate in candidates}):
        here = [c for c in candidates if c["iteration"] == iteration]
        rewards = sorted((c["reward"] for c in here), reverse=True)
        highest = max(highest, rewards[0])
        rows.append(
            [
                *(str(iteration), number(highest), number(fmean(rewards))),
                *(_mean_of(here, name) for name in others),
                f"{fmean(len(c['response']) for c in here):,.0f}",
                ", ".join(map(number, rewards)),
            ]
        )
    columns = ["iteration", "best so far", "mean", *(f"mean by {name}" for name in others)]
    return Table([*columns, "mean characters", "all samples, best first"], rows)


def _mean_of(candidates: Sequence[ScoredCandidate], model: str) -> str:
    rewards = [c["other_rewards"][model] for c in candidates if model in c["other_rewards"]]
    return number(fmean(rewards) if rewards else None)


def _key(candidate: Candidate) -> tuple[int, int]:
    return candidate["iteration"], candidate["position"]


def _roles(steps: Sequence[Step]) -> dict[tuple[int, int], list[str]]:
    found: dict[tuple[int, int], list[str]] = {}
    for step in steps:
        for role in ("chosen", "rejected"):
            if (candidate := step.get(role)) is not None:
                words = found.setdefault(_key(candidate), [])
                if role not in words:
                    words.append(role)
    return found


def _iterations(candidates: Sequence[ScoredCandidate], steps: Sequence[Step]) -> list[Iteration]:
    roles, by_number = _roles(steps), {step["iteration"]: step for step in steps}
    found: list[Iteration] = []
    for iteration in sorted({each["iteration"] for each in candidates} | set(by_number)):
        here = [each for each in candidates if each["iteration"] == iteration]
        step, before = by_number.get(iteration), by_number.get(iteration - 1)
        parent = before.get("chosen") if before is not None else None
        highest = max((each["reward"] for each in here), default=None)
        samples = [
            Sample(
                count=each["position"] + 1,
                reward=each["reward"],
                roles=roles.get(_key(each), []),
                top=each["reward"] == highest,
                pieces=[Piece("same", each["response"])]
                if parent is None
                else compare(parent["response"], each["response"]),
                reason=each.get("reason", ""),
            )
            for each in sorted(here, key=lambda each: -each["reward"])
        ]
        found.append(
            Iteration(
                iteration=iteration,
                revises=parent is not None,
                samples=samples,
                pair=[] if step is None else _pair(step, before),
                loss=step.get("loss", "") if step else "",
                gradient=step.get("gradient", "") if step else "",
            )
        )
    return found


def _pair(step: Step, before: Step | None) -> list[Compared]:
    pair: list[Compared] = []
    for role in ("chosen", "rejected"):
        if (candidate := step.get(role)) is not None:
            same = before is not None and before.get(role) == candidate
            response = None if same else candidate["response"]
            pair.append(Compared(role, candidate["reward"], place(candidate), response))
    return pair


def curve(
    runs: Sequence[tuple[str, str, Sequence[ScoredCandidate], Sequence[Step]]],
) -> Curve:
    """Every sample as a dot over its iteration, and the best so far as a line; several runs in one.

    Args:
        runs: (name, what the ids begin with that its dots lead to, candidates, steps) each; at
            least one has a candidate.
    """
    everything = [each for _, _, candidates, _ in runs for each in candidates]
    rewards = [each["reward"] for each in everything]
    low, high = min(rewards), max(rewards)
    span = (high - low) or 1.0
    numbers = sorted({each["iteration"] for each in everything})
    step = 312 / max(1, len(numbers) - 1)
    across = {iteration: round(56 + step * place, 1) for place, iteration in enumerate(numbers)}

    def down(reward: float) -> float:
        return round(132 - 120 * (reward - low) / span, 1)

    lines: list[str] = []
    dots: list[dict[str, Any]] = []
    words: list[str] = []
    for name, prefix, candidates, steps in runs:
        here = sorted({each["iteration"] for each in candidates})
        tops = [max(e["reward"] for e in candidates if e["iteration"] == each) for each in here]
        line = zip(here, accumulate(tops, max), strict=True)
        lines.append(" ".join(f"{across[each]},{down(reward)}" for each, reward in line))
        words += [
            f"{name} iteration {each}: best {number(top)}".strip()
            for each, top in zip(here, tops, strict=True)
        ]
        roles = _roles(steps)
        dots += [
            {
                "x": across[each["iteration"]],
                "y": down(each["reward"]),
                "kind": (roles.get(_key(each)) or [""])[0],
                "text": f"{name} {place(each)}: {number(each['reward'])}".strip(),
                "id": f"{prefix}-{each['iteration']}-{each['position'] + 1}",
                "run": len(lines),
            }
            for each in candidates
        ]
    return Curve(
        lines=lines,
        dots=dots,
        ticks=[{"y": down(value), "text": _tick(value)} for value in sorted({low, high})],
        iterations=[{"x": across[each], "text": str(each)} for each in numbers],
        words="; ".join(words) + ".",
    )


def _tick(value: float) -> str:
    """A reward in the few characters that there is room for beside the chart."""
    return f"{value:.0f}" if 1_000 <= abs(value) < 1_000_000 else f"{value:.3g}"


def facts(run: StoredRun) -> list[tuple[str, str]]:
    """What a run was told: models, prompts and settings."""
    settings = settings_of(run["settings"])
    names = ("temperature", "top_p", "max_tokens", "criteria", "target_reward", "patience")
    chosen = [f"{name} {settings[name]}" for name in names if settings.get(name) is not None]
    found = [
        ("run", run["run_id"]),
        ("status", run["stop_reason"] or run["status"]),
        ("setting", f"D{settings.get('depth')}-N{settings.get('width')}"),
        ("sampling", ", ".join(chosen)),
        ("seed", "" if settings.get("seed") is None else str(settings["seed"])),
        ("policy", run["policy"]),
        ("critic", run["critic"] if run["critic"] != run["policy"] else ""),
        ("reward model", run["reward_model"]),
        ("prompts", run["prompts"]),
        ("started", f"{run['created_at']:%Y-%m-%d %H:%M:%S} UTC"),
    ]
    return [(name, value) for name, value in found if value]
