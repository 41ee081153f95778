"""Whole runs through Dagster in this process: built, resumed, rebuilt where inputs changed and nowhere else."""

import pandas as pd
import pytest

from trader_pipeline.defs.automation import WINDOW_TABLES, nightly_top_up, stale_windows
from trader_pipeline.defs.run import RunFailedError, run_all
from trader_pipeline.schema.tables import (
    CANDIDATE_DATASET,
    KLINES,
    MIXED_CORPUS,
    POLICY_METRICS,
    REGIME_WINDOWS,
    TRAINING_LOG,
    WINDOW_KLINES,
)
from trader_pipeline_tests.defs.conftest import edit_candle


@pytest.fixture(scope="module", autouse=True)
def _mlflow_beside_the_test(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        database = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")
        patch.delenv("TRAINING_DATA_DIR", raising=False)
        yield


def made(timings):
    return [title for title, _ in timings]


@pytest.mark.slow
def test_whole_graph_from_candle_file_to_report_then_nothing_then_only_what_changed(
    make_pipeline, instance, candle_files, tmp_path
):
    pipeline = make_pipeline()
    first = made(run_all(pipeline, instance))
    assert first[:2] == ["candles of BTC_1h", "candles of BTC_4h"]
    assert first[-4:] == ["corpora", "fine-tuning the adapter", "evaluating the adapter", "report"]
    store = pipeline.store
    regimes = store.read(REGIME_WINDOWS)
    closed = regimes.loc[~regimes["provisional"], "regime"].tolist()
    assert sorted(store.partitions(CANDIDATE_DATASET)) == sorted(
        (m, r) for m in ("BTC_1h", "BTC_4h") for r in closed
    )
    assert instance.get_dynamic_partitions("regime") == closed
    assert len(store.read(MIXED_CORPUS)) <= 32
    assert {"train", "val"} <= set(store.read(TRAINING_LOG)["split"])
    policies = set(store.read(POLICY_METRICS)["policy"])
    assert {
        "adapter",
        "base model",
        "teacher",
        "never",
        "never (HODL)",
        "always",
        "random",
        "constant 1",
    } <= policies
    assert (pipeline.folder("evaluation") / "report.html").stat().st_size > 100_000
    assert len(list(pipeline.exports_dir.glob("training_*.csv"))) == 2
    assert not store.manifest(KLINES, ("BTC_1h",)).simulated

    before = {p: store.manifest(WINDOW_KLINES, p).content_hash for p in store.partitions(WINDOW_KLINES)}
    assert made(run_all(pipeline, instance)) == ["report"]

    # One candle in the warm-up of the second window changes: later windows that hold it are made anew, no others.
    last = regimes.iloc[-2]
    moment = last["end"] - pd.Timedelta(days=1)
    edit_candle(candle_files, tmp_path / "edited", f"{moment:%Y-%m-%d %H:%M}", 1.0001)
    edited = make_pipeline(klines=tmp_path / "edited")
    again = made(run_all(edited, instance))
    after = {p: store.manifest(WINDOW_KLINES, p).content_hash for p in store.partitions(WINDOW_KLINES)}
    changed = {p for p in before if before[p] != after.get(p)}
    assert changed
    assert changed < set(before)
    rebuilt = {tuple(t.split(" ")) for t in again if t.startswith(("BTC_1h ", "BTC_4h "))}
    assert rebuilt == changed
    held = {p for p in before if _holds(store.read(WINDOW_KLINES, p), moment)}
    assert changed == held


def _holds(candles: pd.DataFrame, moment: pd.Timestamp) -> bool:
    return bool(((candles["open_time"] <= moment) & (candles["close_time"] > moment)).any())


def test_bad_candle_file_stops_the_run_with_file_row_and_column_and_writes_nothing(
    make_pipeline, instance, tmp_path
):
    folder = tmp_path / "bad"
    folder.mkdir()
    (folder / "BTCUSDT_1h.csv").write_text(
        "open_time,open,high,low,close,volume\n1609459200000,1,2,0.5,1.5,1\n1609462800000,1,0.7,0.5,1.5,1\n"
    )
    pipeline = make_pipeline(klines=folder)
    with pytest.raises(RunFailedError, match=r"BTCUSDT_1h\.csv.*row 3.*column high"):
        run_all(pipeline, instance)
    assert list(pipeline.store.partitions(KLINES)) == []


def test_sensor_asks_for_regimes_then_registers_windows_and_asks_for_their_runs(make_pipeline, instance):
    import dagster as dg

    from trader_pipeline.defs import build_definitions

    pipeline = make_pipeline()
    job = build_definitions(pipeline).resolve_implicit_global_asset_job_def()

    def evaluate():
        context = dg.build_sensor_context(instance=instance)
        return list(stale_windows(context, pipeline=pipeline))

    assert evaluate() == []
    for market in ("BTC_1h", "BTC_4h"):
        job.execute_in_process(
            asset_selection=[dg.AssetKey("klines")], partition_key=market, instance=instance
        )
    (regimes,) = evaluate()
    assert regimes.job_name == "regimes_job"
    job.execute_in_process(asset_selection=[dg.AssetKey("regime_windows")], instance=instance)
    known = instance.get_dynamic_partitions("regime")
    instance.delete_dynamic_partition("regime", known[0])
    requests = evaluate()
    assert instance.get_dynamic_partitions("regime") != known or set(
        instance.get_dynamic_partitions("regime")
    ) == set(known)
    assert set(instance.get_dynamic_partitions("regime")) == set(known)
    assert len(requests) == 2 * len(known)
    assert {r.job_name for r in requests} == {"windows_job"}
    assert len({r.run_key for r in requests}) == len(requests)

    request = next(r for r in requests if r.partition_key.startswith("BTC_1h"))
    done = job.execute_in_process(
        asset_selection=[dg.AssetKey(t.name) for t in WINDOW_TABLES],
        partition_key=request.partition_key,
        instance=instance,
    )
    assert done.success
    assert request.partition_key not in {r.partition_key for r in evaluate()}


def test_nightly_schedule_asks_only_for_candles_whose_files_changed(
    make_pipeline, instance, candle_files, tmp_path
):
    import dagster as dg

    from trader_pipeline.defs import build_definitions

    def evaluate(pipeline):
        context = dg.build_schedule_context(
            instance=instance, scheduled_execution_time=pd.Timestamp("2024-01-02 00:15")
        )
        return {r.partition_key for r in nightly_top_up(context, pipeline=pipeline)}

    pipeline = make_pipeline()
    assert evaluate(pipeline) == {"BTC_1h", "BTC_4h"}
    job = build_definitions(pipeline).resolve_implicit_global_asset_job_def()
    for market in ("BTC_1h", "BTC_4h"):
        job.execute_in_process(
            asset_selection=[dg.AssetKey("klines")], partition_key=market, instance=instance
        )
    assert evaluate(pipeline) == set()
    edit_candle(candle_files, tmp_path / "edited", "2021-06-01 05:00", 1.01)
    assert evaluate(make_pipeline(klines=tmp_path / "edited")) == {"BTC_1h", "BTC_4h"}


def test_missing_partitions_are_named_instead_of_training_on_part_of_the_data(make_pipeline, instance):
    import dagster as dg

    from trader_pipeline.defs import build_definitions

    pipeline = make_pipeline()
    job = build_definitions(pipeline).resolve_implicit_global_asset_job_def()
    instance.add_dynamic_partitions("regime", ["bull_20210301_20210401"])
    result = job.execute_in_process(
        asset_selection=[dg.AssetKey("trade_or_skip_corpus")], instance=instance, raise_on_error=False
    )
    assert not result.success
    errors = [e.step_failure_data.error for e in result.all_events if e.is_step_failure]
    text = "".join(str(e) for e in errors)
    assert "candidate_dataset lacks 1 of 1 partitions (BTC_4h|bull_20210301_20210401)" in text
