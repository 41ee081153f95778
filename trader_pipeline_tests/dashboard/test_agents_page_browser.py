"""Corpora, Paper and Agents in a browser: what a hover tells, that markup stays text, and parts that come later."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from trader_pipeline.profile import Profile
from trader_pipeline_tests.agents.scripted import reply
from trader_pipeline_tests.dashboard.pages_data import MARKUP, write_agent_run, write_corpus
from trader_pipeline_tests.dashboard.serving import served
from trader_pipeline_tests.paper.replay_lines import numbered_file

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory, profile: Profile) -> Iterator[str]:
    root = tmp_path_factory.mktemp("pages")
    write_corpus(root)
    write_agent_run(root, [reply("buy", 5_000.0, f"It rose. {MARKUP}")])
    write_agent_run(root, [reply("buy", 5_000.0)], name="long", candles=60)
    books = root / "paper" / "live" / "BTC_5m"
    books.mkdir(parents=True)
    (books / "replay.jsonl").write_bytes(b"".join(numbered_file(12)))
    with served(root, profile) as address:
        yield address


@pytest.fixture
def page(browser, address):
    """A page that holds against the test whatever the console says and whatever script runs."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: (said.append(f"dialog {dialog.message}"), dialog.dismiss()))
    yield page
    context.close()
    assert said == []


def test_a_hover_over_an_action_tells_its_reasoning_as_text(page, address: str):
    page.goto(f"{address}/agents?name=first")
    mark = page.locator(".scatterlayer path.point").first
    mark.wait_for()
    mark.scroll_into_view_if_needed()
    page.wait_for_timeout(500)  # plotly lays the marks out twice
    box = mark.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_selector(".hoverlayer .hovertext")
    told = page.locator(".hoverlayer").first.text_content()
    assert "buy 5,000 USD" in told
    assert MARKUP[:4] in told


def test_a_link_to_a_place_of_the_same_page_goes_there(page, address: str):
    page.goto(f"{address}/agents?name=first")
    page.click("#content td a[href$='name=first#chosen']")
    assert page.url.endswith("/agents?name=first#chosen")
    assert page.evaluate("document.activeElement.id") == "chosen"
    page.wait_for_timeout(700)
    assert page.evaluate("document.getElementById('content').style.minHeight") == ""
    page.go_back()
    page.wait_for_timeout(700)
    assert page.url.endswith("/agents?name=first")
    assert page.evaluate("document.getElementById('content').style.minHeight") == ""


FOCUSED = "document.activeElement.name || document.activeElement.textContent"


def test_a_link_within_the_page_keeps_the_place_and_the_keyboard(page, address: str):
    page.goto(f"{address}/agents?name=long")
    page.wait_for_selector(".chart .main-svg")
    link = page.locator(".paging a", has_text="Next")
    link.focus()
    page.wait_for_function("scrollY > 500")
    page.wait_for_timeout(800)  # it scrolls smoothly
    before = page.evaluate("scrollY")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=Page 2 of 3")
    page.wait_for_timeout(300)
    assert page.evaluate("scrollY") == before
    assert page.evaluate(FOCUSED) == "Next"
    page.locator("th a", has_text="decision time").click()
    page.wait_for_selector("th[aria-sort]")
    page.wait_for_timeout(300)
    assert page.evaluate(FOCUSED).startswith("decision time")


def test_a_choice_keeps_the_keyboard_and_a_section_is_jumped_to(page, address: str):
    page.goto(f"{address}/agents?name=long")
    page.wait_for_selector(".chart .main-svg")
    page.focus("select[name=name]")
    page.select_option("select[name=name]", "first")
    page.wait_for_selector("h2:text-is('first')")
    page.wait_for_timeout(300)
    assert page.evaluate(FOCUSED) == "name"
    page.locator("td a", has_text="long").click()
    page.wait_for_selector("h2:text-is('long')")
    page.wait_for_timeout(300)
    assert page.evaluate(FOCUSED) == "long"
    assert page.evaluate("document.activeElement.getBoundingClientRect().top") < 60


def test_markup_of_a_record_is_shown_and_not_run(page, address: str):
    page.goto(f"{address}/corpora?record={0:016x}")
    page.wait_for_selector(".chat")
    assert MARKUP in page.locator(".chat-user").inner_text()
    assert page.locator("#content img").count() == 0


def test_a_part_that_comes_later_follows_the_choices(page, address: str):
    page.goto(f"{address}/paper?source=live")
    page.wait_for_selector("text=BTC_5m/spot")
    page.locator("th a", has_text="P&L").click()
    page.wait_for_selector("th[aria-sort=descending]")
    assert "sort=-pnl_pct" in page.url
    assert page.locator("text=BTC_5m/spot").count() == 1
