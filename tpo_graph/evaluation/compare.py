"""Methods compared at equal budgets: the same prompts, policy, reward model and seeds for all.

A loop (TPO, revision, prompts of your own) and best-of-N with the N that costs as much. What is
returned is written to `comparison.json` by `results.dump`.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import combinations

from tpo_graph.errors import ConfigurationError
from tpo_graph.evaluation.auditing import audit_answers
from tpo_graph.evaluation.bench import Bench
from tpo_graph.evaluation.judging import Judge, Outcome
from tpo_graph.evaluation.methods import DEFAULT, BestOf, Loop, best_of, equal_n, parse_methods
from tpo_graph.evaluation.results import Budget, Comparison, Kind
from tpo_graph.evaluation.summaries import (
    Arm,
    failures,
    method_result,
    pair,
    same_beginnings,
    shared_width,
    stuck,
)
from tpo_graph.rewards import RewardModel

_FEW = 20
"""Fewer prompts than this do not show how much prompts differ."""

OnVerdict = Callable[[Outcome, int], None]
"""Called with each verdict of the judge, and how many there will be."""


async def compare(
    bench: Bench,
    methods: Sequence[str] = DEFAULT,
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
    wanted = parse_methods(methods, bench.prompts)
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
    check_audit(bench, audit)
    found: dict[str, Arm] = {}
    for loop in loops:
        method = loop.method(bench.width, bench.depth, bench.names["policy"])
        found[loop.name] = Arm(method, (await bench.run(method, loop.prompts))[0])
    arms: list[Arm] = []
    for method in wanted:
        if isinstance(method, Loop):
            arms.append(found[method.name])
            continue
        n = method.n
        if n is None:
            n = equal_n(budget, bench.width, bench.depth, found[loops[0].name].runs)
        plain = best_of(n, bench.names["policy"])
        if plain.name in {arm.method.name for arm in arms}:
            continue
        arms.append(Arm(plain, (await bench.run(plain))[0]))
    result = await compared("compare", bench, arms, judge=judge, audit=audit, on_verdict=on_verdict)
    return replace(result, budget=budget if BestOf(None) in wanted else None)


async def compared(
    kind: Kind,
    bench: Bench,
    arms: Sequence[Arm],
    *,
    judge: Judge | None = None,
    audit: RewardModel | None = None,
    on_verdict: OnVerdict | None = None,
) -> Comparison:
    """A comparison of finished arms: each one's numbers, all pairs, the judge for the first's."""
    shared = shared_width(arms)
    audited = None
    if audit is not None:
        runs = [run for arm in arms for run in arm.runs]
        audited = await audit_answers(audit, runs, bench.conversations, bench.store)
    reference = arms[0]

    def report(outcome: Outcome) -> None:
        if on_verdict is not None:
            on_verdict(outcome, len(reference.runs) * (len(arms) - 1))

    pairs = [
        await pair(
            one,
            other,
            bench,
            audit=audited,
            judge=judge if one is reference else None,
            on_outcome=report,
        )
        for one, other in combinations(arms, 2)
    ]
    notes = [*bench.notes, *failures(arms), *stuck(arms), *same_beginnings(reference, arms[1:])]
    if len(bench.rows) < _FEW:
        notes.append(
            f"Intervals of {len(bench.rows)} prompts are too narrow: take at least {_FEW}, better "
            "hundreds."
        )
    if audited is not None and audited.failed:
        notes.append(
            f"{audited.name} cannot score the answers to {audited.failed} prompts; the first: "
            f"{audited.error}"
        )
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
        pairs=pairs,
        audit_reward_model=None if audited is None else audited.name,
        judge=None if judge is None else judge.name,
        currency=bench.costs.currency,
        notes=notes,
    )


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
