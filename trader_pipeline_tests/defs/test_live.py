"""Paper ticks as Dagster makes them: the schedule, its job and both tables, in process against a local exchange."""

import json

import dagster as dg
import pandas as pd
import pytest
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin

from trader_pipeline.defs import build_definitions
from trader_pipeline.defs import live as defs_live
from trader_pipeline.defs.io_manager import TableIOManager
from trader_pipeline.defs.live import LIVE_TAG, live_folder, live_job, paper_ticks
from trader_pipeline.defs.outlook import stale_outlook
from trader_pipeline.defs.resources import PipelineResource
from trader_pipeline.schema.tables import LIVE_EVALUATIONS, LIVE_TRADES
from trader_pipeline_tests.paper.five_minutes import START, STEP, exchange_of, five_minute_candles

CANDLES = five_minute_candles(38)
BEGIN = pd.Timestamp(START, tz="UTC")
SETTINGS = [
    f"paper.live.start={START}",
    "paper.live.warm_up_days=35",
    "paper.spot.trend_band_pct=0.1",
    "backtest.score_threshold=2",
    "backtest.decision_every_hours=1",
    "backtest.take_profit=0.01",
    "backtest.max_rolls=0",
    "backtest.min_dte_days=1",
    "klines.ccxt.retries={attempts: 2, unreachable_attempts: 1, first_wait_seconds: 0.001}",
]


@pytest.fixture
def exchange(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with exchange_of(CANDLES, clock=BEGIN + 2.5 * 288 * STEP) as server:
        yield server


@pytest.fixture
def make_live(exchange, tmp_path, monkeypatch):
    monkeypatch.setenv("TRADER_PIPELINE_DATA_DIR", str(tmp_path / "data"))

    def make(*more):
        settings = [*SETTINGS, f"klines.ccxt.base_url={exchange.url}", *more]
        return PipelineResource(profile_name="tiny", data_root=str(tmp_path / "data"), overrides=settings)

    return make


@pytest.fixture
def pipeline(make_live):
    return make_live()


def execute(pipeline, instance, market="BTC_5m", *, raise_on_error=True):
    definitions = dg.Definitions(
        assets=dg.load_assets_from_modules([defs_live]),
        jobs=[live_job],
        resources={"pipeline": pipeline, "io_manager": TableIOManager(pipeline=pipeline)},
    )
    job = definitions.resolve_job_def("live_job")
    return job.execute_in_process(partition_key=market, instance=instance, raise_on_error=raise_on_error)


@pytest.fixture
def daemon(instance, monkeypatch):
    """The instance in memory as the one that evaluates schedules: Dagster hands them one on disk alone."""
    monkeypatch.setattr(dg.ScheduleEvaluationContext, "instance", property(lambda context: instance))
    return instance


def evaluate(pipeline, daemon, moment="2024-04-05 18:05"):
    context = dg.build_schedule_context(
        scheduled_execution_time=pd.Timestamp(moment, tz="UTC").to_pydatetime(),
        resources={"pipeline": pipeline},
    )
    return list(paper_ticks(context))


def metadata(result, asset):
    return result.asset_materializations_for_node(asset)[0].metadata


def test_job_ticks_the_market_and_its_tables_hold_what_the_buffer_holds(pipeline, exchange, instance):
    result = execute(pipeline, instance)
    trades = pipeline.store.read(LIVE_TRADES, ("BTC_5m",))
    lines = (live_folder(pipeline) / "BTC_5m" / "replay.jsonl").read_text().splitlines()
    recorded = {r["trade_id"]: r["status"] for r in map(json.loads, lines) if "trade_id" in r}
    assert dict(zip(trades["trade_id"], trades["status"], strict=True)) == recorded
    assert set(trades["direction"]) == {"SHORT_CALL", "LONG"}
    assert set(trades["market"]) == {"BTC_5m"}
    verdicts = pipeline.store.read(LIVE_EVALUATIONS, ("BTC_5m",))
    closed = {i for i, status in recorded.items() if status == "CLOSED"}
    assert set(verdicts["trade_id"]) == closed
    assert len(closed) >= 3
    checks = result.get_asset_check_evaluations()
    assert [(c.check_name, c.passed) for c in checks] == [("every_closed_trade_judged", True)]
    shown = metadata(result, "live_trades")
    assert shown["candles_caught_up"].value == {"BTC_5m/covered_call": 720, "BTC_5m/spot": 720}
    assert shown["spot: last tick"].value == "2024-04-07 12:00"
    assert shown["covered_call_model"].value == "teacher"
    assert shown["simulated"].value is False
    assert "image/png" in shown["plot"].value
    assert pipeline.store.manifest(LIVE_TRADES, ("BTC_5m",)).simulated is False


def test_second_run_adds_the_next_candle_and_one_without_a_new_candle_changes_nothing(
    pipeline, exchange, instance
):
    execute(pipeline, instance)
    path = live_folder(pipeline) / "BTC_5m" / "replay.jsonl"
    before, table = path.read_bytes(), pipeline.store.manifest(LIVE_TRADES, ("BTC_5m",))
    assert metadata(execute(pipeline, instance), "live_trades")["candles_caught_up"].value == {}
    assert path.read_bytes() == before
    assert pipeline.store.manifest(LIVE_TRADES, ("BTC_5m",)) == table
    exchange.clock += STEP
    again = metadata(execute(pipeline, instance), "live_trades")
    assert again["candles_caught_up"].value == {"BTC_5m/covered_call": 1, "BTC_5m/spot": 1}
    assert path.read_bytes().startswith(before)


def test_market_without_a_trade_yet_has_empty_tables(pipeline, exchange, instance):
    exchange.clock = BEGIN + 3 * STEP
    result = execute(pipeline, instance, "ETH_5m")
    assert result.success
    assert len(pipeline.store.read(LIVE_TRADES, ("ETH_5m",))) == 0
    assert len(pipeline.store.read(LIVE_EVALUATIONS, ("ETH_5m",))) == 0


def test_exchange_that_is_down_fails_the_run_and_leaves_the_tables(pipeline, exchange, instance):
    execute(pipeline, instance)
    table = pipeline.store.manifest(LIVE_TRADES, ("BTC_5m",))
    exchange.clock += STEP
    exchange.forever = "down"
    assert not execute(pipeline, instance, raise_on_error=False).success
    assert pipeline.store.manifest(LIVE_TRADES, ("BTC_5m",)) == table


def test_schedule_asks_for_one_run_per_market_and_tick(pipeline, daemon):
    requests = evaluate(pipeline, daemon)
    assert [(r.partition_key, r.run_key) for r in requests] == [
        ("BTC_5m", "paper-BTC_5m-20240405T180500"),
        ("ETH_5m", "paper-ETH_5m-20240405T180500"),
    ]
    assert [r.tags[LIVE_TAG] for r in requests] == ["BTC_5m", "ETH_5m"]


def test_schedule_asks_for_the_underlyings_of_the_profile_alone(make_live, daemon):
    narrow = make_live("paper.live.underlyings=[ETH]")
    assert [r.partition_key for r in evaluate(narrow, daemon)] == ["ETH_5m"]


def test_schedule_leaves_out_a_market_whose_last_tick_still_waits(pipeline, daemon):
    _queued(daemon, "BTC_5m")
    assert [r.partition_key for r in evaluate(pipeline, daemon)] == ["ETH_5m"]
    _queued(daemon, "ETH_5m")
    (skipped,) = evaluate(pipeline, daemon)
    assert "BTC_5m, ETH_5m still wait in the queue" in skipped.skip_message


def _queued(instance, market):
    @dg.job(name="live_job")
    def waiting():
        pass

    origin = RemoteJobOrigin(RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("here"), "all"), "live_job")
    instance.create_run_for_job(
        waiting, tags={LIVE_TAG: market}, status=dg.DagsterRunStatus.QUEUED, remote_job_origin=origin
    )


def test_schedule_of_another_timeframe_says_what_to_do(make_live, daemon):
    (skipped,) = evaluate(make_live("paper.live.timeframe=1h"), daemon)
    assert "trader-pipeline paper tick --market BTC_1h" in skipped.skip_message


def test_schedule_is_off_until_somebody_turns_it_on():
    assert paper_ticks.default_status == dg.DefaultScheduleStatus.STOPPED
    assert paper_ticks.cron_schedule == "*/5 * * * *"


def test_nothing_else_is_made_from_live_assets_and_no_run_makes_them(make_pipeline):
    pipeline = make_pipeline()
    graph = build_definitions(pipeline).resolve_asset_graph()
    live = {dg.AssetKey("live_trades"), dg.AssetKey("live_evaluations")}
    for key in live:
        assert graph.get(key).child_keys <= live
        assert graph.get(key).parent_keys <= live
    assert not {p.table for p in stale_outlook(pipeline)} & {"live_trades", "live_evaluations"}
    for job in build_definitions(pipeline).jobs:
        assert job.name == "live_job" or not job.selection.resolve(graph) & live, job.name
