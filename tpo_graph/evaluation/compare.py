"""Methods compared at equal budgets: the same prompts, policy, reward model and seeds for all.

A loop (TPO, revision, prompts of your own) and best-of-N with the N that costs as much. What is
returned is written to `comparison.json` by `results.dump`.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import combinations

from tpo_graph.concurrency.callbacks import need_callable, settled
from tpo_graph.errors import ConfigurationError
from tpo_graph.evaluation.auditing import Audit, audit_answers
from tpo_graph.evaluation.bench import Bench
from tpo_graph.evaluation.finished import WHOLE, Arm, View
from tpo_graph.evaluation.judging import Judge, Outcome
from tpo_graph.evaluation.methods import DEFAULT, BestOf, Loop, best_of, equal_n, parse_methods
from tpo_graph.evaluation.results import Budget, Comparison, Kind
from tpo_graph.evaluation.statistics import holm
from tpo_graph.evaluation.summaries import (
    failures,
    method_result,
    pair,
    same_beginnings,
    shared_width,
    stuck,
)
from tpo_graph.rewards import RewardModel

_MANY = 6
"""Methods beyond which only the first is compared with all others."""
_FEW = 20
"""Fewer prompts than this do not show how much prompts differ."""

OnVerdict = Callable[[Outcome, int], Awaitable[None] | None]
"""Called with each verdict of the judge, and how many there will be; awaited if it is async."""


async def compare(
    bench: Bench,
    methods: Sequence[str | Loop] = DEFAULT,
    *,
    budget: Budget = "samples",
    judge: Judge | None = None,
    audit: RewardModel | None = None,
    on_verdict: OnVerdict | None = None,
) -> Comparison:
    """Run every method, or resume it, and compare the answers.

    Args:
        bench: what the methods share.
        methods: see `parse_methods`. The first is compared with each other one by the judge.
        budget: in what "best-of-n" equals the first loop: responses drawn, tokens (measured on the
            loop's own finished runs), or FLOPs by the paper's accounting.
        judge: compares answers in both orders.
        audit: a held-out reward model that scores all answers.
        on_verdict: see `OnVerdict`.

    Raises:
        ConfigurationError: a wrong method or setting, or no tokens to go by.
        TPOError: a method could not answer one row; a model or the database failed.
        GraphDrained: the bench's `control` asked for a stop; the same call resumes.
    """
    need_callable("on_verdict", on_verdict, "outcome, count")
    wanted = _wanted(bench, methods)
    loops = [method for method in wanted if isinstance(method, Loop)]
    check_audit(bench, audit)
    found = {loop.name: (await run_loop(bench, loop))[0] for loop in loops}

    def equal(arm: Arm) -> int:
        return equal_n(budget, bench.width, arm.method.depth, arm.runs)

    each = any(isinstance(method, BestOf) and method.each for method in wanted)
    own = {arm.method.name: equal(arm) for arm in found.values()} if each else {}
    arms: dict[str, Arm] = {}
    for method in wanted:
        if isinstance(method, Loop):
            arms[method.name] = found[method.name]
        elif not method.each:
            n = method.n if method.n is not None else equal(found[loops[0].name])
            await _add_best_of(bench, arms, [n])
    await _add_best_of(bench, arms, [size for n in own.values() for size in (n, 2 * n)])
    pairs = _pairs(arms, own) if len(arms) > _MANY or each else None
    result = await compared(
        "compare",
        bench,
        list(arms.values()),
        pairs=pairs,
        judge=judge,
        audit=audit,
        on_verdict=on_verdict,
    )
    return replace(result, budget=budget if each or BestOf(None) in wanted else None)


def _wanted(bench: Bench, methods: Sequence[str | Loop]) -> list[Loop | BestOf]:
    wanted = parse_methods(methods, bench.setup.prompts)
    loops = [method for method in wanted if isinstance(method, Loop)]
    if loops and bench.depth == 0:
        raise ConfigurationError(
            "depth=0 is best-of-N itself: give a depth of 1 or more, or leave "
            f"{loops[0].name!r} out"
        )
    if not loops and BestOf(None) in wanted:
        raise ConfigurationError(
            "best-of-n takes its budget from a loop: compare it with one, such as tpo, or give a "
            "number, such as best-of-15"
        )
    return wanted


def _pairs(arms: dict[str, Arm], own: dict[str, int]) -> list[tuple[Arm, Arm]]:
    """The first against each other arm, and every loop against the best-of-N of its own cost and of
    twice that: all against all would be hundreds."""
    first, *others = arms.values()
    pairs = [(first, other) for other in others]
    for name, n in own.items():
        best = [arms[f"best-of-{size}"] for size in (n, 2 * n)]
        pairs += [(arms[name], one) for one in best if (arms[name], one) not in pairs]
    return pairs


async def _add_best_of(bench: Bench, arms: dict[str, Arm], sizes: Sequence[int]) -> None:
    """Best-of-N of these sizes, where they are not there."""
    missing = sorted({n for n in sizes if f"best-of-{n}" not in arms}, reverse=True)
    if missing:
        arms |= {arm.method.name: arm for arm in await run_best_of(bench, missing)}


async def run_best_of(bench: Bench, sizes: Sequence[int]) -> list[Arm]:
    """Best-of-N of these sizes: the largest is run, the others are the first of its samples."""
    policy, largest = bench.names["policy"], max(sizes)
    whole = best_of(largest, policy)
    read = await bench.run(whole, views=[View(width=n) for n in sizes])
    return [
        arm if n == largest else replace(arm, method=best_of(n, policy, whole.name))
        for n, arm in zip(sizes, read, strict=True)
    ]


async def run_loop(bench: Bench, loop: Loop, views: Sequence[View] = (WHOLE,)) -> list[Arm]:
    """The loop at the bench's width and depth, once for each view."""
    method = loop.method(bench.width, bench.depth, bench.names["policy"])
    return await bench.run(method, loop.prompts, views=views, critic=loop.critic)


async def compared(
    kind: Kind,
    bench: Bench,
    arms: Sequence[Arm],
    *,
    pairs: Sequence[tuple[Arm, Arm]] | None = None,
    judge: Judge | None = None,
    audit: RewardModel | None = None,
    on_verdict: OnVerdict | None = None,
) -> Comparison:
    """A comparison of finished arms: each one's numbers, the pairs (all of them unless told
    otherwise), the judge for the first's."""
    shared = shared_width(arms)
    audited = None
    if audit is not None:
        runs = [run for arm in arms for run in arm.runs]
        audited = await audit_answers(audit, runs, bench.conversations, bench.store)
    reference = arms[0]

    async def report(outcome: Outcome) -> None:
        if on_verdict is not None:
            await settled(on_verdict(outcome, len(reference.runs) * (len(arms) - 1)))

    chosen = list(combinations(arms, 2)) if pairs is None else pairs
    made = [
        await pair(
            one,
            other,
            bench,
            audit=audited,
            judge=judge if one is reference else None,
            on_outcome=report,
            comparisons=len(chosen),
        )
        for one, other in chosen
    ]
    corrected = holm([each.p for each in made])
    made = [replace(each, p_corrected=p) for each, p in zip(made, corrected, strict=True)]
    return Comparison(
        kind=kind,
        name=bench.name,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        database=bench.store.url,
        source=bench.source,
        prompts=len(bench.rows),
        bad_rows=bench.bad_rows,
        seeds=list(bench.seeds),
        model=bench.names["policy"],
        critic=bench.names["critic"],
        reward_model=bench.names["reward_model"],
        methods=[method_result(arm, bench, shared, audited) for arm in arms],
        pairs=made,
        audit_reward_model=None if audited is None else audited.name,
        judge=None if judge is None else judge.name,
        currency=bench.costs.currency,
        notes=_notes(bench, arms, audited),
    )


def _notes(bench: Bench, arms: Sequence[Arm], audited: Audit | None) -> list[str]:
    """What a reader of the numbers must know."""
    alike = same_beginnings(arms[0], arms[1:])
    notes = [*bench.notes, *failures(arms), *stuck(arms), *alike]
    if len(bench.rows) < _FEW:
        notes.append(
            f"{len(bench.rows)} prompts say little, and their intervals hold only where prompts "
            f"are alike: take at least {_FEW}, better hundreds."
        )
    if audited is not None and audited.failed:
        notes.append(
            f"{audited.name} cannot score the answers to {audited.failed} prompts; the first: "
            f"{audited.error}"
        )
    return notes


def check_audit(bench: Bench, audit: RewardModel | None) -> None:
    """Refuse an audit by the reward model that is optimised.

    Raises:
        ConfigurationError: it is that one.
    """
    if audit is not None and audit.name == bench.names["reward_model"]:
        raise ConfigurationError(
            f"the audit's reward model {audit.name!r} is the one that is optimised: it must be "
            "another, of another lineage"
        )


def told_apart(comparison: Comparison) -> list[str]:
    """What the pairs' p values are worth, in sentences: how many there are, and how many prompts
    it would take where the rewards of two methods cannot be told apart."""
    if not comparison.pairs:
        return []
    count = len(comparison.pairs)
    said = [
        f"{count} difference{'s' * (count > 1)} in reward, Student's t over prompts; p (Holm) is "
        "corrected for their number: below 0.05 the two can be told apart."
    ]
    for one in comparison.pairs:
        if (one.p_corrected or 0) < 0.05 or one.prompts_needed is None or one.reward is None:
            continue
        names = [comparison.result(name).method.label for name in (one.first, one.second)]
        said.append(
            f"{' and '.join(names)} cannot be told apart by {one.prompts} prompts: a difference "
            f"of {one.reward.value:+.3f} would need about {one.prompts_needed:,}."
        )
    return said
