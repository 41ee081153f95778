"""The page Backtests without a browser: what a finished run shows, what runs, and what is broken or of another day."""

import fcntl
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from trader_pipeline.dashboard import backtest_jobs
from trader_pipeline.dashboard.backtest_form import fill_form, read_form
from trader_pipeline.dashboard.backtest_jobs import BacktestJob, BacktestJobs, jobs_of, write_progress
from trader_pipeline.dashboard.backtest_work import main
from trader_pipeline.dashboard.page import BadChoiceError, Context
from trader_pipeline.dashboard.pages import backtests
from trader_pipeline.dashboard.tables import Tables
from trader_pipeline.schema.tables import BACKTEST_STEPS, CANDIDATE_OUTCOMES, KLINES
from trader_pipeline.store import TableStore
from trader_pipeline_tests.dashboard.reading import body_rows, charts, components, section, shown_text
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
    tables, profile, jobs = Tables(write_candles(root)), tiny_profile(), BacktestJobs(root)
    job = read_form(fill_form({"threshold": "5"}, tables, profile), tables, profile).job
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
    book, trades = charts(finished.shown())
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
    assert "Mend what is marked above" in shown_text(content)


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
def own(finished: Finished, tmp_path: Path) -> Finished:
    """A copy of the finished backtest's data folder, to be changed."""
    shutil.copytree(finished.context.data_root, tmp_path / "own")
    context = context_of(tmp_path / "own")
    return Finished(context, finished.job, BacktestJobs(context.data_root).folder(finished.job.key))


def write_other_candles(own: Finished, *, simulated: bool) -> None:
    store = own.context.tables.store
    klines = store.read(KLINES, ("BTC_1h",))
    store.write(klines.assign(volume=1.0), KLINES, partition=("BTC_1h",), simulated=simulated)


def change_job(own: Finished, **changes: object) -> None:
    held = json.loads((own.folder / "job.json").read_text())
    (own.folder / "job.json").write_text(json.dumps({**held, **changes}))


def test_the_banner_is_that_of_the_run_and_not_of_todays_candles(own: Finished) -> None:
    write_other_candles(own, simulated=False)
    assert "SIMULATED CANDLES" in shown_text(own.shown())
    assert "SIMULATED CANDLES" not in shown_text(backtests.layout({}, own.context))
    shown = shown_text(backtests.layout({}, own.context))
    assert "The candles in this data folder are real" in shown
    assert "costs 1x, simulated candles" in shown


def test_a_run_of_real_candles_has_no_banner_where_todays_are_simulated(own: Finished) -> None:
    change_job(own, simulated=False)
    shown = shown_text(own.shown())
    assert "SIMULATED CANDLES" not in shown
    assert "costs 1x, real candles" in shown


def test_trades_on_candles_that_changed_since_say_so(own: Finished) -> None:
    assert "OTHER CANDLES" not in shown_text(own.shown())
    write_other_candles(own, simulated=True)
    shown = section(own.shown(), "Trades on the candles")
    assert "OTHER CANDLES The candles of BTC_1h changed since this run" in shown_text(shown)
    assert len(charts(shown)) == 1


def test_trades_of_simulated_candles_are_not_drawn_on_real_ones(own: Finished) -> None:
    write_other_candles(own, simulated=False)
    shown = section(own.shown(), "Trades on the candles")
    assert "made on simulated candles, and those of BTC_1h in this data folder are real" in shown_text(shown)
    assert charts(shown) == []


@pytest.mark.parametrize("broken", ["job.json", "figures.json"])
@pytest.mark.parametrize("content", ["{", None])
def test_a_broken_result_hides_neither_the_form_nor_the_list(
    own: Finished, broken: str, content: str | None
) -> None:
    (own.folder / broken).unlink()
    if content is not None:
        (own.folder / broken).write_text(content)
    content_of_page = own.shown()
    shown = shown_text(content_of_page)
    assert [b.id for b in components(content_of_page, "Button")] == ["backtest-run"]
    assert "elete the folder" in shown
    assert own.job.key in shown_text(section(content_of_page, "Result"))
    listed = shown_text(section(content_of_page, "Finished backtests"))
    assert ("cannot be read" in listed) == (broken == "job.json")


def test_a_result_of_another_version_says_so(finished: Finished, own: Finished) -> None:
    assert "by version" not in shown_text(finished.shown())
    change_job(own, parents={**own.job.parents, "code/trader_pipeline": "0.0.1"})
    shown = own.shown()
    assert "This result was made by version 0.0.1" in shown_text(shown)
    assert "by version 0.0.1" in shown_text(section(shown, "Finished backtests"))


def test_against_hodl_is_the_difference_in_percent_of_the_start(finished: Finished) -> None:
    book = backtests.views.open_result(finished.folder).equity
    book = book[book["exit_style"] == "hold_to_expiry"].sort_values("close_time")
    change = book[["equity_usd", "hodl_usd"]].iloc[-1] / book[["equity_usd", "hodl_usd"]].iloc[0] - 1
    shown = shown_text(section(finished.shown(), "Result"))
    assert f"against HODL, % of start{100 * (change['equity_usd'] - change['hodl_usd']):+.2f} %" in shown


def test_what_runs_is_shown_on_every_view(own: Finished) -> None:
    jobs, other = BacktestJobs(own.context.data_root), "a" * 16
    working = jobs.working(other, "backtest")
    working.mkdir()
    (working / "job.json").write_text(own.job.model_dump_json())
    write_progress(working, 0.42, "settling")
    with open(jobs.root / ".lock", "w") as held:
        held.write(f"{other} backtest")
        held.flush()
        fcntl.flock(held, fcntl.LOCK_EX)
        for state in ({}, {"run": own.job.key}, {"run": "f" * 16}, {"threshold": "11"}):
            shown = section(backtests.layout(state, own.context), "Running now")
            assert "42%, settling" in shown_text(shown)
            assert [link.href.split("run=")[1] for link in components(shown, "Link")] == [other]
        named = backtests.layout({"run": other}, own.context)
        assert "Running now" not in shown_text(named)
        assert "42%, settling" in shown_text(section(named, "Result"))
    assert "42%" not in shown_text(backtests.layout({}, own.context))


def test_a_process_that_cannot_be_started_is_a_sentence(
    own: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(backtest_jobs.subprocess, "Popen", refuse)
    jobs = jobs_of(own.context.data_root)
    other = own.job.model_copy(update={"start": "2021-02-20T00:00:00+00:00"})
    jobs.start_or_say(other)
    shown = backtests.layout({"run": other.key}, own.context)
    assert "Permission denied. Nothing was started." in shown_text(section(shown, "Result"))
    jobs.start_or_say(own.job, "exports")
    files = section(own.shown(), "Training files")
    assert "Permission denied. Nothing was started." in shown_text(files)
    assert [b.id for b in components(files, "Button")] == ["exports-run"]


def test_the_chart_of_the_calls_is_the_same_one_under_every_style(finished: Finished) -> None:
    for style in finished.job.exit_styles:
        assert "chart-calls-sold" in [c.id for c in components(finished.shown(style=style), "Chart")]
