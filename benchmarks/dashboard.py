"""Speed of the dashboard in Chromium: `python benchmarks/dashboard.py [--rows 1000000] [--run FOLDER] [--rounds 5]`.

First paint is from the request of a page in an empty browser (nothing cached) until its heading and content stand; of
charts until they are drawn. An interaction is from a choice or a click until the page that answers it is drawn.
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
    if (!seen.chart && document.querySelector(".chart .main-svg")) seen.chart = performance.now();
  }).observe(document, {childList: true, subtree: true});
"""
_ACT = """
  async (act) => {
    const main = document.getElementById("content");
    const start = performance.now();
    let last = null;
    const watch = new MutationObserver(() => { last = performance.now(); });
    watch.observe(main, {childList: true, subtree: true, attributes: true, characterData: true});
    const [kind, selector, value] = act;
    const element = document.querySelector(selector);
    if (kind === "choose") {
      element.value = value;
      element.dispatchEvent(new Event("change", {bubbles: true}));
    } else element.click();
    while (performance.now() - start < 5000) {
      await new Promise(done => setTimeout(done, 20));
      if (last !== null && performance.now() - last > 250) break;
    }
    watch.disconnect();
    return last === null ? null : last - start;
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


def _measure(
    base: str, rounds: int, chromium: str
) -> list[tuple[str, dict[str, list[float]], dict[str, float]]]:
    from playwright.sync_api import sync_playwright

    rows = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for page in PAGES:
            paints = [_paint(browser, base + page.path) for _ in range(rounds + 1)][1:]
            by_name = {n: [p[n] for p in paints if n in p] for n in ("page", "chart")}
            rows.append((page.title, by_name, _interactions(browser, base + page.path)))
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
    seen: dict[str, float] = tab.evaluate("window.seen")
    context.close()
    return seen


def _interactions(browser: Any, address: str) -> dict[str, float]:
    """Milliseconds of the page's choices (each set to another option), of sorting and of the next rows."""
    found: dict[str, float] = {}
    tab = browser.new_page()
    tab.goto(address)
    tab.wait_for_selector("#content h1")
    acts = tab.evaluate(
        """() => [...document.querySelectorAll("[data-param] select")].map(s => {
          const other = [...s.options].map(o => o.value).filter(v => v && v !== s.value);
          return ["choose", `[data-param="${s.name}"] select`, other[0] || ""];
        }).filter(a => a[2])"""
    )
    acts += [["click", "th a", ""], ["click", ".paging a", ""]]
    for act in acts:
        tab.goto(address)
        tab.wait_for_selector("#content h1")
        if tab.query_selector(".chart"):
            tab.wait_for_selector(".chart .main-svg")
        tab.wait_for_timeout(400)
        if tab.query_selector(act[1]) and (spent := tab.evaluate(_ACT, act)) is not None:
            found[act[1].split('"')[1] if "data-param" in act[1] else act[1]] = spent
    tab.close()
    return found


def _text(
    measured: list[tuple[str, dict[str, list[float]], dict[str, float]]], rows: int, rounds: int
) -> str:
    lines = []
    for title, paints, acts in measured:
        slowest = max(acts, key=lambda name: acts[name], default="")
        lines.append(
            [
                title,
                *(rounded(statistics.median(v)) if (v := paints[n]) else "" for n in ("page", "chart")),
                rounded(statistics.median(acts.values())) if acts else "",
                f"{rounded(acts[slowest])} ({slowest.replace('th a', 'sort').replace('.paging a', 'next rows')})"
                if acts
                else "",
            ]
        )
    head = ["page", "first paint, ms", "chart drawn, ms", "interaction, ms", "slowest interaction, ms"]
    return (
        f"{rows:,} candidate rows; server and Chromium on the same machine; median of {rounds} first paints in an empty"
        f" browser, each interaction once. Goals: {FIRST_PAINT_GOAL:,} ms and {INTERACTION_GOAL} ms.\n\n"
        f"{table(head, lines)}"
    )


if __name__ == "__main__":
    main()
