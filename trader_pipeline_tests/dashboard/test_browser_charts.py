"""Charts and tables in headless Chromium: a chart is drawn once, kept where it did not change, and fits its place."""

from __future__ import annotations

from typing import Any

import pytest

from trader_pipeline_tests.dashboard.test_browser_frame import NARROW, WIDE, open_page
from trader_pipeline_tests.dashboard.test_browser_frame import tab as tab

pytestmark = pytest.mark.slow
_COUNT_DRAWINGS = """() => {
  window.drawings = [];
  const react = Plotly.react;
  Plotly.react = (node, ...rest) => { drawings.push(node.parentNode.id); return react(node, ...rest); };
}"""
_FITS = """() => [...document.querySelectorAll(".drawing")].every(
  (node) => Math.abs(node.querySelector(".main-svg").getBoundingClientRect().width - node.clientWidth) < 2)"""


def test_a_choice_draws_what_it_changes_and_keeps_the_rest(tab: Any, dashboard_address: str) -> None:
    tab.set_viewport_size(WIDE)
    open_page(tab, f"{dashboard_address}/market?bar=1D", "Market")
    kept = "document.querySelector('#market-volatility .drawing').mark"
    tab.evaluate(f"{kept} = 'the same'")
    tab.evaluate(_COUNT_DRAWINGS)
    tab.select_option("[data-param=bar] select", "2D")
    tab.wait_for_selector("text=in bars of 2 d")
    assert tab.evaluate("drawings") == ["market-candles"]
    assert tab.evaluate(kept) == "the same"
    assert tab.heard == []


def test_charts_fit_after_the_window_changed(tab: Any, dashboard_address: str) -> None:
    tab.set_viewport_size(WIDE)
    open_page(tab, f"{dashboard_address}/market", "Market")
    for size in (NARROW, WIDE):
        tab.set_viewport_size(size)
        tab.wait_for_function(_FITS)


def test_a_folded_chart_fits_when_it_is_opened(tab: Any, dashboard_address: str) -> None:
    tab.set_viewport_size(WIDE)
    open_page(tab, f"{dashboard_address}/market", "Market")
    tab.evaluate(
        """() => {
          const fold = document.createElement("details");
          fold.innerHTML = "<summary>Open</summary><div></div>";
          document.getElementById("content").append(fold);
          const figure = {data: [{y: [1, 2]}], layout: {}};
          const chart = React.createElement(trader_pipeline_dashboard.Chart, {id: "folded", figure, height: 200});
          ReactDOM.createRoot(fold.lastChild).render(chart);
        }"""
    )
    tab.set_viewport_size(NARROW)
    tab.click("summary:text-is('Open')")
    tab.wait_for_selector("#folded .main-svg")
    tab.wait_for_function(_FITS)


def test_a_page_that_is_left_gives_its_charts_up(tab: Any, dashboard_address: str) -> None:
    open_page(tab, f"{dashboard_address}/market", "Market")
    tab.evaluate("window.candles = document.querySelector('#market-candles .drawing')")
    tab.click("nav >> text=Lineage")
    tab.wait_for_selector("h1:text-is('Lineage')")
    tab.wait_for_function("window.candles.childElementCount === 0")
    tab.go_back()
    tab.wait_for_selector("#market-candles .main-svg")
    assert tab.heard == []


def test_a_link_in_a_table_does_not_load_the_document_again(tab: Any, dashboard_address: str) -> None:
    open_page(tab, f"{dashboard_address}/lineage?table=window_klines", "Lineage")
    tab.evaluate("window.still = true")
    link = tab.wait_for_selector(".markup td a[href^='/lineage']")
    target = link.get_attribute("href")
    link.focus()
    tab.keyboard.press("Enter")
    tab.wait_for_url(f"**{target}")
    assert tab.evaluate("window.still")
    tab.go_back()
    tab.wait_for_url("**/lineage?table=window_klines")
    with tab.context.expect_page() as opened:
        tab.click(f".markup td a[href='{target}'] >> nth=0", modifiers=["ControlOrMeta"])
    assert opened.value.url.endswith(target)
    opened.value.close()
    assert "table=window_klines" in tab.url
