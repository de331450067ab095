"""The page in a browser: legend, values, sorting, filtering, paper, keyboard, at any width.

Debian's chromium, by way of Playwright; a machine without it skips these tests, but not where CI
is set in the environment.
"""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from harness.results.tables import Results
from reports.build import build
from reports.facts import Facts
from reports.index import entry, index
from reports.page.page import Drawing, page
from reports.page.sections import Section
from tests.reports.conftest import asking, one_run_lost

pytestmark = pytest.mark.slow

EVIL = "\"'><img src=x onerror=alert(1)><script>alert(2)</script>{{ 7 * 7 }}"
NUMBERS = {
    "cell": ["2+10", "6+6", "10+2", "dual encoder", "e", "f", "g"],
    "amount": ["12.3 M", "–", "860 k", "1,200", "7", "0.5 ± 0.1", "-3.2 [-4, -1]"],
}


def drawing(place: int) -> Drawing:
    """A figure of two designs, one of whose marks has a value, as the gallery draws them."""
    svg = f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 200 100">
    <g id="cell-0--a"><title>2+10 in figure {place}: +1.2</title>
     <rect x="10" y="10" width="40" height="40" style="fill: #440154"/></g>
    <g id="cell-1--a"><rect x="100" y="10" width="40" height="40" style="fill: #0072B2"/></g>
    <text x="10" y="90" style="font: 8px sans-serif">words</text></svg>"""
    return Drawing(title=f"Figure {place}", caption="how to read", svg=svg.encode())


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if not chromium:
        advice = "no chromium here to open pages in: `apt-get install chromium` brings it"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(advice)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


Open = Callable[..., Page]


@pytest.fixture
def opened(browser: Browser, tmp_path: Path) -> Iterator[Open]:
    """HTML -> a tab that shows it; at the end no error was said and nothing else was asked for."""
    errors: list[str] = []
    requests: list[str] = []
    context = browser.new_context(viewport={"width": 1280, "height": 800})

    def show(text: str, **media: str) -> Page:
        (tmp_path / "page.html").write_text(text)
        tab = context.new_page()
        tab.emulate_media(**media)
        tab.on("console", lambda message: errors.append(message.text))
        tab.on("pageerror", lambda error: errors.append(str(error)))
        tab.on("dialog", lambda dialog: errors.append(dialog.message))
        tab.on("request", lambda request: requests.append(request.url))
        tab.goto((tmp_path / "page.html").as_uri())
        return tab

    yield show
    tabs = len(context.pages)
    context.close()
    assert not errors
    assert len(requests) == tabs


@pytest.fixture(scope="module")
def text() -> str:
    """A page with three figures by hand, and a table by hand."""
    results = one_run_lost()
    more = Section(title="By hand", table=pd.DataFrame(NUMBERS))
    drawings = [drawing(place) for place in range(3)]
    return page(results, Facts.of(results), drawings, further=[more])


def opacities(tab: Page, cell: int) -> list[float]:
    tab.wait_for_timeout(200)  # they fade
    script = f"""[...document.querySelectorAll('.plot [data-cell="{cell}"]')]
        .map(e => Number(getComputedStyle(e).opacity))"""
    return tab.evaluate(script)


def column(tab: Page, name: str) -> list[str]:
    table = tab.get_by_role("table", name="By hand")
    return table.locator("tbody tr:visible").evaluate_all(
        "(rows, name) => rows.map(r => r.cells[name === 'cell' ? 0 : 1].textContent)", name
    )


def test_one_legend_acts_on_all_figures_and_tables(opened: Open, text: str) -> None:
    tab = opened(text)
    assert opacities(tab, 0) == opacities(tab, 1) == [1, 1, 1]
    chip = tab.get_by_role("button", name="2+10", exact=True)
    chip.click()
    assert chip.get_attribute("aria-pressed") == "true"
    assert opacities(tab, 0) == [1, 1, 1] and max(opacities(tab, 1)) < 0.2
    assert tab.locator("table.verdicts tr.lit").count() == 1
    tab.get_by_role("button", name="6+6", exact=True).click()
    assert opacities(tab, 0) == opacities(tab, 1) == [1, 1, 1]
    tab.get_by_role("button", name="Show all").click()
    assert opacities(tab, 1) == [1, 1, 1] and tab.locator(".lit").count() == 0
    assert chip.get_attribute("aria-pressed") == "false"


def test_the_legend_by_keyboard_alone(opened: Open, text: str) -> None:
    tab = opened(text)
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.textContent") == "Skip to the answer"
    assert tab.locator(".skip").bounding_box()["x"] >= 0
    tab.keyboard.press("Tab")
    assert tab.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    tab.keyboard.press("Space")
    assert max(opacities(tab, 1)) < 0.2
    tab.keyboard.press("Escape")
    assert opacities(tab, 1) == [1, 1, 1]
    for _ in range(6):  # the other designs, the theme, the first figure
        tab.keyboard.press("Tab")
        if tab.evaluate("document.activeElement.classList.contains('plotbox')"):
            break
    tab.keyboard.press("ArrowRight")
    assert tab.locator("#tip").inner_text() == "2+10 in figure 0: +1.2"
    tab.keyboard.press("Escape")
    assert tab.locator("#tip").is_hidden()


def test_values_show_under_the_pointer(opened: Open, text: str) -> None:
    tab = opened(text)
    tab.locator('.plot [data-cell="0"]').first.hover()
    assert tab.locator("#tip").inner_text() == "2+10 in figure 0: +1.2"
    tab.locator('.plot [data-cell="1"]').first.hover()  # without a value of its own: its name
    assert tab.locator("#tip").inner_text() == "6+6"
    tab.mouse.move(5, 400)
    assert tab.locator("#tip").is_hidden()


def test_columns_sort_as_what_they_hold(opened: Open, text: str) -> None:
    tab = opened(text)
    table = tab.get_by_role("table", name="By hand")
    head = table.get_by_role("columnheader", name="amount")
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    ascending = ["-3.2 [-4, -1]", "0.5 ± 0.1", "7", "1,200", "860 k", "12.3 M"]
    assert column(tab, "amount") == [*ascending, "–"]
    head.get_by_role("button").press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    assert column(tab, "amount") == [*reversed(ascending), "–"]  # nothing comes last both ways
    table.get_by_role("columnheader", name="cell").get_by_role("button").click()
    assert head.get_attribute("aria-sort") is None
    assert column(tab, "cell") == ["2+10", "6+6", "10+2", "dual encoder", "e", "f", "g"]


def test_tables_are_filtered_by_words(opened: Open, text: str) -> None:
    tab = opened(text)
    field = tab.get_by_role("searchbox", name="Filter rows of By hand")
    field.fill("10  2+")
    assert column(tab, "cell") == ["2+10"]
    assert tab.get_by_text("1 of 7 rows").is_visible()
    field.fill("")
    assert len(column(tab, "cell")) == 7


def test_paper_has_everything_in_light_colours(opened: Open, text: str) -> None:
    tab = opened(text, color_scheme="dark")
    folded = tab.locator("details:not([open])").count()
    assert folded and tab.evaluate("getComputedStyle(document.body).backgroundColor") != (
        "rgb(255, 255, 255)"
    )
    tab.emulate_media(media="print")
    tab.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert tab.locator("details:not([open])").count() == 0
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert tab.locator("#theme").is_hidden() and tab.locator(".filter").first.is_hidden()
    assert tab.locator("#legend").is_visible()
    tab.evaluate("dispatchEvent(new Event('afterprint'))")
    assert tab.locator("details:not([open])").count() == folded
    assert len(tab.pdf()) > 10_000


def test_dark_and_light_by_the_system_and_by_choice(opened: Open, text: str) -> None:
    tab = opened(text, color_scheme="dark")
    colour = "getComputedStyle(document.querySelector('.plot rect')).fill"
    dark = tab.evaluate(colour)
    assert dark != "rgb(68, 1, 84)"
    tab.get_by_role("button", name="Light").click()
    assert tab.evaluate(colour) == "rgb(68, 1, 84)"
    tab.get_by_role("button", name="Dark").click()
    assert tab.evaluate(colour) == dark


def test_what_others_wrote_stays_words(opened: Open) -> None:
    results = asking(one_run_lost(), question=EVIL, notes=(EVIL,), settings={"note": EVIL})
    results.runs["message"] = EVIL
    names = dict.fromkeys(results.runs["cell"]) | {"2+10": EVIL}
    for table in (results.runs, results.curves):
        table["cell"] = table["cell"].replace({"2+10": names["2+10"]})
    rows = [
        row.model_copy(update={"cell": EVIL if row.cell == "2+10" else row.cell})
        for row in results.study.rows
    ]
    results = asking(results, rows=tuple(rows))
    tab = opened(page(results, Facts.of(results), [drawing(0)], not_drawn=[EVIL]))
    assert tab.locator("h1").inner_text() == EVIL
    assert tab.locator("script").count() == 1 and tab.locator("img").count() == 0
    chip = tab.locator("[data-pick]").first
    assert chip.get_attribute("aria-label") == EVIL
    chip.click()
    assert opacities(tab, 0) == [1]


@pytest.mark.parametrize("width", [390, 1280, 1920])
def test_the_page_fits_its_window(opened: Open, make: Callable[..., Results], width: int) -> None:
    names = {f"split_bert text_layers={k}": float(k) for k in range(13)}
    made = make(names, seeds=5, floor="dual_encoder", control="split_bert text_layers=6")
    tab = opened(page(made, Facts.of(made), [drawing(0)] * 4))
    tab.set_viewport_size({"width": width, "height": 800})
    assert tab.evaluate("document.documentElement.scrollWidth") == width
    if width > 1000:  # question, answer and its figure above the fold
        boxes = [tab.locator(where).bounding_box() for where in (".hero .facts", ".hero .plot")]
        assert all(box["y"] + box["height"] <= 800 for box in boxes)
        figures = tab.locator(".figures").bounding_box()
        assert figures["width"] > 0.9 * width
    else:
        tab.set_viewport_size({"width": 703, "height": 1000})  # A4
        tab.emulate_media(media="print")
        tab.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert tab.evaluate("document.documentElement.scrollWidth") == 703


def test_every_part_has_its_heading_and_every_table_its_caption(opened: Open, text: str) -> None:
    tab = opened(text)
    assert tab.locator("h1").count() == 1 and tab.locator("main").count() == 1
    levels = tab.locator("h1, h2, h3").evaluate_all("all => all.map(e => Number(e.tagName[1]))")
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert tab.locator("table:not(:has(> caption)), thead th:not([scope=col])").count() == 0
    links = tab.locator(".contents a")
    assert links.count() == tab.locator("main section > h2").count() > 8
    assert all(tab.locator(link.get_attribute("href")).count() == 1 for link in links.all())
    ids = tab.locator("[id]").evaluate_all("all => all.map(e => e.id)")
    assert len(ids) == len(set(ids))


def test_a_figure_becomes_as_wide_as_the_page(opened: Open, text: str) -> None:
    tab = opened(text)
    button = tab.get_by_role("button", name="Widen Figure 1")
    before = tab.locator("figure", has=button).bounding_box()["width"]
    button.click()
    assert tab.locator("figure", has=button).bounding_box()["width"] > 1.8 * before


def test_the_whole_report_and_the_index_open_without_a_word(
    opened: Open, results: Results, tmp_path: Path
) -> None:
    written = build(results, tmp_path / "by_hand", links={"0000000000000000": "about:blank"})
    tab = opened(written.page.read_text())
    assert tab.locator("svg.plot").count() >= 4
    assert tab.get_by_role("link", name="0000000000000000").get_attribute("href") == "about:blank"
    tab = opened(index([entry(results, date="2026-11-27", link="by_hand/page.html")]))
    assert tab.get_by_role("link", name="Does the split").is_visible()
