"""Every page in headless Chromium: it opens, says nothing on the console, passes axe in light and dark, fits a phone.

Screenshots stay in the folder that TRADER_PIPELINE_SCREENSHOTS names.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from trader_pipeline.dashboard.page import Page
from trader_pipeline.dashboard.pages import PAGES

pytestmark = pytest.mark.slow
_CHARTS_FIT = """() => [...document.querySelectorAll(".chart .main-svg")].every(
  (svg) => !svg.checkVisibility()
    || Math.abs(svg.getBoundingClientRect().width - svg.closest(".chart").clientWidth) < 2)"""
WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def tab(browser: Any, dashboard_address: str) -> Iterator[Any]:
    """One tab for all pages: what the browser keeps, it keeps from page to page. `heard` is what went wrong in it."""
    context = browser.new_context(viewport=WIDE, color_scheme="light")
    tab = context.new_page()
    tab.heard = []
    tab.on("console", lambda message: tab.heard.append(f"{message.type}: {message.text}"))
    tab.on("pageerror", lambda error: tab.heard.append(str(error)))
    tab.on("request", lambda request: _note_foreign(tab, request.url, dashboard_address))
    yield tab
    context.close()


def _note_foreign(tab: Any, url: str, own: str) -> None:
    if not url.startswith((own, "data:", "blob:")):
        tab.heard.append(f"asked for {url}")


def open_page(tab: Any, address: str, title: str) -> None:
    tab.heard.clear()
    tab.goto(address)
    tab.wait_for_selector(f'h1:text-is("{title}")')
    if tab.query_selector(".chart"):
        tab.wait_for_selector(".chart .main-svg")


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.path)
def test_a_page_opens_reads_well_and_fits(
    tab: Any, dashboard_address: str, screenshots: Path, page: Page
) -> None:
    from axe_playwright_python.sync_playwright import Axe

    tab.set_viewport_size(WIDE)
    open_page(tab, dashboard_address + page.path, page.title)
    name = page.path.strip("/") or "home"
    for scheme in ("light", "dark"):
        tab.emulate_media(color_scheme=scheme)
        tab.set_viewport_size(WIDE)
        tab.wait_for_function(_CHARTS_FIT)
        found = Axe().run(tab).response["violations"]
        serious = [(f["id"], f["nodes"][0]["html"]) for f in found if f["impact"] in ("serious", "critical")]
        assert not serious
        tab.screenshot(path=screenshots / f"{name}_{scheme}_1280.png", full_page=True)
        tab.set_viewport_size(NARROW)
        tab.wait_for_function(_CHARTS_FIT)
        assert tab.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]
        tab.screenshot(path=screenshots / f"{name}_{scheme}_390.png", full_page=True)
    levels = tab.eval_on_selector_all("h1, h2, h3, h4", "found => found.map(h => Number(h.tagName[1]))")
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert page.title in tab.title()
    assert tab.query_selector(".problem") is None
    assert tab.heard == []


def test_the_first_stop_of_the_keyboard_skips_to_the_page(tab: Any, dashboard_address: str) -> None:
    open_page(tab, f"{dashboard_address}/market", "Market")
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.textContent") == "Skip to the page"
    tab.keyboard.press("Enter")
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.querySelector('#content').contains(document.activeElement)")


def test_a_choice_goes_into_the_address_and_back(tab: Any, dashboard_address: str) -> None:
    tab.set_viewport_size(WIDE)
    open_page(tab, f"{dashboard_address}/market", "Market")
    tab.select_option("[data-param=bar] select", "1D")
    tab.wait_for_selector("text=in bars of 1 d")
    assert tab.url.endswith("/market?bar=1D")
    tab.fill("#field-from", "2021-06-01")
    tab.press("#field-from", "Enter")
    tab.wait_for_selector("text=from 2021-06-01")
    assert tab.url.endswith("/market?bar=1D&from=2021-06-01")
    tab.go_back()
    tab.wait_for_selector("text=from 2021-01-01")
    assert tab.input_value("[data-param=bar] select") == "1D"
    assert tab.heard == []


def test_no_key_is_lost_while_the_page_is_laid_out_anew(tab: Any, dashboard_address: str) -> None:
    tab.set_viewport_size(WIDE)
    open_page(tab, f"{dashboard_address}/market", "Market")
    field = "document.querySelector('select[name=bar]')"
    chosen = tab.evaluate(f"{field}.selectedIndex")
    tab.focus("select[name=bar]")
    for pause in (30, 60, 30, 150, 60):
        tab.keyboard.press("ArrowDown")
        tab.wait_for_timeout(pause)
    tab.wait_for_timeout(1000)  # what a late answer would still change
    assert tab.evaluate(f"{field}.selectedIndex") == chosen + 5
    assert tab.evaluate("document.activeElement.name") == "bar"
    assert tab.heard == []


def test_back_to_another_page_is_where_it_was_left(tab: Any, dashboard_address: str) -> None:
    tab.set_viewport_size(WIDE)
    open_page(tab, f"{dashboard_address}/market", "Market")
    tab.evaluate("window.scrollTo({ top: 400, behavior: 'instant' })")
    tab.eval_on_selector("nav a[href='/lineage']", "link => link.click()")  # a mouse would scroll there first
    tab.wait_for_selector("h1:text-is('Lineage')")
    tab.wait_for_function("window.scrollY === 0")
    tab.go_back()
    tab.wait_for_selector("#market-candles .main-svg")
    tab.wait_for_timeout(1000)  # until the page's height is free again
    assert tab.evaluate("[window.scrollY, document.getElementById('content').style.minHeight]") == [400, ""]
    assert tab.heard == []


def test_an_address_with_a_lone_percent_sign_opens(tab: Any, dashboard_address: str) -> None:
    open_page(tab, f"{dashboard_address}/market#%", "Market")
    tab.wait_for_timeout(500)
    assert tab.heard == []


def test_a_zoom_goes_into_the_address(tab: Any, dashboard_address: str) -> None:
    tab.set_viewport_size(WIDE)
    open_page(tab, f"{dashboard_address}/market", "Market")
    box = tab.wait_for_selector("#market-candles .nsewdrag").bounding_box()
    middle = box["y"] + box["height"] / 2
    tab.mouse.move(box["x"] + 0.5 * box["width"], middle)
    tab.mouse.down()
    tab.mouse.move(box["x"] + 0.6 * box["width"], middle, steps=4)
    tab.mouse.up()
    tab.wait_for_selector("text=in bars of 1 h")
    assert "from=2021-07-0" in tab.url
    assert "to=2021-08-0" in tab.url
    for _ in range(2):  # the second finds all of it shown, and changes nothing
        tab.wait_for_timeout(500)
        tab.mouse.dblclick(box["x"] + 0.5 * box["width"], middle)
        tab.wait_for_selector("text=from 2021-01-01")
        assert tab.url.endswith("/market")
        shown = tab.evaluate("document.querySelector('#market-candles .drawing')._fullLayout.xaxis.range")
        assert shown[0][:7] <= "2021-01"
        assert shown[1][:7] >= "2021-12"


def test_the_theme_is_kept(tab: Any, dashboard_address: str) -> None:
    tab.emulate_media(color_scheme="light")
    open_page(tab, dashboard_address, "Overview")
    colour = "getComputedStyle(document.body).backgroundColor"
    light = tab.evaluate(colour)
    tab.click("#theme-switch")
    dark = tab.evaluate(colour)
    assert dark != light
    open_page(tab, f"{dashboard_address}/market", "Market")
    assert tab.evaluate(colour) == dark
    tab.click("#theme-switch")
    assert tab.evaluate(colour) == light
