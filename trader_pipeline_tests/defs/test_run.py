"""Whole runs through Dagster in this process: built, resumed, rebuilt where inputs changed and nowhere else."""

import pandas as pd
import pytest

from trader_pipeline.corpora import split_boundaries
from trader_pipeline.defs.automation import WINDOW_TABLES, nightly_top_up, stale_windows
from trader_pipeline.defs.run import RunFailedError, run_all
from trader_pipeline.schema.tables import (
    CANDIDATE_DATASET,
    FORGETTING,
    KLINES,
    MIXED_CORPUS,
    POLICY_DECISIONS,
    POLICY_EQUITY,
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
    assert first[-5:] == [
        "corpora", "fine-tuning the adapter", "measuring what the model forgot", "evaluating the adapter", "report",
    ]  # fmt: skip
    store = pipeline.store
    regimes = store.read(REGIME_WINDOWS)
    closed = regimes.loc[~regimes["provisional"], "regime"].tolist()
    assert sorted(store.partitions(CANDIDATE_DATASET)) == sorted(
        (m, r) for m in ("BTC_1h", "BTC_4h") for r in closed
    )
    assert sorted(instance.get_dynamic_partitions("regime")) == sorted(closed)
    assert len(store.read(MIXED_CORPUS)) <= 32
    assert {"train", "val"} <= set(store.read(TRAINING_LOG)["split"])
    assert set(store.read(FORGETTING)["model"]) == {
        "base model", "adapter", "adapter without the stable mix",
    }  # fmt: skip
    assert not (pipeline.folder("training") / ".unmixed").exists()
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
    rows = store.read_all(
        CANDIDATE_DATASET, [p for p in store.partitions(CANDIDATE_DATASET) if p[0] == "BTC_4h"]
    )
    boundaries = split_boundaries(rows["decision_time"], pipeline.profile.splits)
    for frame, column in (
        (store.read(POLICY_EQUITY), "close_time"),
        (store.read(POLICY_DECISIONS), "decision_time"),
    ):
        assert boundaries["test"] <= frame[column].min()
        assert frame[column].max() <= boundaries["sealed"]
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
    held = {r for m, r in before if m == "BTC_1h" and _holds(store.read(WINDOW_KLINES, (m, r)), moment)}
    assert {r for m, r in changed if m == "BTC_1h"} == held
    assert held
    assert len(held) < len(closed)
    # Both markets are marked with the hourly candles, so both are made anew for these windows and for no other.
    rebuilt = {tuple(t.split(" ")) for t in again if t.startswith(("BTC_1h ", "BTC_4h "))}
    assert rebuilt == {(m, r) for m in ("BTC_1h", "BTC_4h") for r in held}


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
    (recorded,) = evaluate()
    assert recorded.job_name == "recorded_job"
    tables = [dg.AssetKey(n) for n in ("option_quotes", "volatility_index", "delivery_prices")]
    assert job.execute_in_process(asset_selection=tables, instance=instance).success
    known = instance.get_dynamic_partitions("regime")
    instance.delete_dynamic_partition("regime", known[0])
    requests = evaluate()
    assert instance.get_dynamic_partitions("regime") != known or set(
        instance.get_dynamic_partitions("regime")
    ) == set(known)
    assert set(instance.get_dynamic_partitions("regime")) == set(known)
    # Something that was recorded and cannot be read is asked for once more, and holds up no window.
    broken = (
        pipeline.root
        / "options"
        / "recordings"
        / "quotes"
        / "BTC"
        / "2021-02-01"
        / "20210201T000000Z.parquet"
    )
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"")
    with_broken = evaluate()
    assert with_broken[0].job_name == "recorded_job"
    assert [r.run_key for r in with_broken[1:]] == [r.run_key for r in requests]
    broken.unlink()
    # BTC_4h is marked with BTC_1h's candles of the same window, so it waits for those.
    assert [r.partition_key.split("|")[0] for r in requests] == ["BTC_1h"] * len(known)
    assert {r.job_name for r in requests} == {"windows_job"}
    assert len({r.run_key for r in requests}) == len(requests)

    request = next(r for r in requests if r.partition_key.startswith("BTC_1h"))
    done = job.execute_in_process(
        asset_selection=[dg.AssetKey(t.name) for t in WINDOW_TABLES],
        partition_key=request.partition_key,
        instance=instance,
    )
    assert done.success
    after = evaluate()
    assert request.partition_key not in {r.partition_key for r in after}
    assert request.partition_key.replace("BTC_1h", "BTC_4h") in {r.partition_key for r in after}
    assert all(r.tags["dagster/max_retries"] == "2" for r in after)


def test_sensor_asks_again_when_settings_change_and_when_they_change_back(make_pipeline, instance):
    import dagster as dg

    from trader_pipeline.defs import build_definitions

    def evaluate(pipeline):
        return [
            r.run_key for r in stale_windows(dg.build_sensor_context(instance=instance), pipeline=pipeline)
        ]

    def date_windows(pipeline):
        job = build_definitions(pipeline).resolve_implicit_global_asset_job_def()
        job.execute_in_process(asset_selection=[dg.AssetKey("regime_windows")], instance=instance)

    first, other = make_pipeline(), make_pipeline(overrides=["regimes.fall=0.2"])
    job = build_definitions(first).resolve_implicit_global_asset_job_def()
    job.execute_in_process(asset_selection=[dg.AssetKey("klines")], partition_key="BTC_1h", instance=instance)
    keys = []
    for pipeline in (first, other, first):
        (key,) = evaluate(pipeline)
        assert evaluate(pipeline) == [key], "the same state asks under the same key"
        keys.append(key)
        date_windows(pipeline)
    assert len(set(keys)) == 3


def test_failed_check_is_not_passed_over_by_running_again(make_pipeline, instance, monkeypatch):
    from trader_pipeline.defs import options

    pipeline = make_pipeline()
    monkeypatch.setattr(options, "crossed_quotes", lambda chain, recorded: ["BTC-1JAN21-30000-C"])
    for _ in range(2):
        with pytest.raises(RunFailedError, match=r"bid_below_mark_below_ask.*BTC-1JAN21-30000-C"):
            run_all(pipeline, instance)
    assert not list(pipeline.store.partitions(CANDIDATE_DATASET))


def test_runs_of_processes_that_are_gone_are_marked_as_failed(instance):
    import dagster as dg

    from trader_pipeline.defs.run import PROCESS_TAG, _process, fail_dead_runs

    host = _process().split(":")[0]
    dead = instance.create_run_for_job(_empty_job(), tags={PROCESS_TAG: f"{host}:999999999"})
    elsewhere = instance.create_run_for_job(_empty_job(), tags={PROCESS_TAG: "another-machine:1"})
    queued = instance.create_run_for_job(_empty_job())
    assert fail_dead_runs(instance) == 1
    states = {r.run_id: instance.get_run_by_id(r.run_id).status for r in (dead, elsewhere, queued)}
    assert states[dead.run_id] == dg.DagsterRunStatus.FAILURE
    assert {states[elsewhere.run_id], states[queued.run_id]} == {dg.DagsterRunStatus.NOT_STARTED}


def _empty_job():
    import dagster as dg

    @dg.job
    def nothing():
        pass

    return nothing


def test_second_run_on_a_folder_is_kept_out(make_pipeline):
    from trader_pipeline.defs.run import sole_run

    pipeline = make_pipeline()
    with (
        sole_run(pipeline),
        pytest.raises(RunFailedError, match="another run is at work"),
        sole_run(pipeline),
    ):
        pass


def test_daily_markets_wait_for_the_hourly_windows_they_are_marked_with(make_pipeline, instance, monkeypatch):
    """By name BTC_1d comes before BTC_1h; by what is needed it comes after."""
    from trader_pipeline.defs import run

    monkeypatch.setattr(run, "_last_tasks", lambda pipeline, regimes: [])
    pipeline = make_pipeline(overrides=["markets=[BTC_1d]"])
    done = [title for title in made(run_all(pipeline, instance)) if title.startswith(("BTC_1h ", "BTC_1d "))]
    assert [title.split(" ")[0] for title in done] == ["BTC_1h", "BTC_1d"] * (len(done) // 2)
    assert {p[0] for p in pipeline.store.partitions(CANDIDATE_DATASET)} == {"BTC_1h", "BTC_1d"}


def test_candles_of_the_other_kind_are_refused_in_the_same_folder(make_pipeline, instance):
    pipeline = make_pipeline()
    run_candles(pipeline, instance)
    simulated = make_pipeline(klines="")
    with pytest.raises(RunFailedError, match="holds real candles; give simulated ones a folder of their own"):
        run_all(simulated, instance)


def run_candles(pipeline, instance):
    import dagster as dg

    from trader_pipeline.defs import build_definitions

    job = build_definitions(pipeline).resolve_implicit_global_asset_job_def()
    job.execute_in_process(asset_selection=[dg.AssetKey("klines")], partition_key="BTC_1h", instance=instance)


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
            asset_selection=[dg.AssetKey("klines"), dg.AssetKey("kline_gaps")],
            partition_key=market,
            instance=instance,
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
