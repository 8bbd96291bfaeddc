"""Bad values through all that reads what is stored: frames, pages, results, on both databases."""

from html.parser import HTMLParser
from typing import Any
from urllib.parse import quote

import pytest
from starlette.testclient import TestClient

from tests.hostile.test_entry_points import judge, need_clear
from tests.hostile.values import TEXTS, VALUES
from tests.test_frames import FRAMES
from tpo_graph import TPOResult, make_rows, optimize, run_batch, runs_df
from tpo_graph.conversation import storable
from tpo_graph.rows import Row
from tpo_graph.store.reading import open_to_read
from tpo_graph.testing import ScriptedChatModel
from tpo_graph.view.server import application

FILTERS = ("status", "model", "reward_model", "batch", "since", "until", "nope")
OURS = {
    *("div", "p", "b", "pre", "details", "summary", "table", "thead", "tbody", "tr", "th", "td")
}
"""The elements of a result in a notebook."""
SAID = [text for text in TEXTS.values() if text.strip()]


def run(url: str, text: str, run_id: str) -> TPOResult:
    """One run whose query, answers and critiques all are this text."""
    replies = [f"{text}1", f"{text}22", text, text]
    model = ScriptedChatModel(replies=[*replies, f"<improved_answer>{text}333</improved_answer>"])
    given: dict[str, Any] = {"model": model, "reward_model": judge, "database": url}
    return optimize(text, run_id=run_id, depth=1, width=2, criteria=storable(text)[:2_000], **given)


@pytest.fixture
def results(database_url: str) -> list[TPOResult]:
    found = [run(database_url, text, f"r{i}") for i, text in enumerate(SAID)]
    rows = [row for row in make_rows([{"prompt": text} for text in SAID]) if isinstance(row, Row)]
    model = ScriptedChatModel(replies=["an answer", "a longer answer"])
    short: dict[str, Any] = {"depth": 0, "width": 2}
    run_batch(
        rows[:2], name="{0} %s", model=model, reward_model=judge, database=database_url, **short
    )
    return found


class Tags(HTMLParser):
    """The elements of a page, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text, self.tags = "", set[str]()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def test_frames_hold_every_text_and_a_filter_of_any_value(
    database_url: str, results: list[TPOResult]
) -> None:
    frames = [read(database_url) for read in FRAMES]
    assert set(frames[1]["response"]) >= {r.response for r in results}
    queries = set(frames[0]["query"])
    assert all(storable(text) in queries or text in queries for text in SAID)
    columns = [list(frame.columns) for frame in frames]
    # Each value meets one of the frames, which read their filters alike.
    tried = [(name, value) for name in FILTERS for value in [*VALUES, *TEXTS.values()]]
    for i, (name, value) in enumerate(tried):
        read = FRAMES[i % 4]
        try:
            found = read(database_url, **{name: value})
        except Exception as error:
            need_clear(error, (read.__name__, name, value))
        else:
            assert list(found.columns) == columns[i % 4]
    for url in [*VALUES, *TEXTS.values()]:
        with pytest.raises(Exception) as refused:  # noqa: PT011
            runs_df(url)
        need_clear(refused.value, url)


def test_a_result_is_text_in_a_notebook_in_words_and_as_a_frame(results: list[TPOResult]) -> None:
    for result in results:
        page = Tags(result._repr_html_())  # pyright: ignore[reportPrivateUsage]
        assert result.response.strip() in page.text or "\r" in result.response
        assert page.tags <= OURS
        page.text.encode()
        assert len(repr(result)) < 400
        repr(result).encode()
        assert set(result.to_frame()["response"]) == {c["response"] for c in result.candidates}


def test_pages_of_any_address(database_url: str, results: list[TPOResult]) -> None:
    texts = [storable(text) for text in TEXTS.values()]
    texts = [text[:2_000] for text in texts] + ["%00", "a\x00b", "9" * 5_000, "-1", "'"]
    with open_to_read(database_url) as opened:
        pages = TestClient(application(opened, "127.0.0.1"), base_url="http://127.0.0.1")
        for result in results:
            page = pages.get(f"/runs/{result.run_id}")
            assert page.status_code == 200
            assert Tags(page.text).tags.isdisjoint({"improved_answer", "iframe"})
        for text in texts:
            for name in ("q", "model", "reward", "batch", "label", "state", "order", "page"):
                assert pages.get("/", params={name: text}).status_code == 200, (name, text)
            place = quote(text, safe="")
            for path in (f"/runs/{place}", f"/compare?a={place}&b={place}", f"/assets/{place}"):
                assert pages.get(path).status_code in (200, 404), path
        for raw in ("q=%ff", "q=%ed%a0%80", "q=%", "&&&=", "a=%00&b=%ff"):
            assert pages.get(f"/?{raw}").status_code == 200, raw
            assert pages.get(f"/compare?{raw}").status_code in (200, 404), raw
        assert pages.get("/runs/%ff").status_code == 404
