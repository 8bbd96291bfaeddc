"""The pages' routes: the list of runs, one run, two runs side by side, and what keeps them current.

Everything comes from this host, nothing is sent but questions for it, and no script runs but the
pages' own: see `_HEADERS`.
"""

import asyncio
import hashlib
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, urlencode

from sqlalchemy import Engine
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from tpo_graph.costs import CostTable
from tpo_graph.errors import ConfigurationError, RunNotFoundError, TPOError
from tpo_graph.report.render import macros, plain, render
from tpo_graph.store.labels import write_label
from tpo_graph.store.reading import Readable
from tpo_graph.store.runs import read
from tpo_graph.view.access import from_own_page
from tpo_graph.view.listing import LABELS, ORDERS, STATES, Wanted, pulse, read_listing
from tpo_graph.view.one_run import Watched, run_pulse, watched
from tpo_graph.view.two_runs import NAMES, Pair, read_pair

if TYPE_CHECKING:
    from markupsafe import Markup

_LOOK_SECONDS = 0.7
"""How often the database is asked whether something has happened."""
_FORM_BYTES = 200_000
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src data:; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
    "X-Content-Type-Options": "nosniff",
    # To this host a browser says where a form was: `access.from_own_page`.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_STATES = {
    "running": "running",
    "silent": "no sign of life",
    "finished": "finished",
    "interrupted": "interrupted",
    "failed": "failed",
}
_UNDER_WAY = ("running", "silent")
"""What may still change: a silent process may come back, and another one may resume its run."""


@dataclass
class Live:
    """What a page shows and keeps current."""

    pieces: dict[str, "Markup"]
    """By id; each begins with the element of that id."""
    order: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    """Ids of the children of elements whose number changes."""
    news: str = ""
    """What a screen reader is told."""
    title: str = ""
    ended: bool = False
    """Nothing more will change."""

    def __post_init__(self) -> None:
        from markupsafe import Markup, escape

        for name, piece in self.pieces.items():
            mark = f'id="{escape(name)}"'
            stamped = str(piece).replace(mark, f'{mark} data-hash="{_digest(piece)}"', 1)
            self.pieces[name] = Markup(stamped)

    def message(self, sent: dict[str, str]) -> str | None:
        """The pieces that differ from those that were sent, as JSON; None when none does."""
        fresh = {name: piece for name, piece in self.pieces.items() if sent.get(name) != piece}
        order = json.dumps([self.order, self.ended])
        if not fresh and sent.get("") == order:
            return None
        sent |= {**fresh, "": order}
        told = {
            "parts": [plain(piece.strip())[0] for piece in fresh.values()],
            "order": self.order,
            "news": self.news,
            "title": self.title,
            "end": self.ended,
        }
        return json.dumps(told, ensure_ascii=False, separators=(",", ":"))


class Pages:
    """The pages about one database.

    Args:
        database: gives it for a request; None where runs are kept in memory.
        costs: prices of models.
        writing: where labels are kept; without it the pages only read.
    """

    def __init__(
        self,
        database: Callable[[Request], Readable | None],
        costs: CostTable | None = None,
        writing: Engine | None = None,
    ) -> None:
        self._database = database
        self._costs = costs
        self._writing = writing

    @property
    def routes(self) -> list[Route]:
        """All of them."""
        return [
            Route("/", self.list_page),
            Route("/events", self.list_events),
            Route("/runs/{run_id}", self.run_page),
            Route("/runs/{run_id}/events", self.run_events),
            Route("/runs/{run_id}/label", self.set_label, methods=["POST"]),
            Route("/compare", self.compare_page),
            Route("/compare/events", self.compare_events),
            Route("/assets/{name}", asset),
        ]

    async def list_page(self, request: Request) -> Response:
        """`GET /`: runs, filtered by the query string."""
        database = self._database(request)
        if database is None:
            why = "Runs are kept in memory here (--database none), so there are none to look at."
            return _nothing(request, "Runs", why, database)
        wanted = Wanted.read(request.query_params)
        listing, live = await self._listing(database, wanted, request)
        return _page(
            request,
            "view_list.html",
            title="Runs",
            database=database.url,
            events=f"{_root(request)}/events{wanted.address()}",
            wanted=wanted,
            listing=listing,
            states=STATES,
            state_words=_STATES,
            orders=ORDERS,
            labels=LABELS,
            count=live.pieces["count"],
            lines=_joined("ol", "runs", "runs", live),
        )

    async def list_events(self, request: Request) -> Response:
        """`GET /events`: what changes in the list."""
        database = self._need(request)
        wanted = Wanted.read(request.query_params)

        async def look() -> Live:
            return (await self._listing(database, wanted, request))[1]

        return _events(lambda: read(database, pulse), look)

    async def _listing(self, database: Readable, wanted: Wanted, request: Request) -> Any:
        listing = await read(database, lambda c: read_listing(c, wanted, self._costs))
        parts, root = macros("view_parts.html"), _root(request)
        pieces = {f"run-{run.run_id}": parts.line(run, root, _STATES) for run in listing.lines}
        order = {"runs": list(pieces)}
        return listing, Live({"count": parts.count(listing), **pieces}, order)

    async def run_page(self, request: Request) -> Response:
        """`GET /runs/ID`: one run, as far as it is."""
        database = self._database(request)
        run_id = request.path_params["run_id"]
        try:
            found, live = await self._run(self._need(request), run_id, request)
        except RunNotFoundError as error:
            return _nothing(request, "No such run", str(error), database, 404)
        return _page(
            request,
            "view_run.html",
            title=live.title,
            database=_url(database),
            events="" if live.ended else f"{_root(request)}/runs/{quote(run_id, safe='')}/events",
            run=found,
            writes=self._writing is not None,
            pieces=live.pieces,
            live=_joined("div", "run", "", live),
        )

    async def run_events(self, request: Request) -> Response:
        """`GET /runs/ID/events`: what changes in one run."""
        database = self._need(request)
        run_id = request.path_params["run_id"]

        async def look() -> Live:
            return (await self._run(database, run_id, request))[1]

        return _events(lambda: read(database, lambda c: run_pulse(c, run_id)), look)

    async def _run(self, database: Readable, run_id: str, request: Request) -> tuple[Watched, Live]:
        run = await watched(database, run_id, self._costs)
        parts = macros("view_run_parts.html")
        root, state, shown = _root(request), _STATES[run.state], run.shown
        steps = shown.iterations
        blocks = {
            "progress": parts.progress(run),
            "answer": parts.answer(run),
            **{f"samples-{each.iteration}": parts.samples(run, each) for each in steps},
            "spending": parts.spending(run),
            "about": parts.about(run),
        }
        pieces = {"state": parts.state(run, state), "others": parts.others(run, root), **blocks}
        return run, Live(
            pieces,
            {"run": list(blocks)},
            news=f"{state}: {run.doing}",
            title=f"{state}: {shown.query:.80}",
            ended=run.state not in _UNDER_WAY,
        )

    async def set_label(self, request: Request) -> Response:
        """`POST /runs/ID/label`: keep a label and a note, sent by a form of these pages."""
        if self._writing is None:
            return Response("these pages only read", 403, _HEADERS, "text/plain")
        if not from_own_page(request):
            why = "labels are set from the pages of this server only"
            return Response(why, 403, _HEADERS, "text/plain")
        try:
            values = await _form(request)
            run_id = request.path_params["run_id"]
            label, note = values.get("label", ""), values.get("note", "")
            await asyncio.to_thread(write_label, self._writing, run_id, label, note)
        except TPOError as error:
            known = {RunNotFoundError: 404, ConfigurationError: 400}
            status = next((code for kind, code in known.items() if isinstance(error, kind)), 503)
            return Response(str(error), status, _HEADERS, "text/plain")
        place = f"{_root(request)}/runs/{quote(run_id, safe='')}#label"
        return RedirectResponse(place, 303, _HEADERS)

    async def compare_page(self, request: Request) -> Response:
        """`GET /compare?a=ID&b=ID`: two runs side by side; `?run=ID&run=ID` leads there."""
        if chosen := request.query_params.getlist("run"):
            query = urlencode(dict(zip("ab", chosen, strict=False)) if len(chosen) == 2 else {})
            return RedirectResponse(f"{_root(request)}/compare?{query}", 303, _HEADERS)
        first, second = (request.query_params.get(name, "") for name in "ab")
        database = self._database(request)
        try:
            if not first or not second:
                raise RunNotFoundError("Tick two runs in the list, then press Compare.")
            pair, live = await self._pair(self._need(request), first, second, request)
        except RunNotFoundError as error:
            return _nothing(request, "No two runs to compare", str(error), database, 404)
        return _page(
            request,
            "view_compare.html",
            title=live.title,
            database=_url(database),
            events="" if live.ended else f"{_root(request)}/compare/events?{request.query_params}",
            pair=pair,
            pieces=live.pieces,
            columns=_joined("div", "columns", "step", live),
        )

    async def compare_events(self, request: Request) -> Response:
        """`GET /compare/events?a=ID&b=ID`: what changes in two runs."""
        database = self._need(request)
        ids = [request.query_params.get(name, "") for name in "ab"]

        async def look() -> Live:
            return (await self._pair(database, ids[0], ids[1], request))[1]

        return _events(lambda: read(database, lambda c: [run_pulse(c, each) for each in ids]), look)

    async def _pair(
        self, database: Readable, first: str, second: str, request: Request
    ) -> tuple[Pair, Live]:
        pair = await read_pair(database, first, second, self._costs)
        parts = macros("view_compare_parts.html")
        columns = {f"column-{place}": parts.column(pair, place) for place in (0, 1)}
        told = (f"{name}: {_STATES[run.state]}" for name, run in zip(NAMES, pair.runs, strict=True))
        return pair, Live(
            {"compared": parts.compared(pair, _root(request), _STATES), **columns},
            {"columns": list(columns)},
            news=", ".join(told),
            title=f"Compare: {pair.runs[0].shown.query:.80}",
            ended=all(run.state not in _UNDER_WAY for run in pair.runs),
        )

    def _need(self, request: Request) -> Readable:
        database = self._database(request)
        if database is None:
            raise RunNotFoundError("runs are kept in memory here (--database none)")
        return database


def _joined(tag: str, name: str, kind: str, live: Live) -> "Markup":
    from markupsafe import Markup

    inner = Markup("\n").join(live.pieces[each] for each in live.order[name])
    return Markup('<{0} id="{1}" class="{2}">{3}</{0}>').format(tag, name, kind, inner)


async def asset(request: Request) -> Response:
    """The style sheet and the script."""
    parts, kind = _ASSETS.get(request.path_params["name"], ((), "text/plain"))
    if not parts:
        return Response("there is no such file", 404, _HEADERS, "text/plain")
    text = "\n".join(files(package).joinpath(name).read_text("utf-8") for package, name in parts)
    return Response(text, headers={**_HEADERS, "Cache-Control": "no-cache"}, media_type=kind)


_ASSETS: Mapping[str, tuple[Sequence[tuple[str, str]], str]] = {
    "page.css": ([("tpo_graph.report", "page.css"), ("tpo_graph.view", "view.css")], "text/css"),
    "view.js": (
        [("tpo_graph.report", "build.js"), ("tpo_graph.view", "view.js")],
        "text/javascript",
    ),
}


async def _form(request: Request) -> dict[str, str]:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _FORM_BYTES:
            raise ConfigurationError(f"the form is larger than {_FORM_BYTES:,} bytes")
    try:
        fields = parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=10)
    except ValueError as error:
        raise ConfigurationError("this is not a form of these pages") from error
    return {name: value.replace("\r\n", "\n") for name, value in fields}


def _page(request: Request, template: str, status: int = 200, **values: Any) -> Response:
    return HTMLResponse(render(template, root=_root(request), **values), status, _HEADERS)


def _nothing(
    request: Request, title: str, why: str, database: Readable | None, status: int = 200
) -> Response:
    """A page that says why there is nothing to see."""
    return _page(
        request, "view_none.html", status, title=title, why=why, database=_url(database), events=""
    )


def _url(database: Readable | None) -> str:
    return "" if database is None else database.url


def _events(beat: Callable[[], Awaitable[object]], look: Callable[[], Awaitable[Live]]) -> Response:
    """Server-sent events: the whole page's pieces at first, then those that change.

    Args:
        beat: equal to what it was as long as nothing has happened.
        look: all of the page.
    """

    async def changes() -> AsyncGenerator[ServerSentEvent]:
        sent: dict[str, str] = {}
        before: object = None
        while True:
            now = await beat()
            if now != before:
                before, live = now, await look()
                if (message := live.message(sent)) is not None:
                    yield ServerSentEvent(message, sep="\n")
                if live.ended:
                    return
            await asyncio.sleep(_LOOK_SECONDS)

    async def told() -> AsyncGenerator[ServerSentEvent]:
        try:
            async for event in changes():
                yield event
        except TPOError:
            return  # the browser asks again, and is told by the page itself

    headers = {name: value for name, value in _HEADERS.items() if name != "Cache-Control"}
    return EventSourceResponse(told(), sep="\n", headers=headers)


def _root(request: Request) -> str:
    return request.scope.get("root_path", "").rstrip("/")


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
