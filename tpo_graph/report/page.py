"""The whole page: overview, comparisons, charts, queries; nothing in it comes from elsewhere.

A content security policy allows this page's one style sheet and one script, by their digests, and
nothing else: no request, no other script, no form.
"""

from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from hashlib import sha256
from importlib.resources import files
from operator import attrgetter
from statistics import fmean

from tpo_graph.evaluation.results import Estimate
from tpo_graph.report.charts import distributions, reward_by_length, reward_curves
from tpo_graph.report.compared import Cell, compared, set_up
from tpo_graph.report.data import Report, Run, Series
from tpo_graph.report.figures import Figure, Table
from tpo_graph.report.packing import packed
from tpo_graph.report.render import environment, trusted
from tpo_graph.report.spending import spending
from tpo_graph.report.wording import between, number, one_line, short_name, whole

_SHOWN_VALUES = 4
"""Of one fact in the header."""
_NUMBERS = ("first", "final", "gain", "length", "tokens")
_first, _final, _gain, _length, _tokens = map(attrgetter, _NUMBERS)
"""Of a `Run`."""


def page(report: Report) -> Iterator[str]:
    """The HTML, piece by piece.

    Raises:
        ConfigurationError: jinja2 or matplotlib is missing.
    """
    style = _asset("page.css")
    script = "\n".join(_asset(name) for name in ("build.js", "page.js"))
    series = [each for each in report.series if each.runs]
    runs = [run for each in series for run in each.runs]
    anchors = {run.run_id: run.anchor for run in runs if run.run_id}
    comparisons = [
        compared(comparison, answers, anchors, f"comparison-{place}")
        for place, (comparison, answers) in enumerate(report.comparisons)
    ]
    # Packed together, so that a page is either all in view of a search or all compressed.
    bodies = [run.details for run in runs]
    for found in comparisons:
        bodies += [cell.body for _, _, cells in found.rows for cell in cells if cell is not None]
    places, blocks = packed(bodies)
    left = iter(places)
    details = {run.anchor: next(left) for run in runs}

    def shown(cell: Cell | None) -> Cell | None:
        return None if cell is None else replace(cell, body=next(left))

    comparisons = [
        replace(each, rows=[(row, query, [*map(shown, cells)]) for row, query, cells in each.rows])
        for each in comparisons
    ]
    title = ", ".join(report.sources[:3]) + (" and more" if len(report.sources) > 3 else "")
    yield from (
        environment()
        .get_template("report.html")
        .generate(
            title=one_line(title[:1].upper() + title[1:], 200),
            report=report,
            about=_about(report),
            policy=_policy(style, script),
            style=trusted(style),
            script=trusted(script),
            comparisons=comparisons,
            series=series,
            overview=_overview(series) if not report.comparisons else None,
            key_facts=_cards(series[0]) if len(series) == 1 and not report.comparisons else [],
            errors=_errors(series),
            charts=list(_charts(series)),
            runs=[(each, run) for each in series for run in each.runs],
            details=details,
            blocks=blocks,
            orders=_ORDERS,
            kept=_kept(series, runs),
        )
    )
    yield "\n"


def _asset(name: str) -> str:
    return files("tpo_graph.report").joinpath(name).read_text("utf-8")


def _policy(style: str, script: str) -> str:
    def digest(text: str) -> str:
        return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"

    return (
        f"default-src 'none'; style-src {digest(style)}; script-src {digest(script)}; "
        "img-src data:; base-uri 'none'; form-action 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    )


def _about(report: Report) -> list[tuple[str, str, str]]:
    """What it is about: (name, value, the value in full where that is longer)."""
    found: dict[str, list[str]] = {}
    for comparison, _ in report.comparisons:
        for name, value in set_up(comparison):
            values = found.setdefault(name, [])
            if value not in values:
                values.append(value)
    for name, values in report.about:
        if name == "seed" and report.comparisons:
            continue
        name = "prompt set" if name == "prompts" else name
        known = found.setdefault(name, [])
        known += [value for value in values if value not in known]
    facts: list[tuple[str, str, str]] = []
    for name, values in sorted(found.items(), key=lambda fact: fact[0] == "command"):
        # The digest of a prompt set tells it from another of its name.
        cut = str if name == "command" else _last_part if name == "prompt set" else short_name
        short = [cut(value) for value in values[:_SHOWN_VALUES]]
        if len(values) > _SHOWN_VALUES:
            short.append(f"and {len(values) - _SHOWN_VALUES:,} more")
        said = one_line("; ".join(short), 200)
        full = "; ".join(values[:20])
        facts.append((name, said, "" if full == said else full))
    return facts


def _last_part(value: str) -> str:
    return value.rpartition("/")[2]


def _charts(series: Sequence[Series]) -> Iterator[tuple[str, list[Figure]]]:
    """(heading, charts) per comparison and reward model: rewards of others share no axis."""
    drawn = [each for each in series if each.counted]
    groups = dict.fromkeys((each.group, each.reward_model) for each in drawn)
    models = {model for _, model in groups}
    for place, (group, model) in enumerate(groups):
        some = [each for each in drawn if (each.group, each.reward_model) == (group, model)]
        words = [
            f" in {group}" if len({name for name, _ in groups}) > 1 and group else "",
            f", by {short_name(model)}" if len(models) > 1 else "",
        ]
        charts = (reward_curves, distributions, reward_by_length, spending)
        names = ("curves", "spread", "length", "tokens")
        found = [draw(some, f"{name}-{place}") for draw, name in zip(charts, names, strict=True)]
        yield "Rewards and cost" + "".join(words), found


def _overview(series: Sequence[Series]) -> Table | None:
    if len(series) < 2:
        return None
    columns = ["series", "runs", "finished", "best first sample", "answer", "gain", "improved"]
    return Table([*columns, "characters", "tokens"], [_row(each) for each in series])


def _row(series: Series) -> list[str]:
    runs = series.counted
    head = [series.name, f"{len(series.runs):,}", f"{len(runs):,}"]
    if not runs:
        return head + ["-"] * 6
    return [
        *head,
        between(series.mean(_first)),
        between(series.mean(_final)),
        between(series.mean(_gain), signed=True),
        _share(series),
        between(series.mean(_length), count=True),
        between(series.mean(_tokens), count=True),
    ]


def _cards(series: Series) -> list[tuple[str, str, str]]:
    runs = series.counted
    states = Counter(run.status for run in series.runs)
    remark = ", ".join(f"{count:,} {state}" for state, count in states.items())
    facts = [("Runs", f"{len(series.runs):,}", remark)]
    if not runs:
        return facts

    def mean(value: Callable[[Run], float | None]) -> float:
        found = series.mean(value)
        return 0.0 if found is None else found.value

    money = series.bill.cost
    cost = "" if money is None else f"{money / len(runs):.5f} {series.bill.currency}".strip()
    first = whole(fmean(run.first_length for run in runs))
    return [
        *facts,
        ("Mean reward", number(mean(_final)), f"best first sample {number(mean(_first))}"),
        ("Mean gain", number(mean(_gain), signed=True), _interval(series.mean(_gain))),
        ("Improved", _share(series), "of the finished runs"),
        ("Mean length", whole(mean(_length)), f"characters; first sample {first}"),
        ("Tokens per run", whole(mean(_tokens)), cost),
    ]


def _interval(gain: Estimate | None) -> str:
    over = "over the best first sample"
    if gain is None or gain.low is None:
        return over
    low, high = (number(each, signed=True) for each in (gain.low, gain.high))
    return f"{over}; 95% [{low}, {high}]"


def _share(series: Series) -> str:
    runs = series.counted
    return f"{sum((run.gain or 0.0) > 0 for run in runs) / len(runs):.0%}"


def _errors(series: Sequence[Series]) -> Table | None:
    errors = Counter(one_line(run.error, 200) for each in series for run in each.runs if run.error)
    rows = [[error, f"{count:,}"] for error, count in errors.most_common(8)]
    return Table(["error", "runs"], rows) if rows else None


_ORDERS = [
    ("order up", "as given"),
    ("gain down", "largest gain"),
    ("gain up", "smallest gain"),
    ("reward down", "highest reward"),
    ("reward up", "lowest reward"),
    ("length down", "longest answer"),
    ("length up", "shortest answer"),
    ("tokens down", "most tokens"),
]


def _kept(series: Sequence[Series], runs: Sequence[Run]) -> list[tuple[str, str]]:
    """What the list can be filtered by: (field:value, words)."""
    reasons = sorted({run.stop_reason for run in runs if run.stop_reason})
    kept = [("", "all"), ("better:yes", "improved"), ("better:no", "not improved")]
    kept += [(f"state:{state}", state) for state in sorted({run.status for run in runs})]
    kept += [(f"stop:{reason}", f"stopped by {reason}") for reason in reasons]
    labels = sorted({run.label for run in runs if run.label})
    kept += [(f"label:{label}", f"labelled {label}") for label in labels]
    if len(series) > 1:
        kept += [(f"series:{each.name}", each.name) for each in series]
    return kept
