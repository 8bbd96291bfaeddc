"""Two runs side by side: what they were told and cost, their curves, and how the answers differ."""

from dataclasses import dataclass

from tpo_graph.costs import CostTable
from tpo_graph.report.diff import Piece
from tpo_graph.report.trajectory import Curve, changes, curve, facts
from tpo_graph.report.wording import number, whole
from tpo_graph.store.reading import Readable
from tpo_graph.store.trajectory import answer
from tpo_graph.usage import total_tokens
from tpo_graph.view.one_run import Watched, watched

NAMES = ("A", "B")


@dataclass(frozen=True)
class Pair:
    """Both runs, and what tells them apart."""

    runs: tuple[Watched, Watched]
    notes: list[str]
    """Why they should not be compared as they are."""
    rows: list[tuple[str, str, str, str]]
    """(what, of A, of B, B minus A)."""
    curve: Curve | None
    """None where the rewards share no axis."""
    said: str
    pieces: list[Piece]
    """From A's answer to B's; none where either has none."""


async def read_pair(store: Readable, first: str, second: str, costs: CostTable | None) -> Pair:
    """Two runs.

    Raises:
        RunNotFoundError: one of them is not stored.
    """
    runs = (
        await watched(store, first, costs, "a"),
        await watched(store, second, costs, "b"),
    )
    one, other = (run.found for run in runs)
    notes: list[str] = []
    if one["run"]["conversation_key"] != other["run"]["conversation_key"]:
        notes.append("These runs answered different queries.")
    same_model = one["run"]["reward_model"] == other["run"]["reward_model"]
    if not same_model:
        notes.append("Their rewards are of different reward models and share no scale.")
    drawn = [
        (name, name.lower(), found["candidates"], found["steps"])
        for name, found in zip(NAMES, (one, other), strict=True)
    ]
    both = bool(one["candidates"] and other["candidates"])
    said, pieces = changes(answer(one), answer(other)) if both else ("", [])
    if both and len(pieces) < 2:
        said = "Both runs gave the same answer"
    return Pair(
        runs=runs,
        notes=notes,
        rows=_rows(runs, with_rewards=same_model),
        curve=curve(drawn) if both and same_model else None,
        said=said,
        pieces=pieces,
    )


def _rows(runs: tuple[Watched, Watched], *, with_rewards: bool) -> list[tuple[str, str, str, str]]:
    rows: list[tuple[str, str, str, str]] = []
    for (what, one, remark), (_, other, other_remark) in zip(*(r.facts for r in runs), strict=True):
        if what in ("Setting", "Reward model"):  # among the settings below, in full
            continue
        if what == "Reward":
            one, other = f"{one} ({remark})", f"{other} ({other_remark})"
        rows.append((what, one, other, _difference(what, runs, with_rewards=with_rewards)))
    first, second = (len(run.found["candidates"]) for run in runs)
    rows.append(("Samples", str(first), str(second), whole(second - first, signed=True)))
    told = [dict(facts(run.found["run"])) for run in runs]
    names = dict.fromkeys([*told[0], *told[1]])
    for name in names:
        values = [each.get(name, "-") for each in told]
        differs = "" if name in ("run", "started") or values[0] == values[1] else "differs"
        rows.append((name.capitalize(), values[0], values[1], differs))
    return rows


def _difference(what: str, runs: tuple[Watched, Watched], *, with_rewards: bool) -> str:
    one, other = (run.found for run in runs)
    if what == "Tokens":
        tokens = [total_tokens(each["usage"]) for each in (one, other)]
        return whole(tokens[1] - tokens[0], signed=True)
    if what == "Reward" and with_rewards and one["candidates"] and other["candidates"]:
        return number(answer(other)["reward"] - answer(one)["reward"], signed=True)
    return ""
