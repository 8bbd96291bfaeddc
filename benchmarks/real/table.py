"""The table of `rewrites`, from its store: means over tasks with Student's t intervals."""

from collections.abc import Sequence
from statistics import fmean

from benchmarks.real.rewrites import Record
from tpo_graph.evaluation.results import Estimate
from tpo_graph.evaluation.statistics import estimate

HEAD = (
    "| model, tasks | arm | n | rewrites | minus fresh | minus chosen | better / worse / copied "
    "| unusable | completion tokens | prompt tokens (cached) |\n"
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
)


def table(records: Sequence[Record], part: str) -> str:
    """Markdown. All arms of a model and family are shown on the tasks that all of them finished."""
    lines = [HEAD]
    chosen = [record for record in records if record["part"] == part]
    groups = {(r["model"], r["task"].partition("/")[0]) for r in chosen}
    for model, family in sorted(groups):
        mine = [r for r in chosen if (r["model"], r["task"].partition("/")[0]) == (model, family)]
        firsts = {r["task"]: r for r in mine if r["arm"] == "first"}
        arms: dict[str, dict[str, Record]] = {}
        for record in mine:
            if record["arm"] != "first" and record["rewards"]:
                arms.setdefault(record["arm"], {})[record["task"]] = record
        if not arms:
            continue
        shared = set.intersection(*(set(found) for found in arms.values()))
        for arm, found in sorted(arms.items()):
            rows = [found[task] for task in sorted(shared)]
            if rows:
                lines.append(_line(f"{model}, {family}", arm.partition("@")[0], rows, firsts))
    return "\n".join(lines)


def _line(where: str, arm: str, rows: list[Record], firsts: dict[str, Record]) -> str:
    fresh = [fmean(row["rewards"]) - fmean(firsts[row["task"]]["rewards"]) for row in rows]
    gain = [fmean(row["rewards"]) - row["chosen_reward"] for row in rows]
    each = [(r, row["chosen_reward"]) for row in rows for r in row["rewards"]]
    copied = [text.strip() == row["chosen"].strip() for row in rows for text in row["texts"]]
    better, worse = fmean(r > c for r, c in each), fmean(r < c for r, c in each)
    unusable = sum(row["unusable"] for row in rows) / (
        len(each) + sum(row["unusable"] for row in rows)
    )
    tokens = [fmean(row[key] for row in rows) for key in _TOKENS]
    return (
        f"| {where} | {arm} | {len(rows)} | {fmean(fmean(r['rewards']) for r in rows):.3f} "
        f"| {_shown(estimate(fresh))} | {_shown(estimate(gain))} "
        f"| {better:.0%} / {worse:.0%} / {fmean(copied):.0%} | {unusable:.0%} "
        f"| {tokens[0]:.0f} | {tokens[1]:.0f} ({tokens[2]:.0f}) |"
    )


_TOKENS = ("completion_tokens", "prompt_tokens", "cached_tokens")


def _shown(found: Estimate) -> str:
    if found.low is None or found.high is None:
        return f"{found.value:+.3f}"
    return f"{found.value:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"
