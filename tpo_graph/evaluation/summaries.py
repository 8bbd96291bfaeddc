"""From finished runs to the rows of a comparison: one method's means, and two methods paired."""

from collections.abc import Callable, Iterable, Sequence
from statistics import fmean

from tpo_graph.costs import Role, bill, paper_flops
from tpo_graph.evaluation.auditing import Audit
from tpo_graph.evaluation.bench import Bench
from tpo_graph.evaluation.finished import Arm, Batch, Finished
from tpo_graph.evaluation.judging import Judge, OnOutcome, Question, by_score, win_rate
from tpo_graph.evaluation.results import (
    Answer,
    Cost,
    Estimate,
    MethodResult,
    Pair,
    Seed,
)
from tpo_graph.evaluation.statistics import by_prompt, mean_of, p_value, prompts_needed
from tpo_graph.usage import add_ledgers, no_usage


def shared_width(arms: Sequence[Arm]) -> int:
    """How many first samples every arm draws: the common yardstick for gains."""
    return min(arm.method.width for arm in arms)


def method_result(arm: Arm, bench: Bench, shared: int, audit: Audit | None) -> MethodResult:
    """One method over all prompts and seeds; gains are over the best of the `shared` first
    samples."""
    runs = arm.runs

    def mean(value: Callable[[Finished], float]) -> Estimate | None:
        return mean_of((run.row_id, value(run)) for run in runs)

    scored = [] if audit is None else [(run.row_id, audit.of(run)) for run in runs]
    return MethodResult(
        method=arm.method,
        finished=len(runs),
        failed=arm.failed,
        reward=mean(lambda run: run.reward),
        gain=mean(lambda run: run.reward - run.first(shared)),
        length=mean(lambda run: len(run.response)),
        tokens=mean(lambda run: run.tokens),
        cost=_cost(arm, bench),
        audit=mean_of((row_id, score) for row_id, score in scored if score is not None),
        seeds=[_seed(batch, shared) for batch in arm.batches],
        answers=[
            Answer(
                row_id=run.row_id,
                seed=run.seed,
                run_id=run.run_id,
                reward=run.reward,
                first=run.first(shared),
                length=len(run.response),
                tokens=run.tokens,
                audit=None if audit is None else audit.of(run),
            )
            for run in runs
        ],
    )


def _seed(batch: Batch, shared: int) -> Seed:
    runs = batch.finished

    def mean(value: Callable[[Finished], float]) -> float | None:
        return fmean(map(value, runs)) if runs else None

    return Seed(
        seed=batch.seed,
        batch=batch.name,
        finished=len(runs),
        failed=batch.failed,
        reward=mean(lambda run: run.reward),
        gain=mean(lambda run: run.reward - run.first(shared)),
        length=mean(lambda run: len(run.response)),
        tokens=mean(lambda run: run.tokens),
    )


def _cost(arm: Arm, bench: Bench) -> Cost | None:
    runs = arm.runs
    if not runs:
        return None
    ledger = add_ledgers(run.ledger for run in runs)
    calls = [usage for stage, usage in ledger.items() if stage != "reward_score"]
    names: dict[Role, str] = {
        "policy": arm.method.model,
        "critic": bench.names["critic"],
        "reward_model": bench.names["reward_model"],
    }
    total = bill(ledger, names, bench.costs, bench.context)
    return Cost(
        samples=fmean(run.samples for run in runs),
        requests=sum(usage["requests"] for usage in calls) / len(runs),
        prompt_tokens=sum(usage["prompt_tokens"] for usage in calls) / len(runs),
        completion_tokens=sum(usage["completion_tokens"] for usage in calls) / len(runs),
        cached_tokens=sum(usage["cached_tokens"] for usage in calls) / len(runs),
        seconds=sum(usage["seconds"] for usage in ledger.values()) / len(runs),
        pflops=fmean(_paper_pflops(run) for run in runs),
        measured_pflops=None if total.flops is None else total.flops / 1e15 / len(runs),
        money=None if total.cost is None else total.cost / len(runs),
        estimated=arm.method.read_off is not None and arm.method.depth == 0,
    )


def _paper_pflops(run: Finished) -> float:
    """What the paper's accounting gives for the iterations that the run really made."""
    critics = sum(run.ledger.get(s, no_usage())["requests"] > 0 for s in ("loss", "gradient"))
    return paper_flops(len(run.openings), len(run.steps) - 1, critics=critics) / 1e15


async def pair(
    first: Arm,
    second: Arm,
    bench: Bench,
    *,
    audit: Audit | None = None,
    judge: Judge | None = None,
    on_outcome: OnOutcome | None = None,
    comparisons: int = 1,
) -> Pair:
    """Two methods on the runs of the same prompt and seed that both finished: numbers are those of
    the first, or first minus second. `comparisons` is how many pairs there are."""
    both = matched(first.runs, second.runs)

    def difference(value: Callable[[Finished], float]) -> Estimate | None:
        return mean_of((one.row_id, value(one) - value(other)) for one, other in both)

    gaps = by_prompt((one.row_id, one.reward - other.reward) for one, other in both)
    outcomes = [by_score(one.row_id, one.seed, one.reward, other.reward) for one, other in both]
    rates = [win_rate("reward", bench.names["reward_model"], outcomes)]
    audited = None
    if audit is not None:
        scored = [
            (one, a, b)
            for one, other in both
            if (a := audit.of(one)) is not None and (b := audit.of(other)) is not None
        ]
        audited = mean_of((one.row_id, a - b) for one, a, b in scored)
        outcomes = [by_score(one.row_id, one.seed, a, b) for one, a, b in scored]
        rates.append(win_rate("audit", audit.name, outcomes))
    if judge is not None:
        conversations = bench.conversations
        questions = [
            Question(one.row_id, one.seed, conversations[one.row_id], one.response, other.response)
            for one, other in both
        ]
        outcomes = await judge.outcomes(questions, on_outcome)
        rates.append(win_rate("judge", judge.name, outcomes))
    return Pair(
        first=first.method.name,
        second=second.method.name,
        prompts=len({one.row_id for one, _ in both}),
        reward=difference(lambda run: run.reward),
        length=difference(lambda run: len(run.response)),
        audit=audited,
        win_rates=rates,
        p=p_value(list(gaps.values())),
        prompts_needed=prompts_needed(list(gaps.values()), comparisons),
    )


def matched(
    first: Iterable[Finished], second: Iterable[Finished]
) -> list[tuple[Finished, Finished]]:
    """The runs of the same prompt under the same seed, in the order of the first."""
    others = {(run.row_id, run.seed): run for run in second}
    return [(run, others[key]) for run in first if (key := (run.row_id, run.seed)) in others]


def failures(arms: Sequence[Arm]) -> list[str]:
    """A sentence for every method some of whose runs failed."""
    notes: list[str] = []
    for arm in arms:
        if arm.failed:
            total = arm.failed + len(arm.runs)
            notes.append(
                f"{arm.method.label}: {arm.failed} of {total} runs failed and are in no mean and "
                f"no pair; the first: {arm.error} (retry them with --retry-failed)"
            )
    return notes


def stuck(arms: Sequence[Arm]) -> list[str]:
    """A sentence for every method some of whose runs ended for want of a usable rewrite."""
    counts = [(arm, sum(batch.stuck for batch in arm.batches)) for arm in arms]
    return [
        f"{arm.method.label}: {count} of {len(arm.runs)} runs ended early because the model wrote "
        "no usable loss, gradient or rewrite: its prompts do not suit the model (see `tpo check`). "
        "With NAME=FOLDER among the methods it gets prompts of your own."
        for arm, count in counts
        if count
    ]


def same_beginnings(reference: Arm, others: Sequence[Arm]) -> list[str]:
    """For each other arm, in how many runs it began with the same samples as the reference."""
    notes: list[str] = []
    for arm in others:
        both = matched(reference.runs, arm.runs)
        count = min(reference.method.width, arm.method.width)
        same = sum(a.openings[:count] == b.openings[:count] for a, b in both)
        notes.append(
            f"{reference.method.label} and {arm.method.label} began with the same "
            f"{count} sample{'s' * (count > 1)} in {same} of {len(both)} runs."
        )
    return notes
