"""Speed of the dashboard in Chromium: `python benchmarks/dashboard.py [--rows 1000000] [--run FOLDER] [--rounds 5]`.

First paint is from the request of a page in an empty browser (nothing cached) until its heading and content stand; of
charts until they are drawn. An interaction is from a choice or a click until the page that answers it is drawn: until
the last change of its elements, with no request under way. That Dash marks an element as loading is no such change.
"""

from __future__ import annotations

import logging
import statistics
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import click

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from werkzeug.serving import make_server

from benchmarks._dashboard_data import build_folder
from benchmarks._results import record, rounded, table
from trader_pipeline.dashboard.app import create_app
from trader_pipeline.dashboard.pages import PAGES
from trader_pipeline.settings import load_profile

FIRST_PAINT_GOAL, INTERACTION_GOAL = 1_000, 200
_WATCH = """
  window.seen = {};
  new MutationObserver(() => {
    if (!seen.page && document.querySelector("#content h1")) seen.page = performance.now();
    const drawn = document.querySelectorAll(".chart .main-svg").length;
    if (drawn !== (seen.drawn || 0)) { seen.drawn = drawn; seen.chart = performance.now(); }
  }).observe(document, {childList: true, subtree: true});
"""
_COUNT = """
  window.asked = 0;
  const ask = window.fetch;
  window.fetch = (...all) => { asked += 1; return ask(...all).finally(() => { asked -= 1; }); };
"""
_ACT = """
  async (act) => {
    const main = document.getElementById("content");
    const start = performance.now();
    let last = null, answered = false;
    const watch = new MutationObserver((changes) => {
      const seen = changes.filter(c => !(c.type === "attributes" && c.attributeName === "data-dash-is-loading"));
      if (seen.length) last = performance.now();
      if (seen.some(c => c.type === "childList")) answered = true;
    });
    watch.observe(main, {childList: true, subtree: true, attributes: true, characterData: true});
    const [kind, selector, value] = act;
    const element = document.querySelector(selector);
    if (kind === "choose") {
      element.value = value;
      element.dispatchEvent(new Event("change", {bubbles: true}));
    } else element.click();
    while (performance.now() - start < 5000) {
      await new Promise(done => setTimeout(done, 20));
      if (answered && !asked && performance.now() - last > 250) break;
    }
    watch.disconnect();
    return answered ? last - start : null;
  }
"""


@click.command()
@click.option("--rows", default=1_000_000, show_default=True, help="Candidate rows.")
@click.option(
    "--run", type=click.Path(exists=True, path_type=Path), help="Data folder of a run for the other tables."
)
@click.option("--rounds", default=5, show_default=True)
@click.option("--chromium", default="/usr/bin/chromium", show_default=True, help="The browser.")
def main(rows: int, run: Path | None, rounds: int, chromium: str) -> None:
    """Measure every page and write the section `Dashboard`."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        build_folder(Path(folder), rows=rows, run=run)
        app = create_app(load_profile("tiny"), data_root=folder)
        server = make_server("127.0.0.1", 0, app.server, threaded=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            measured = _measure(f"http://127.0.0.1:{server.port}", rounds, chromium)
        finally:
            server.shutdown()
    record("Dashboard", _text(measured, rows, rounds))


Acts = dict[str, tuple[list[float], list[float]]]
"""Milliseconds by what was done: when the server was asked for the first time, and when it was asked again."""


def _measure(base: str, rounds: int, chromium: str) -> list[tuple[str, dict[str, list[float]], Acts]]:
    from playwright.sync_api import sync_playwright

    rows = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for page in PAGES:
            paints = [_paint(browser, base + page.path) for _ in range(rounds + 1)][1:]
            by_name = {n: [p[n] for p in paints if n in p] for n in ("page", "chart")}
            rows.append((page.title, by_name, _interactions(browser, base + page.path, rounds)))
        browser.close()
    return rows


def _paint(browser: Any, address: str) -> dict[str, float]:
    context = browser.new_context()
    tab = context.new_page()
    tab.add_init_script(_WATCH)
    tab.goto(address)
    tab.wait_for_selector("#content h1")
    if tab.query_selector(".chart"):
        tab.wait_for_selector(".chart .main-svg")
        tab.wait_for_timeout(300)
    seen: dict[str, float] = tab.evaluate("window.seen")
    context.close()
    return seen


def _interactions(browser: Any, address: str, rounds: int) -> Acts:
    """The page's choices (set to other options), sorting, the next rows: each twice from the page as it opens."""
    found: Acts = {}
    tab = browser.new_page()
    tab.add_init_script(_COUNT)
    _open(tab, address)
    options = tab.evaluate(
        """() => [...document.querySelectorAll("[data-param] select")].map(s =>
          [s.name, [...s.options].map(o => o.value).filter(v => v && v !== s.value)])"""
    )
    acts = [
        (name, ["choose", f'[data-param="{name}"] select', value])
        for name, v in options
        for value in v[:rounds]
    ]
    acts += [(name, ["click", place, ""]) for place, name in _CLICKS.items() for _ in range(rounds)]
    for name, act in acts:
        for again in (False, True):
            _open(tab, address)
            if tab.query_selector(act[1]) and (spent := tab.evaluate(_ACT, act)) is not None:
                found.setdefault(name, ([], []))[again].append(spent)
    tab.close()
    return found


_CLICKS = {"th a": "sort", ".paging a": "next rows"}


def _open(tab: Any, address: str) -> None:
    """The page, at rest."""
    tab.goto(address)
    tab.wait_for_selector("#content h1")
    if tab.query_selector(".chart"):
        tab.wait_for_selector(".chart .main-svg")
    tab.wait_for_timeout(300)


def _text(measured: list[tuple[str, dict[str, list[float]], Acts]], rows: int, rounds: int) -> str:
    lines = []
    for title, paints, acts in measured:
        painted = [rounded(statistics.median(v)) if (v := paints[n]) else "" for n in ("page", "chart")]
        first = {name: max(spent) for name, (spent, _) in acts.items()}
        known = {name: statistics.median(spent) for name, (_, spent) in acts.items() if spent}
        middle = rounded(statistics.median(known.values())) if known else ""
        lines.append([title, *painted, middle, _slowest(known), _slowest(first)])
    head = [
        "page", "first paint, ms", "charts drawn, ms", "interaction, ms", "slowest interaction, ms",
        "slowest when asked first, ms",
    ]  # fmt: skip
    return (
        f"{rows:,} candidate rows; server and Chromium on the same machine; median of {rounds} first paints in an empty"
        f" browser. An interaction is the median of {rounds} that the server was asked before: the page's middle one"
        " and its slowest. Of those that it was asked for the first time, the slowest is shown."
        f" Goals: {FIRST_PAINT_GOAL:,} ms and {INTERACTION_GOAL} ms.\n\n{table(head, lines)}"
    )


def _slowest(acts: dict[str, float]) -> str:
    name = max(acts, key=lambda name: acts[name], default="")
    return f"{rounded(acts[name])} ({name})" if name else ""


if __name__ == "__main__":
    main()
