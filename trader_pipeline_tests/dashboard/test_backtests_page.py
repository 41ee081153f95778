"""The page Backtests: what a finished run shows, and in a browser a run that is started and seen to finish."""

import logging
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from werkzeug.serving import make_server

from trader_pipeline.dashboard.app import create_app
from trader_pipeline.dashboard.backtest_form import fill_form, read_form
from trader_pipeline.dashboard.backtest_jobs import BacktestJob, BacktestJobs, write_progress
from trader_pipeline.dashboard.backtest_work import main
from trader_pipeline.dashboard.page import BadChoiceError, Context
from trader_pipeline.dashboard.pages import backtests
from trader_pipeline.schema.tables import BACKTEST_STEPS, CANDIDATE_OUTCOMES
from trader_pipeline.store import TableStore
from trader_pipeline_tests.dashboard.reading import body_rows, components, section, shown_text
from trader_pipeline_tests.dashboard.run_folder import context_of, tiny_profile, write_candles


@dataclass(frozen=True)
class Finished:
    """A data folder with one finished backtest."""

    context: Context
    job: BacktestJob
    folder: Path

    def shown(self, **state: str) -> Any:
        return backtests.layout({"run": self.job.key, **state}, self.context)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    root = tmp_path_factory.mktemp("backtests")
    store, profile, jobs = write_candles(root), tiny_profile(), BacktestJobs(root)
    job = read_form(fill_form({"threshold": "5"}, store, profile), store, profile).job
    assert job is not None
    working = jobs.working(job.key, "backtest")
    working.mkdir(parents=True)
    (working / "job.json").write_text(job.model_dump_json())
    main(str(root), job.key, "backtest", os.open(os.devnull, os.O_RDONLY))
    return Finished(context_of(root), job, jobs.folder(job.key))


def test_a_step_shows_every_candidate_and_which_one_was_chosen(finished: Finished) -> None:
    store = TableStore(str(finished.folder / "each"))
    steps, candidates = (store.read(t, ("BTC_1h",)) for t in (BACKTEST_STEPS, CANDIDATE_OUTCOMES))
    one = steps[(steps["exit_style"] == "tp_and_roll") & (steps["action"] == "SELL_CALL")].iloc[0]
    same = (candidates["decision_time"] == one["decision_time"]) & (candidates["exit_style"] == "tp_and_roll")
    shown = section(
        finished.shown(style="tp_and_roll", step=f"{one['decision_time']:%Y-%m-%dT%H:%M}"), "One step"
    )
    rows = [shown_text(row) for row in body_rows(shown)]
    assert len(rows) == same.sum() > 1
    assert f"sold {one['instrument']}" in shown_text(shown)
    best = candidates[same].sort_values("pnl_vs_hodl_if_sold", ascending=False).iloc[0]
    assert best["instrument"] in rows[0]
    assert f"{best['pnl_vs_hodl_if_sold']:+,.2f}" in rows[0]


def test_a_step_that_was_none_says_so(finished: Finished) -> None:
    shown = section(finished.shown(step="2021-02-20T07:00"), "One step")
    assert "There was no decision at 2021-02-20 07:00" in shown_text(shown)


def test_recent_steps_begin_with_the_latest_decision(finished: Finished) -> None:
    rows = body_rows(section(finished.shown(), "Recent Steps"))
    assert "2021-02-28" in shown_text(rows[0])
    assert len(rows) == 14


def test_chains_of_the_book_are_fewer_than_those_of_single_decisions(finished: Finished) -> None:
    book, each = (body_rows(section(finished.shown(mode=m), "Recent Chains")) for m in ("book", "each"))
    assert 0 < len(book) < len(each)


def test_the_book_is_drawn_beside_the_coins_and_calls_on_the_candles(finished: Finished) -> None:
    book, trades = (graph.figure for graph in components(finished.shown(), "Graph"))
    assert {trace.name for trace in book.data} == {"hold_to_expiry", "tp_and_roll", "HODL"}
    assert trades.data[0].type == "candlestick"
    assert any("chain" in (trace.name or "") for trace in trades.data)


def test_finished_backtests_lead_to_their_result_and_form(finished: Finished) -> None:
    links = components(section(backtests.layout({}, finished.context), "Finished backtests"), "Link")
    assert len(links) == 1
    assert f"run={finished.job.key}" in links[0].href
    assert "threshold=5" in links[0].href


def test_a_bad_field_is_explained_and_nothing_can_be_started(finished: Finished) -> None:
    content = backtests.layout(
        {"window": "dates", "start": "2021-05-01", "end": "2021-04-01"}, finished.context
    )
    errors = [p for p in components(content, "P") if getattr(p, "className", None) == "error"]
    assert ["not after its start" in shown_text(p) for p in errors] == [True]
    assert [b.disabled for b in components(content, "Button") if b.id == "backtest-run"] == [True]


@pytest.mark.parametrize(
    "state", [{"run": "../../etc"}, {"style": "hope"}, {"mode": "x"}, {"steps-page": "-1"}]
)
def test_an_address_that_makes_no_sense_is_refused(finished: Finished, state: dict[str, str]) -> None:
    with pytest.raises(BadChoiceError):
        backtests.layout({"run": finished.job.key, **state}, finished.context)


def test_an_unknown_run_and_an_empty_folder_say_what_to_do(finished: Finished, tmp_path: Path) -> None:
    assert "There is no backtest 0000" in shown_text(finished.shown(run="0" * 16))
    assert "trader-pipeline run" in shown_text(backtests.layout({}, context_of(tmp_path)))


def test_a_dead_process_is_shown_as_such(finished: Finished) -> None:
    key = "0123456789abcdef"
    working = BacktestJobs(finished.context.data_root).working(key, "backtest")
    working.mkdir()
    write_progress(working, 0.42, "settling")
    assert "ended at 42% without a word; start it again" in shown_text(finished.shown(run=key))


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    write_candles(tmp_path)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = make_server("127.0.0.1", 0, create_app(tiny_profile(), data_root=tmp_path).server, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.port}/backtests"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.slow
def test_a_backtest_is_started_on_the_page_and_seen_to_finish(
    browser: Any, address: str, screenshots: Path
) -> None:
    from axe_playwright_python.sync_playwright import Axe

    context = browser.new_context(viewport={"width": 1280, "height": 900})
    tab, heard = context.new_page(), list[str]()
    tab.on("console", lambda message: heard.append(message.text))
    tab.on("pageerror", lambda error: heard.append(str(error)))
    tab.goto(address)
    tab.fill("#field-threshold", "5")
    tab.press("#field-threshold", "Enter")
    tab.wait_for_url("**threshold=5")
    tab.click("#backtest-run")
    tab.wait_for_selector("progress", timeout=60_000)
    tab.wait_for_selector("h2:text-is('Recent Chains')", timeout=60_000)
    assert "run=" in tab.url
    tab.click("#exports-run")
    tab.wait_for_selector("text=training_candidates_BTC_", timeout=60_000)
    tab.click("#recent-steps ~ div td a >> nth=0")
    tab.wait_for_selector("h2:text-is('One step')")
    tab.wait_for_selector(".chart .main-svg")
    serious = [f for f in Axe().run(tab).response["violations"] if f["impact"] in ("serious", "critical")]
    tab.screenshot(path=screenshots / "backtest_finished_1280.png", full_page=True)
    context.close()
    assert not serious
    assert heard == []
