"""The pages over HTTP: what they show, what they let out, and that reading changes nothing."""

import hashlib
import json
import re
from collections.abc import Iterator
from datetime import timedelta
from html import unescape
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner
from pydantic import SecretStr
from sqlalchemy import create_engine, text
from starlette.testclient import TestClient

from tests.report.hostile import NASTY, store_runs
from tests.view.test_live_page import pages
from tpo_graph import optimize
from tpo_graph.cli import tpo
from tpo_graph.errors import ConfigurationError, DatabaseVersionError
from tpo_graph.report import write_report
from tpo_graph.store.migrate import downgrade
from tpo_graph.store.reading import open_to_read
from tpo_graph.store.tables import now
from tpo_graph.store.urls import make_engine, parse_url
from tpo_graph.testing import ScriptedChatModel, prefer_longer
from tpo_graph.view.app import Live
from tpo_graph.view.server import application

KEY = SecretStr("key-4711")


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    url = f"sqlite:///{tmp_path_factory.mktemp('view') / 'tpo.db'}"
    store_runs(url)
    return url


@pytest.fixture
def client(database: str) -> Iterator[TestClient]:
    with open_to_read(database) as opened:
        yield TestClient(application(opened, "127.0.0.1"), base_url="http://127.0.0.1")


def runs(page: str) -> list[str]:
    return re.findall(r'<li id="run-([^"]+)"', page)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", ["failing", "unchanged", "sky", "arabic", "hostile"]),
        ("q=BLUE+sky", ["sky"]),
        ("q=sk", ["sky"]),  # the beginning of an id, and of a word
        ("q=role", []),  # a key of the stored conversation is no word of it
        ("q=100%25", []),
        ("state=failed", ["failing"]),
        ("state=running", []),
        ("order=oldest", ["hostile", "arabic", "sky", "unchanged", "failing"]),
        (f"page={9 * 10**20}", []),
        ("order=nonsense&page=0&state=%27", ["failing", "unchanged", "sky", "arabic", "hostile"]),
        ("page=2", []),
    ],
)
def test_runs_are_searched_filtered_and_ordered_by_the_address(
    client: TestClient, query: str, found: list[str]
):
    assert runs(client.get(f"/?{query}").text) == found


def test_a_query_that_a_database_cannot_compare_hides_no_other(database_url: str):
    given: dict[str, Any] = {"model": ScriptedChatModel(), "reward_model": prefer_longer}
    for name, query in (("zero", "a\x00b"), ("plain", "Why is the sea salty?")):
        optimize(query, database=database_url, run_id=name, depth=0, width=2, **given)
    with open_to_read(database_url) as opened:
        pages = TestClient(application(opened, "127.0.0.1"), base_url="http://127.0.0.1")
        assert runs(pages.get("/").text) == ["plain", "zero"]
        assert runs(pages.get("/?q=salty").text) == ["plain"]
        assert pages.get("/runs/zero").status_code == 200


def test_a_run_shows_all_samples_with_what_changed(client: TestClient):
    page = client.get("/runs/sky").text
    assert page.count('class="sample"') == 6  # three drafts, three revisions
    assert "sample 1" in page
    assert "sample 0" not in page
    assert "<ins>" in page
    assert "Critique of the pair" in page
    assert re.search(r"Gain</dt><dd class=\"value\">\+\d", page)
    assert client.get("/runs/nobody").status_code == 404


def test_two_runs_stand_side_by_side(client: TestClient):
    page = client.get("/compare", params=[("run", "unchanged"), ("run", "sky")])
    assert page.url.query == b"a=unchanged&b=sky"  # an address to share
    assert "answered different queries" in page.text
    assert "<del>" in page.text
    tokens = re.search(r"Tokens</th><td[^>]*>(\d+)</td><td[^>]*>(\d+)</td><td>\+(\d+)<", page.text)
    assert tokens is not None
    one, other, more = map(int, tokens.groups())
    assert other - one == more > 0
    assert "D0-N3" in page.text
    assert "D1-N3" in page.text
    assert page.text.count('<polyline class="run-') == 2
    same = client.get("/compare?a=sky&b=sky").text
    assert "Both runs gave the same answer" in same
    for query in ("", "run=sky", "run=sky&run=arabic&run=hostile", "a=sky&b=nobody"):
        assert client.get(f"/compare?{query}").status_code == 404


OWN = {"Sec-Fetch-Site": "same-origin"}


@pytest.fixture
def writer(database: str) -> Iterator[TestClient]:
    engine = make_engine(parse_url(database))
    with open_to_read(database) as opened:
        pages = application(opened, "127.0.0.1", writing=engine)
        yield TestClient(pages, base_url="http://127.0.0.1")
    engine.dispose()


def test_a_label_is_kept_shown_found_and_exported(
    database: str, writer: TestClient, tmp_path: Path
):
    place, note = "/runs/sky/label", f"Too long.\r\n{NASTY}\x00"
    done = writer.post(place, data={"label": "bad", "note": note}, headers=OWN)
    assert done.status_code == 200  # after the redirect
    page = writer.get("/runs/sky").text
    assert 'value="bad" checked' in page
    assert f"Too long.\n{NASTY}" in unescape(page)
    assert NASTY not in page
    assert runs(writer.get("/?label=bad").text) == runs(writer.get("/?label=note").text) == ["sky"]
    assert runs(writer.get("/?label=good").text) == []
    export = CliRunner().invoke(tpo, ["runs", "export", "sky", "--database", database])
    assert json.loads(export.stdout)["label"] == {"label": "bad", "note": f"Too long.\n{NASTY}"}
    write_report(["sky"], tmp_path / "report.html", database=database)
    report = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "labelled bad" in report
    assert f"Too long.\n{NASTY}" in unescape(report)
    writer.post(place, data={"label": "", "note": " "}, headers=OWN)
    assert runs(writer.get("/?label=any").text) == []


@pytest.mark.parametrize(
    ("place", "values", "headers", "status"),
    [
        ("sky", {"label": "good"}, {}, 403),
        ("sky", {"label": "good"}, {"Sec-Fetch-Site": "cross-site"}, 403),
        ("sky", {"label": "good"}, {"Sec-Fetch-Site": "none"}, 403),
        ("sky", {"label": "good"}, {"Origin": "http://evil.example"}, 403),
        ("sky", {"label": "good"}, {"Origin": "null"}, 403),
        ("sky", {"label": "better"}, OWN, 400),
        ("sky", {"note": "x" * 10_001}, OWN, 400),
        ("sky", {"note": "x" * 300_000}, OWN, 400),
        ("nobody", {"label": "good"}, OWN, 404),
    ],
)
def test_no_label_comes_from_elsewhere_or_without_sense(
    writer: TestClient, place: str, values: dict[str, str], headers: dict[str, str], status: int
):
    reply = writer.post(f"/runs/{place}/label", data=values, headers=headers)
    assert reply.status_code == status
    assert runs(writer.get("/?label=any").text) == []


def test_an_older_browser_names_its_origin_and_pages_that_read_take_nothing(
    writer: TestClient, client: TestClient
):
    given: dict[str, Any] = {"data": {"label": ""}, "follow_redirects": False}
    own = writer.post("/runs/sky/label", headers={"Origin": "http://127.0.0.1"}, **given)
    assert own.status_code == 303
    assert client.post("/runs/sky/label", headers=OWN, **given).status_code == 403
    assert "<textarea" not in client.get("/runs/sky").text


def test_what_models_wrote_is_text_and_no_other_host_is_allowed(client: TestClient):
    for path in (
        "/",
        "/runs/hostile",
        "/runs/failing",
        "/compare?a=hostile&b=failing",
        "/?q=" + "%3Cscript%3E",
    ):
        reply = client.get(path)
        assert "<script>" not in reply.text
        assert "<img" not in reply.text
        policy = reply.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "//" not in policy
    assert NASTY not in client.get("/runs/hostile").text


def test_a_page_of_another_site_and_one_without_the_key_reach_nothing(database: str):
    with open_to_read(database) as opened:
        local = TestClient(application(opened, "127.0.0.1"), base_url="http://evil.example")
        assert local.get("/").status_code == 400
        with pytest.raises(ConfigurationError, match="TPO_VIEW_API_KEY"):
            application(opened, "0.0.0.0")
        locked = TestClient(application(opened, "0.0.0.0", KEY))
        refused = locked.get("/runs/sky")
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"].startswith("Basic")
        assert locked.get("/runs/sky", auth=("me", "key-4711")).status_code == 200


def test_a_run_whose_process_is_gone_is_not_called_running(database: str, client: TestClient):
    engine = create_engine(database)
    change = text("UPDATE tpo_runs SET status = :status, lease_seen_at = :at WHERE run_id = 'sky'")
    try:
        for seconds, state in ((0, "running"), (3600, "silent")):
            at = (now() - timedelta(seconds=seconds)).isoformat(" ")
            with engine.begin() as connection:
                connection.execute(change, {"status": "running", "at": at})
            assert runs(client.get(f"/?state={state}").text) == ["sky"]
            page = client.get("/runs/sky").text
            assert ("no sign of life" in page) == (state == "silent")
            assert "iteration 1: comparing" in page
    finally:
        with engine.begin() as connection:
            connection.execute(change, {"status": "finished", "at": None})
        engine.dispose()


def test_an_open_page_is_told_that_a_process_fell_silent_or_came_back(tmp_path: Path):
    database = f"sqlite:///{tmp_path / 'tpo.db'}"
    store_runs(database)
    engine = create_engine(database)
    change = "UPDATE tpo_runs SET status = 'running', lease_seen_at = :at WHERE run_id = 'sky'"

    def seen(seconds: int) -> None:
        at = (now() - timedelta(seconds=seconds)).isoformat(" ")
        with engine.begin() as connection:
            connection.execute(text(change), {"at": at})

    with pages(database) as url, httpx.Client(base_url=url, timeout=60) as client:
        for path in ("/events", "/runs/sky/events", "/compare/events?a=sky&b=arabic"):
            seen(-3600)
            with client.stream("GET", path) as stream:
                told = (line for line in stream.iter_lines() if line.startswith("data:"))
                assert "no sign of life" not in next(told)
                seen(3600)
                assert "no sign of life" in next(told)
                seen(-3600)
                assert "no sign of life" not in next(told)
    engine.dispose()


def test_only_pieces_that_changed_are_sent():
    sent: dict[str, str] = {}
    piece = '<p id="{}">{}</p>'.format
    first = Live({"a": piece("a", 1), "b": piece("b", 1)}, {"list": ["a", "b"]}).message(sent)  # type: ignore[dict-item]
    assert [part[1]["id"] for part in json.loads(first or "")["parts"]] == ["a", "b"]
    same = Live({"a": piece("a", 1), "b": piece("b", 1)}, {"list": ["a", "b"]})  # type: ignore[dict-item]
    assert same.message(sent) is None
    changed = Live({"a": piece("a", 1), "b": piece("b", 2)}, {"list": ["a", "b"]}).message(sent)  # type: ignore[dict-item]
    (part,) = json.loads(changed or "")["parts"]
    assert (part[0], part[1]["id"], part[2]) == ("p", "b", ["2"])


def test_reading_creates_and_migrates_nothing(tmp_path: Path):
    file = tmp_path / "none.db"
    result = CliRunner().invoke(tpo, ["view", "--database", f"sqlite:///{file}"])
    assert isinstance(result.exception, ConfigurationError)
    assert not file.exists()
    url = f"sqlite:///{tmp_path / 'old.db'}"
    store_runs(url)
    engine = make_engine(parse_url(url))
    downgrade(engine, "-1")
    engine.dispose()
    before = hashlib.sha256((tmp_path / "old.db").read_bytes()).digest()
    with pytest.raises(DatabaseVersionError, match="tpo db upgrade"), open_to_read(url):
        pass
    assert hashlib.sha256((tmp_path / "old.db").read_bytes()).digest() == before
