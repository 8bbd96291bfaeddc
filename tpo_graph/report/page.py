"""The whole page: overview, comparisons, charts, queries; nothing in it comes from elsewhere.

A content security policy allows this page's one style sheet and one script, by their digests, and
nothing else: no request, no other script, no form.
"""

from base64 import b64encode
from collections import Counter
from collections.abc import Iterator, Sequence
from hashlib import sha256
from importlib.resources import files
from statistics import fmean

from tpo_graph.evaluation.statistics import estimate_or_none
from tpo_graph.report.charts import distributions, reward_by_length, reward_curves
from tpo_graph.report.compared import compared, headline
from tpo_graph.report.comparison_charts import between
from tpo_graph.report.data import Report, Series
from tpo_graph.report.elements import Element, Node, h, markup, one_line
from tpo_graph.report.figures import Table, cards, number, table
from tpo_graph.report.queries import queries
from tpo_graph.report.spending import spending


def page(report: Report) -> Iterator[str]:
    """The HTML, piece by piece.

    Raises:
        ConfigurationError: matplotlib is missing.
    """
    folder = files("tpo_graph.report")
    style, *scripts = (
        folder.joinpath(name).read_text("utf-8") for name in ("page.css", "build.js", "page.js")
    )
    script = "\n".join(scripts)
    title = one_line(", ".join(report.sources), 200)
    some = any(each.runs for each in report.series)
    head = h(
        "head",
        h("meta", charset="utf-8"),
        h("meta", http_equiv="Content-Security-Policy", content=_policy(style, script)),
        h("meta", name="viewport", content="width=device-width, initial-scale=1"),
        h("meta", name="color-scheme", content="light dark"),
        h("meta", name="referrer", content="no-referrer"),
        h("link", rel="icon", href="data:,"),
        h("title", f"TPO report: {title}"),
        h("style", style),
    )
    body = h(
        "body",
        h(
            "header",
            h("p", "Test-Time Preference Optimization", class_="eyebrow"),
            h("h1", title[:1].upper() + title[1:], dir="auto"),
            h("p", f"From {report.database}, on {report.created_at}.", class_="meta"),
        ),
        h("main", *_sections(report)),
        h("footer", h("p", "Means and charts take in finished runs only.")),
        h("script", script) if some else None,
    )
    yield "<!doctype html>\n"
    yield from markup(h("html", head, body, lang="en"))


def _policy(style: str, script: str) -> str:
    def digest(text: str) -> str:
        return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"

    return (
        f"default-src 'none'; style-src {digest(style)}; script-src {digest(script)}; "
        "img-src data:; base-uri 'none'; form-action 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    )


def _sections(report: Report) -> Iterator[Element]:
    series = [each for each in report.series if each.runs]
    for place, comparison in enumerate(report.comparisons):
        title = headline(comparison)
        yield _section(title[:1].upper() + title[1:], *compared(comparison, f"comparison-{place}"))
    errors = _errors(series)
    if series and not report.comparisons:  # which have their own tables, over prompts
        yield _section("Overview", _overview(series), *errors)
    elif errors:
        yield _section("Errors", *errors)
    if not series and not report.comparisons:
        why = "No runs are stored here yet. `tpo run` and `tpo batch` make some."
        yield _section("Nothing to show", h("p", why, class_="empty"))
    drawn = [each for each in series if each.counted]
    if series and not drawn:
        why = "No run has finished, so there is nothing to draw yet."
        yield _section("Rewards", h("p", why, class_="empty"))
    models = dict.fromkeys(each.reward_model for each in drawn)
    for place, model in enumerate(models):
        some = [each for each in drawn if each.reward_model == model]
        charts = (reward_curves, distributions, reward_by_length, spending)
        names = ("curves", "spread", "length", "tokens")
        yield _section(
            "Rewards and cost" + (f", by {model}" if len(models) > 1 else ""),
            h(
                "div",
                *(draw(some, f"{name}-{place}") for draw, name in zip(charts, names, strict=True)),
                class_="charts",
            ),
        )
    if series:
        yield _section("Queries", *queries(series))


def _section(title: str, *children: Node) -> Element:
    return h("section", h("h2", title), *children)


def _overview(series: Sequence[Series]) -> Element:
    if len(series) == 1:
        return _cards(series[0])
    rows = [_row(each) for each in series]
    columns = ["series", "runs", "finished", "best first sample", "answer", "gain", "improved"]
    shown = table(Table([*columns, "characters", "tokens"], rows), "Overview")
    return Element(shown.tag, {**shown.attributes, "class": "scroll card"}, shown.children)


def _row(series: Series) -> list[str]:
    runs = series.counted
    head = [series.name, f"{len(series.runs):,}", f"{len(runs):,}"]
    if not runs:
        return head + ["-"] * 6
    gain = estimate_or_none([run.gain or 0.0 for run in runs])
    return [
        *head,
        number(fmean(run.first or 0.0 for run in runs)),
        number(fmean(run.final or 0.0 for run in runs)),
        between(gain, _signed),
        _share(series),
        f"{fmean(run.length for run in runs):,.0f}",
        f"{fmean(run.tokens for run in runs):,.0f}",
    ]


def _cards(series: Series) -> Element:
    runs = series.counted
    states = Counter(run.status for run in series.runs)
    remark = ", ".join(f"{count:,} {state}" for state, count in states.items())
    facts: list[tuple[str, str, str | None]] = [("Runs", f"{len(series.runs):,}", remark)]
    if not runs:
        return cards(facts)
    first, final = fmean(run.first or 0.0 for run in runs), fmean(run.final or 0.0 for run in runs)
    gain = estimate_or_none([run.gain or 0.0 for run in runs])
    money = series.bill.cost
    cost = None if money is None else f"{money / len(runs):.5f} {series.bill.currency}".strip()
    return cards(
        [
            *facts,
            ("Mean reward", number(final), f"best first sample {number(first)}"),
            (
                "Mean gain",
                between(gain, _signed),
                "over the best first sample; 95% interval",
            ),
            ("Improved", _share(series), "of the finished runs"),
            (
                "Mean length",
                f"{fmean(run.length for run in runs):,.0f}",
                f"characters; first sample {fmean(run.first_length for run in runs):,.0f}",
            ),
            ("Tokens per run", f"{fmean(run.tokens for run in runs):,.0f}", cost),
        ]
    )


def _share(series: Series) -> str:
    runs = series.counted
    return f"{sum((run.gain or 0.0) > 0 for run in runs) / len(runs):.0%}"


def _signed(value: float | None) -> str:
    return number(value, signed=True)


def _errors(series: Sequence[Series]) -> list[Node]:
    errors = Counter(one_line(run.error, 200) for each in series for run in each.runs if run.error)
    if not errors:
        return []
    rows = [[error, f"{count:,}"] for error, count in errors.most_common(8)]
    return [h("h3", "Errors", class_="errors"), table(Table(["error", "runs"], rows), "Errors")]
