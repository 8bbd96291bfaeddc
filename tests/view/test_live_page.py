"""The list in a real browser: a run that begins appears by itself; no other host is asked."""

import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from tests.report.chromium import browser, no_chromium
from tests.report.hostile import store_runs
from tpo_graph import optimize
from tpo_graph.store.reading import open_to_read
from tpo_graph.store.urls import make_engine, parse_url
from tpo_graph.testing import ScriptedChatModel, prefer_longer
from tpo_graph.view.access import address, listening
from tpo_graph.view.server import application

pytestmark = pytest.mark.skipif(no_chromium() is not None, reason=no_chromium() or "")


@contextmanager
def pages(database: str) -> Generator[str]:
    """Their address."""
    taken = listening("127.0.0.1", 0)
    url = address(taken)
    engine = make_engine(parse_url(database))
    with open_to_read(database) as opened:
        server = uvicorn.Server(
            uvicorn.Config(
                application(opened, "127.0.0.1", writing=engine),
                log_config=None,
                timeout_graceful_shutdown=1,
                ws="none",
            )
        )
        thread = threading.Thread(target=server.run, args=([taken],))
        thread.start()
        try:
            yield url
        finally:
            server.should_exit = True
            thread.join(30)
            engine.dispose()
    assert not thread.is_alive()


def test_a_new_run_appears_and_can_be_opened(tmp_path: Path):
    database = f"sqlite:///{tmp_path / 'tpo.db'}"
    store_runs(database)
    with pages(database) as url, browser() as chromium:
        page = chromium.new_page(viewport={"width": 360, "height": 740})
        complaints: list[str] = []
        asked: list[str] = []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(url)
        assert page.locator("#runs > li").count() == 5
        model = ScriptedChatModel()
        optimize(
            "Newest?",
            model=model,
            reward_model=prefer_longer,
            run_id="new",
            database=database,
            depth=1,
        )
        page.locator("#run-new .badge.finished").wait_for()
        assert page.locator("#runs > li").count() == 6
        assert page.locator("#runs > li").first.get_attribute("id") == "run-new"
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        for name in ("Compare Newest?", "Compare Why is the sky blue?"):
            page.get_by_role("checkbox", name=name).focus()
            page.keyboard.press("Space")
        page.keyboard.press("Enter")
        page.get_by_role("heading", name="What changed from A").wait_for()
        assert page.url == f"{url}/compare?a=new&b=sky"
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        page.go_back()
        page.get_by_role("link", name="Newest?").focus()
        page.keyboard.press("Enter")
        page.locator("#answer").wait_for()
        assert page.locator("h1").text_content() == "Newest?"
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        page.get_by_label("good").focus()
        page.keyboard.press("Space")
        page.get_by_label("Note").fill("Right\nand short")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        page.wait_for_url(f"{url}/runs/new#label")
        assert page.get_by_label("good").is_checked()
        assert page.get_by_label("Note").input_value() == "Right\nand short"
        page.goto(f"{url}/runs/hostile")
        assert page.evaluate("typeof window.hacked") == "undefined"
        assert page.locator("main img").count() == 0
        assert complaints == []
        assert all(each.startswith(url) or each == "data:," for each in asked)


def test_no_box_and_no_edge_covers_a_text(tmp_path: Path):
    """A title that reads from right to left has its tick box at its beginning."""
    database = f"sqlite:///{tmp_path / 'tpo.db'}"
    optimize(
        "\u0645\u0631\u062d\u0628\u0627 " * 40,
        model=ScriptedChatModel(replies=["short", "a longer reply"]),
        reward_model=lambda query, response: -1234.5 * len(response),
        run_id="large",
        database=database,
        depth=0,
    )
    with pages(database) as url, browser() as chromium:
        page = chromium.new_page(viewport={"width": 360, "height": 740})
        page.goto(url)
        ends = """row => {
            const text = document.createRange();
            text.selectNodeContents(row.querySelector(".title"));
            return [text, row.querySelector("input")].map(each => each.getBoundingClientRect());
        }"""
        title, box = page.locator("#run-large").evaluate(ends)
        assert title["right"] <= box["left"]
        page.goto(f"{url}/runs/large")
        chart = page.locator(".curve svg")
        assert chart.evaluate("chart => getComputedStyle(chart).overflow") == "visible"
        edge = page.locator(".curve").bounding_box()
        label = page.locator(".curve text", has_text="-17283").first.bounding_box()
        assert edge is not None
        assert label is not None
        assert edge["x"] < label["x"]


def test_a_comparison_follows_a_run_that_is_under_way(tmp_path: Path):
    database = f"sqlite:///{tmp_path / 'tpo.db'}"
    store_runs(database)
    reached, released = threading.Event(), threading.Event()

    def hold(query: str, response: str) -> float:
        if "!" in response:
            reached.set()
            assert released.wait(60)
        return float(len(response))

    given: Any = {"model": ScriptedChatModel(), "reward_model": hold, "database": database}
    run = threading.Thread(target=lambda: optimize("Late?", run_id="late", depth=1, **given))
    run.start()
    try:
        assert reached.wait(30)
        with pages(database) as url, browser() as chromium:
            page = chromium.new_page()
            page.goto(f"{url}/compare?a=late&b=sky")
            assert page.locator("#compared .badge.running").count() == 1
            drafts = page.locator("#column-0 details").first
            was_open = drafts.get_attribute("open") is not None
            drafts.locator("summary").first.click()
            released.set()
            page.locator("#compared .badge.running").wait_for(state="detached")
            assert page.locator("#compared .badge.finished").count() == 2
            assert page.locator("#column-0").get_by_text("Revisions of iteration 1").count() == 1
            is_open = page.locator("#column-0 details").first.get_attribute("open") is not None
            assert is_open != was_open  # as the reader left it
            names = page.locator("#compared tbody th").all_text_contents()
            assert all(name[:1].isupper() for name in names)
    finally:
        released.set()
        run.join(30)
