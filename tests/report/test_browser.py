"""The report in a real browser: what it runs, asks for, shows, and how it can be used."""

import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.evaluation.values import full_comparison
from tests.report.chromium import browser, no_chromium
from tests.report.hostile import ARABIC, NASTY, SHOWN_CONTROLS, store_runs
from tpo_graph.evaluation.results import Answer, Estimate, Method, dump
from tpo_graph.report import write_report

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.skipif(no_chromium() is not None, reason=no_chromium() or "")


@pytest.fixture(scope="module")
def chromium() -> "Iterator[Browser]":
    with browser() as found:
        yield found


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Reports with trajectories in the page, with packed trajectories, and of a comparison."""
    folder = tmp_path_factory.mktemp("report")
    for name in ("plain", "packed"):
        database = f"sqlite:///{folder / name}.db"
        store_runs(database, huge=name == "packed")
        write_report([], folder / f"{name}.html", database=database)
    some = full_comparison()
    (cell,) = some.grid
    cells = [
        replace(cell, width=width, reward=Estimate(float(width), None, None))
        for width in (1, 5, 50, 100)
    ]
    dump(replace(some, grid=cells, notes=[NASTY], name="n" * 150), folder)
    write_report([str(folder)], folder / "compared.html", database=f"sqlite:///{folder / 'no'}.db")
    return {name: folder / f"{name}.html" for name in ("plain", "packed", "compared")}


class Visit:
    """A page of its own that notes whatever should not happen."""

    def __init__(self, chromium: "Browser", file: Path, **options: Any) -> None:
        self.context = chromium.new_context(**options)
        self.page: Page = self.context.new_page()
        self.complaints: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.complaints.append("dialog"), dialog.dismiss()))
        self.requests: list[Any] = []
        self.page.on("request", lambda request: self.requests.append(request))
        self.url = file.as_uri()
        self.page.goto(self.url)

    def asked_for(self) -> list[str]:
        """Addresses that the page asked for, beside its own, and was not refused."""
        return [
            request.url
            for request in self.requests
            if request.url.partition("#")[0] not in (self.url, "data:,")
            and request.failure != "csp"
        ]

    def open_all(self) -> None:
        """Open every trajectory and every table."""
        for _ in range(2):  # what is unpacked has tables of its own
            self.page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
            packed = self.page.locator("[data-block] > p")
            for _ in range(packed.count()):
                packed.first.wait_for(state="detached")


@pytest.fixture
def visit(chromium: "Browser", files: dict[str, Path]) -> Iterator[Any]:
    visits: list[Visit] = []

    def open_page(name: str = "plain", **options: Any) -> Visit:
        visits.append(Visit(chromium, files[name], **options))
        return visits[-1]

    yield open_page
    for each in visits:
        each.context.close()


@pytest.mark.parametrize("name", ["plain", "packed"])
def test_hostile_texts_are_shown_and_nothing_runs_or_is_asked_for(visit: Any, name: str):
    opened = visit(name)
    opened.open_all()
    page = opened.page
    shown = "\n".join(page.locator(".text").all_text_contents())
    assert NASTY in shown
    assert SHOWN_CONTROLS in shown
    assert "[U+202E]exe.txt[U+202C]" in shown
    assert "\u202e" not in page.content()
    assert page.evaluate("typeof window.hacked") == "undefined"
    assert page.locator("main img, main svg [onload], base").count() == 0
    assert page.locator("h1").count() == 1
    assert opened.complaints == []
    assert opened.asked_for() == []
    assert len(opened.requests) <= 2  # the file, and its icon of no bytes
    packed = page.locator("script[type='text/plain']").count()
    assert (packed > 0) == (name == "packed")


def test_nothing_can_be_added_to_the_page(visit: Any):
    opened = visit()
    opened.page.evaluate(
        """() => {
            for (const [tag, name, value] of [["img", "src", "https://example.invalid/i.png"],
                                              ["link", "href", "https://example.invalid/s.css"]]) {
                const element = document.createElement(tag);
                element.setAttribute(name, value);
                element.setAttribute("rel", "stylesheet");
                document.body.append(element);
            }
            const handler = document.createElement("p");
            document.body.append(handler);
            window.refused = 0;
            for (const attempt of [
                () => handler.setAttribute("onclick", "window.hacked = 1"),
                () => (handler.innerHTML = "<b>x</b>"),
                () => (document.createElement("script").textContent = "window.hacked = 1"),
                () => window.setTimeout("window.hacked = 1", 0),
            ]) try { attempt(); } catch (error) { window.refused += 1; }
            handler.click();
        }"""
    )
    assert opened.page.evaluate("[typeof window.hacked, window.refused]") == ["undefined", 4]
    opened.page.wait_for_timeout(100)
    assert opened.asked_for() == []
    assert any("Content Security Policy" in complaint for complaint in opened.complaints)


@pytest.mark.parametrize("name", ["plain", "packed", "compared"])
def test_a_phone_needs_no_sideways_scrolling(visit: Any, name: str):
    opened = visit(name, viewport={"width": 360, "height": 740}, is_mobile=True, has_touch=True)
    opened.open_all()
    assert opened.page.evaluate("document.documentElement.scrollWidth") == 360
    assert opened.page.evaluate("innerWidth") == 360


CONTRAST = """() => {
    // A canvas turns any colour, color-mix() included, into bytes.
    const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
    const bytes = (colour) => {
        canvas.clearRect(0, 0, 1, 1);
        canvas.fillStyle = colour;
        canvas.fillRect(0, 0, 1, 1);
        const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
        return [r, g, b, a / 255];
    };
    const over = (top, below) => below.map((c, i) => top[i] * top[3] + c * (1 - top[3]));
    const background = (element) => {
        if (!element) return bytes("canvas").slice(0, 3);
        const own = bytes(getComputedStyle(element).backgroundColor);
        return own[3] === 1 ? own.slice(0, 3) : over(own, background(element.parentElement));
    };
    const light = (rgb) => {
        const [r, g, b] = rgb.map((c) => c / 255)
            .map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const found = [];
    for (const element of document.querySelectorAll("body *")) {
        const texts = [...element.childNodes].filter((n) => n.nodeType === 3 && n.data.trim());
        if (!texts.length || element.closest("script, noscript, title, desc, [hidden]")) continue;
        const style = getComputedStyle(element);
        const inside = element.closest("svg");
        let behind = background(inside ? inside.parentElement : element);
        if (inside) {
            const place = element.getBoundingClientRect();
            const [x, y] = [place.x + place.width / 2, place.y + place.height / 2];
            // The cell of a heat map lies under its number.
            for (const path of inside.querySelectorAll("path[opacity]")) {
                const box = path.getBoundingClientRect();
                if (x < box.left || x > box.right || y < box.top || y > box.bottom) continue;
                const cell = getComputedStyle(path);
                const alpha = cell.fillOpacity * cell.opacity;
                behind = over([...bytes(cell.fill).slice(0, 3), alpha], behind);
            }
        }
        const front = bytes(inside ? style.fill : style.color);
        const [a, b] = [light(front.slice(0, 3)), light(behind)].sort((x, y) => y - x);
        const ratio = (a + 0.05) / (b + 0.05);
        found.push([ratio, `${element.tagName}.${element.className.baseVal ?? element.className}`]);
    }
    return found;
}"""


@pytest.mark.parametrize("name", ["plain", "compared"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_contrast(visit: Any, scheme: str, name: str):
    opened = visit(name, color_scheme=scheme)
    opened.open_all()
    ratios = opened.page.evaluate(CONTRAST)
    assert len(ratios) > 100
    assert [each for each in ratios if each[0] < 4.5] == []
    background = opened.page.evaluate("getComputedStyle(document.body).backgroundColor")
    channels = [int(number) for number in re.findall(r"\d+", background)]
    assert (max(channels) < 60) == (scheme == "dark")


def test_trajectories_open_with_the_keyboard(visit: Any):
    page = visit().page
    page.get_by_label("Order").select_option("longest answer")
    page.get_by_label("Order").focus()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "run"
    page.keyboard.press("Enter")
    page.locator("details[open] .trajectory").first.wait_for()
    # A text that scrolls is the next thing that the keyboard reaches.
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('role')") == "region"
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Space")
    assert page.locator("details[open]").count() == 0


@pytest.mark.parametrize("name", ["plain", "packed", "compared"])
def test_the_page_is_laid_out_for_screen_readers(visit: Any, name: str):
    opened = visit(name)
    opened.open_all()
    page = opened.page
    levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3,h4')].map(e => +e.tagName[1])")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later - earlier <= 1 for earlier, later in pairwise(levels))
    assert page.evaluate("document.documentElement.lang") == "en"
    assert page.locator("header").count() == page.locator("main").count() == 1
    figures = page.locator("figure")
    assert figures.count() >= 4
    for figure in figures.all():
        image = figure.get_by_role("img")
        name, about = (
            image.get_attribute(f"aria-{part}") for part in ("labelledby", "describedby")
        )
        assert page.locator(f"[id='{name}']").text_content()
        assert len(page.locator(f"[id='{about}']").text_content() or "") > 15
        assert figure.get_by_role("table").count() == 1
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))
    for label in ("Search", "Show", "Order"):
        assert page.get_by_label(label, exact=True).count() == page.locator("#runs").count()


def test_right_to_left_text_reads_from_the_right_and_leaves_its_surroundings(visit: Any):
    opened = visit()
    title = opened.page.locator(".title", has_text=ARABIC).first
    assert title.evaluate("e => getComputedStyle(e).direction") == "rtl"
    assert title.evaluate("e => getComputedStyle(e.parentElement).direction") == "ltr"
    assert title.evaluate("e => getComputedStyle(e).unicodeBidi") in ("isolate", "plaintext")


def queries(page: "Page") -> list[str]:
    titles = page.locator("#runs > li:visible .title").all_text_contents()
    return [title.split()[0].strip("?") for title in titles]


def test_queries_are_searched_filtered_and_sorted(visit: Any):
    page = visit().page
    assert len(queries(page)) == 5
    page.get_by_label("Search").fill("SKY blue")
    assert queries(page) == ["Why"]
    assert page.get_by_role("status").text_content() == "1 of 5 shown"
    page.get_by_label("Search").fill("failing")  # a run's id
    assert queries(page) == ["Does"]
    page.get_by_label("Search").fill("")
    page.get_by_label("Show").select_option("failed")
    assert queries(page) == ["Does"]
    page.get_by_label("Show").select_option("improved")
    assert sorted(queries(page)) == ["Question", "Why"]
    page.get_by_label("Show").select_option("stopped by depth")
    assert len(queries(page)) == 4
    page.get_by_label("Show").select_option("all")
    page.get_by_label("Order").select_option("smallest gain")
    shown = queries(page)
    assert set(shown[2:4]) == {"Question", "Why"}
    assert shown[-1] == "Does"  # no gain to sort by: last, whichever way
    page.get_by_label("Order").select_option("longest answer")
    assert [queries(page)[0], queries(page)[-2]] == ["Question", "Unchanged"]


def test_an_address_with_a_query_opens_it(visit: Any, files: dict[str, Path]):
    page = visit("packed").page
    page.goto(files["packed"].as_uri() + "#query-8")
    page.locator("#query-8 .trajectory").wait_for()
    assert page.locator("details[open]").count() == 1


def test_without_scripts_a_small_report_is_whole_and_a_large_one_says_what_it_needs(visit: Any):
    page = visit("plain", java_script_enabled=False).page
    assert page.locator("#controls").is_hidden()
    page.locator("summary.run").first.click()
    assert page.locator("details[open] .trajectory h3").count() > 1
    page = visit("packed", java_script_enabled=False).page
    page.locator("summary.run").first.click()
    assert "script" in (page.locator("details[open] p").text_content() or "")


def test_a_cell_of_the_matrix_and_a_dot_lead_to_their_texts(
    chromium: "Browser", files: dict[str, Path], tmp_path: Path
):
    some = full_comparison()
    methods = [
        replace(
            some.methods[0],
            method=Method(name, name, 3, depth, "", "policy"),
            answers=[Answer("row", 0, run_id, reward, 1.0, int(reward), 9)],
        )
        for name, depth, run_id, reward in (
            ("tpo", 1, "sky", 0.0),
            ("best-of-3", 0, "unchanged", 14.0),
        )
    ]
    folder = dump(replace(some, methods=methods, pairs=[]), tmp_path).parent
    database = f"sqlite:///{files['plain'].with_suffix('.db')}"
    write_report([str(folder)], tmp_path / "matrix.html", database=database)
    opened = Visit(chromium, tmp_path / "matrix.html")
    page = opened.page
    cell = page.locator(".matrix summary", has_text="longest of all")
    cell.focus()
    page.keyboard.press("Enter")
    assert page.locator(".matrix details[open] .text").inner_text() == "longest of all"
    page.locator(".matrix").get_by_role("link", name="trajectory").first.click()
    page.locator("#query-1 > details[open] .trajectory").wait_for()
    dot = page.locator("figure a[href='#query-2']").first
    assert "Unchanged?" in (dot.locator("title").text_content() or "")
    dot.locator("use").dispatch_event("click")
    page.locator("#query-2 > details[open] .trajectory").wait_for()
    sample = page.locator("#query-1 .curve a").last
    sample.locator("circle").dispatch_event("click")
    page.locator(f"{sample.get_attribute('href')}[open]").wait_for()
    assert opened.complaints == []
    opened.context.close()
