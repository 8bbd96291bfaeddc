"""The list of queries: a line each, with search, filter and order, and a trajectory to open.

Few trajectories stand in the page as they are. Many are packed: compressed JSON in blocks, which
`page.js` unpacks when one of them is opened.
"""

import json
import zlib
from base64 import b64encode
from collections.abc import Iterator, Sequence

from tpo_graph.report.data import Run, Series
from tpo_graph.report.elements import Element, Node, h, one_line, plain
from tpo_graph.report.figures import number

INLINE = 1_500_000
"""Characters of JSON up to which trajectories stand in the page as they are."""
_BLOCK = 400_000
"""Characters of JSON in a block; opening one trajectory unpacks one block."""


def queries(series: Sequence[Series]) -> list[Node]:
    """The controls, the list, and the blocks of packed trajectories."""
    entries = [(each, run) for each in series for run in each.runs]
    packed = {
        place: json.dumps(plain(run.details), ensure_ascii=False, separators=(",", ":"))
        for place, (_, run) in enumerate(entries)
        if run.details is not None
    }
    inline = sum(map(len, packed.values())) <= INLINE
    blocks = [] if inline else list(_blocks(packed))
    places = {
        place: (number, index)
        for number, block in enumerate(blocks)
        for index, place in enumerate(block)
    }
    items = [
        _item(place, each if len(series) > 1 else None, run, places.get(place))
        for place, (each, run) in enumerate(entries)
    ]
    scripts = [
        _script(number, [packed[place] for place in block]) for number, block in enumerate(blocks)
    ]
    return [
        _controls(series, [run for _, run in entries]),
        h("ol", *items, id="runs", class_="runs"),
        *scripts,
    ]


def _blocks(packed: dict[int, str]) -> Iterator[list[int]]:
    block: list[int] = []
    size = 0
    for place, content in packed.items():
        if block and size + len(content) > _BLOCK:
            yield block
            block, size = [], 0
        block.append(place)
        size += len(content)
    yield block


def _script(number: int, contents: Sequence[str]) -> Element:
    data = zlib.compress(f"[{','.join(contents)}]".encode(), 9)
    return h("script", b64encode(data).decode(), type="text/plain", id=f"texts-{number}")


def _controls(series: Sequence[Series], runs: Sequence[Run]) -> Element:
    orders = [
        ("order up", "as given"),
        ("gain down", "largest gain"),
        ("gain up", "smallest gain"),
        ("reward down", "highest reward"),
        ("reward up", "lowest reward"),
        ("length down", "longest answer"),
        ("length up", "shortest answer"),
        ("tokens down", "most tokens"),
    ]
    reasons = sorted({run.stop_reason for run in runs if run.stop_reason})
    kept = [("", "all"), ("better:yes", "improved"), ("better:no", "not improved")]
    kept += [(f"state:{state}", state) for state in sorted({run.status for run in runs})]
    kept += [(f"stop:{reason}", f"stopped by {reason}") for reason in reasons]
    if len(series) > 1:
        kept += [(f"series:{place}", each.name) for place, each in enumerate(series)]
    return h(
        "div",
        _control("Search", h("input", type="search", id="search", autocomplete="off")),
        _control("Show", _choice("only", kept)),
        _control("Order", _choice("sort", orders)),
        h("p", id="count", role="status"),
        id="controls",
        class_="controls",
        hidden="",
    )


def _control(label: str, control: Element) -> Element:
    return h("div", h("label", label, for_=control.attributes["id"]), control)


def _choice(name: str, options: Sequence[tuple[str, str]]) -> Element:
    return h("select", *(h("option", words, value=value) for value, words in options), id=name)


def _item(place: int, series: Series | None, run: Run, packed: tuple[int, int] | None) -> Element:
    better = None if run.gain is None else "yes" if run.gain > 0 else "no"
    return h(
        "li",
        h("details", _summary(series, run), _body(run, packed)),
        id=f"query-{place + 1}",
        data_run=f"{run.row_id} {run.run_id}",
        data_gain=None if run.gain is None else f"{run.gain:.6g}",
        data_reward=None if run.final is None else f"{run.final:.6g}",
        data_length=run.length if run.rewards else None,
        data_tokens=run.tokens,
        data_better=better,
        data_state=run.status,
        data_stop=run.stop_reason,
        data_series=None if series is None else series.name,
    )


def _summary(series: Series | None, run: Run) -> Element:
    title = one_line(run.query, 240) or "(no text)"
    about = [word for word in (run.row_id, "" if series is None else series.name) if word]
    state = run.stop_reason if run.status == "finished" else run.status
    return h(
        "summary",
        h("span", title, class_="title", dir="auto"),
        h("span", *(h("span", word, dir="auto") for word in about), class_="about")
        if about
        else None,
        _labelled("reward", "reward", number(run.final)),
        _labelled("gain", "gain", number(run.gain, signed=True)),
        _labelled(f"state {run.status}", "stop", state or run.status),
        class_="run",
    )


def _labelled(kind: str, what: str, value: str) -> Element:
    return h("span", h("span", f"{what} ", class_="label"), value, class_=kind)


def _body(run: Run, packed: tuple[int, int] | None) -> Element:
    if packed is not None:
        block, index = packed
        needs = h("p", "This trajectory is packed: a script has to show it.", class_="empty")
        return h("div", needs, data_block=f"texts-{block}", data_index=index)
    if run.details is not None:
        return run.details
    why = run.error or "This report holds the texts of fewer runs than it counts (--limit)."
    return h("div", h("p", why, class_="text error" if run.error else "empty", dir="auto"))
