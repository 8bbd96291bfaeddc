"""The table of `rewrites`, from its store: means over tasks with Student's t intervals."""

from collections.abc import Iterator, Sequence
from statistics import fmean

from benchmarks.real.rewrites import TOKENS, Record
from tpo_graph.evaluation.statistics import estimate

HEAD = (
    "| model, tasks | arm | n | rewrites | minus fresh | minus chosen "
    "| minus {against} | better / worse / copied "
    "| unusable | completion tokens | prompt tokens (cached) |\n"
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
)


def table(records: Sequence[Record], part: str, against: str | None = None) -> str:
    """Markdown. All arms of a model and family are shown on the tasks that all of them finished.

    Args:
        records: of a store of `rewrites.measure`.
        part: of the tasks, "development" or "held-out".
        against: the arm that every other is compared with; the one without a critique by default.
    """
    lines: list[str] = []
    chosen = [record for record in records if record["part"] == part]
    for of, mine in groups(chosen):
        firsts = {r["task"]: r for r in mine if r["arm"] == "first"}
        arms: dict[str, dict[str, Record]] = {}
        for record in mine:
            if record["arm"] != "first" and record["rewards"]:
                arms.setdefault(record["arm"], {})[record["task"]] = record
        if not arms:
            continue
        shared = set.intersection(*(set(found) for found in arms.values()))
        base = next((arm for arm in sorted(arms) if _is(arm, against)), None)
        control = arms.get(base or "")
        lines += [] if lines else [HEAD.format(against=against or "no critique")]
        for arm, found in sorted(arms.items()):
            rows = [found[task] for task in sorted(shared)]
            if rows:
                against = None if control in (None, found) else control
                lines.append(_line(of, arm.partition("@")[0], rows, firsts, against))
    return "\n".join(lines) or f"no task of the part {part!r} was finished by every arm"


def _is(arm: str, against: str | None) -> bool:
    """Whether that is the arm to compare with; a stored name ends with its prompts' digest."""
    return "none:" in arm if against is None else arm.partition("@")[0] == against


def groups(records: Sequence[Record]) -> Iterator[tuple[str, list[Record]]]:
    """Records of one model and family each, with what to call these."""

    def of(record: Record) -> str:
        return f"{record['model']}, {record['task'].partition('/')[0]}"

    for name in sorted(set(map(of, records))):
        yield name, [record for record in records if of(record) == name]


def _line(
    where: str,
    arm: str,
    rows: list[Record],
    firsts: dict[str, Record],
    control: dict[str, Record] | None,
) -> str:
    fresh = [fmean(row["rewards"]) - fmean(firsts[row["task"]]["rewards"]) for row in rows]
    gain = [fmean(row["rewards"]) - row["chosen_reward"] for row in rows]
    each = [(r, row["chosen_reward"]) for row in rows for r in row["rewards"]]
    copied = [text.strip() == row["chosen"].strip() for row in rows for text in row["texts"]]
    better, worse = fmean(r > c for r, c in each), fmean(r < c for r, c in each)
    unusable = sum(row["unusable"] for row in rows) / (
        len(each) + sum(row["unusable"] for row in rows)
    )
    critique = ""
    if control is not None:
        without = [fmean(control[row["task"]]["rewards"]) for row in rows]
        critique = shown([fmean(r["rewards"]) - w for r, w in zip(rows, without, strict=True)])
    tokens = [fmean(row[key] for row in rows) for key in TOKENS]
    return (
        f"| {where} | {arm} | {len(rows)} | {fmean(fmean(r['rewards']) for r in rows):.3f} "
        f"| {shown(fresh)} | {shown(gain)} | {critique} "
        f"| {better:.0%} / {worse:.0%} / {fmean(copied):.0%} | {unusable:.0%} "
        f"| {tokens[0]:.0f} | {tokens[1]:.0f} ({tokens[2]:.0f}) |"
    )


def shown(differences: Sequence[float]) -> str:
    """Their mean with its interval."""
    found = estimate(differences)
    if found.low is None or found.high is None:
        return f"{found.value:+.3f}"
    return f"{found.value:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"
