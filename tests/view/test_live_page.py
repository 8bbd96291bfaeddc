"""The list in a real browser: a run that begins appears by itself; no other host is asked."""

import threading
from pathlib import Path

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


def test_a_new_run_appears_and_can_be_opened(tmp_path: Path):
    database = f"sqlite:///{tmp_path / 'tpo.db'}"
    store_runs(database)
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
            with browser() as chromium:
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
        finally:
            server.should_exit = True
            thread.join(30)
            engine.dispose()
    assert not thread.is_alive()
