"""Recording as Dagster does it: the hourly schedule, its job, and the tables, in process against a local venue."""

import dagster as dg
import pandas as pd
import pytest

from trader_pipeline.defs import recordings as defs_recordings
from trader_pipeline.defs.io_manager import TableIOManager
from trader_pipeline.defs.recordings import record_snapshots, recordings_job
from trader_pipeline.defs.resources import PipelineResource
from trader_pipeline.defs.staleness import stale_reason
from trader_pipeline.options.recordings import add_rows, recordings_root
from trader_pipeline.schema.tables import DELIVERY_PRICES, OPTION_QUOTES, VOLATILITY_INDEX
from trader_pipeline_tests.options.deribit_server import (
    Venue,
    built_in_quotes,
    hourly_candles,
    serve,
    with_puts,
)

NOW = pd.Timestamp("2025-12-30 17:31:16", tz="UTC")


@pytest.fixture
def venue():
    return Venue(
        with_puts(built_in_quotes()),
        NOW,
        candles=hourly_candles(NOW.floor("D"), 18),
        delivery_prices={"2025-12-29": 87_000.5, "2025-12-30": 88_100.25},
    )


@pytest.fixture
def make_pipeline(tmp_path):
    def make(*overrides: str) -> PipelineResource:
        settings = ["markets=[BTC_1h]", *overrides]
        return PipelineResource(profile_name="tiny", data_root=str(tmp_path / "data"), overrides=settings)

    return make


@pytest.fixture
def pipeline(venue, make_pipeline):
    with serve(venue) as url:
        waits = "{attempts: 2, first_wait_seconds: 0.001}"
        yield make_pipeline("deribit.source=api", f"deribit.base_url={url}", f"deribit.retries={waits}")


def execute(pipeline, instance, job=recordings_job, *, raise_on_error=True):
    definitions = dg.Definitions(
        assets=dg.load_assets_from_modules([defs_recordings]),
        jobs=[recordings_job],
        schedules=[record_snapshots],
        resources={"pipeline": pipeline, "io_manager": TableIOManager(pipeline=pipeline)},
    )
    resolved = definitions.resolve_job_def(job.name)
    return resolved.execute_in_process(instance=instance, raise_on_error=raise_on_error)


def evaluate(pipeline, moment="2025-12-30 18:05"):
    context = dg.build_schedule_context(
        scheduled_execution_time=pd.Timestamp(moment, tz="UTC").to_pydatetime(),
        resources={"pipeline": pipeline},
    )
    return record_snapshots(context)


def metadata(result, asset: str):
    return result.asset_materializations_for_node(asset)[0].metadata


def test_job_records_and_then_builds_the_tables(pipeline, venue, instance):
    result = execute(pipeline, instance)
    quotes = pipeline.store.read(OPTION_QUOTES)
    assert quotes["instrument"].tolist() == sorted(venue.quotes["instrument"])
    assert len(pipeline.store.read(VOLATILITY_INDEX)) == 17
    assert pipeline.store.read(DELIVERY_PRICES)["delivery_price"].tolist() == [87_000.5, 88_100.25]
    manifest = pipeline.store.manifest(OPTION_QUOTES)
    assert not manifest.simulated
    assert "settings/deribit" in manifest.parents
    assert "source/recordings/quotes/BTC/2025-12-30" in manifest.parents
    assert "10 quotes, 6 without a bid" in metadata(result, "recordings")["recorded"].value
    assert "10 rows read from 1 files" in metadata(result, "option_quotes")["recorded"].value
    assert "data:image/png" in metadata(result, "option_quotes")["plot"].value


def test_next_hour_adds_to_the_tables_and_the_same_hour_again_changes_nothing(pipeline, venue, instance):
    execute(pipeline, instance)
    first = pipeline.store.manifest(OPTION_QUOTES)
    execute(pipeline, instance)
    assert pipeline.store.manifest(OPTION_QUOTES) == first
    venue.now = NOW + pd.Timedelta(hours=1)
    venue.quotes = venue.quotes.assign(quote_time=venue.quotes["quote_time"] + pd.Timedelta(hours=1))
    execute(pipeline, instance)
    assert pipeline.store.read(OPTION_QUOTES)["quote_time"].nunique() == 2
    assert len(pipeline.store.read(VOLATILITY_INDEX)) == 18


def test_tables_are_stale_once_something_is_recorded_and_current_once_built(pipeline, venue, instance):
    execute(pipeline, instance)
    tables = (OPTION_QUOTES, VOLATILITY_INDEX, DELIVERY_PRICES)
    assert [stale_reason(pipeline, t) for t in tables] == [None, None, None]
    quotes = pipeline.store.read(OPTION_QUOTES)
    add_rows(quotes.assign(quote_time=NOW), "quotes", recordings_root(pipeline.root))
    assert stale_reason(pipeline, OPTION_QUOTES)
    assert stale_reason(pipeline, VOLATILITY_INDEX) is None
    execute(pipeline, instance)
    assert stale_reason(pipeline, OPTION_QUOTES) is None


def test_refused_recording_fails_the_run_before_any_table_is_built(pipeline, venue, instance):
    venue.faults = ["500", "500"]
    result = execute(pipeline, instance, raise_on_error=False)
    assert not result.success
    assert pipeline.store.manifest(OPTION_QUOTES) is None
    assert execute(pipeline, instance).success


def test_without_the_api_as_source_nothing_is_asked_and_recorded_quotes_still_count(
    make_pipeline, venue, instance, tmp_path
):
    pipeline = make_pipeline()
    result = execute(pipeline, instance)
    assert metadata(result, "recordings")["recorded"].value == "nothing asked: deribit.source is none"
    assert pipeline.store.read(OPTION_QUOTES).empty
    quotes = venue.quotes.assign(underlying="BTC")
    add_rows(quotes, "quotes", recordings_root(pipeline.root))
    execute(pipeline, instance)
    assert len(pipeline.store.read(OPTION_QUOTES)) == 10
    assert venue.requests == []


def test_schedule_runs_every_hour_and_says_what_to_set_where_nothing_is_recorded(pipeline, make_pipeline):
    assert record_snapshots.cron_schedule == "5 * * * *"
    assert record_snapshots.default_status == dg.DefaultScheduleStatus.STOPPED
    assert evaluate(pipeline).run_key == "recordings-20251230T1805"
    assert evaluate(pipeline).run_key != evaluate(pipeline, "2025-12-30 19:05").run_key
    skipped = evaluate(make_pipeline())
    assert "--set deribit.source=api" in skipped.skip_message
