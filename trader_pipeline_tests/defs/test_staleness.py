"""One candle edited: what is told to be stale, what a run makes again, and what it leaves alone, to the file."""

import json
import shutil
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest

from trader_pipeline.defs.outlook import REPORT, stale_outlook
from trader_pipeline.defs.resources import PipelineResource
from trader_pipeline.defs.run import run_all
from trader_pipeline.klines import SampleParams, simulate_klines
from trader_pipeline.schema import parse_regime
from trader_pipeline.schema.tables import KLINES, REGIME_WINDOWS, WINDOW_KLINES
from trader_pipeline_tests.defs.conftest import OVERRIDES

# A short tail, so that some candles at the end of the year belong to no window.
SETTINGS = [*OVERRIDES, "markets=[BTC_1h,ETH_1h]", "windows.tail_days=40"]
WINDOW_TABLES = {
    "window_klines", "window_quotes", "option_chain", "backtest_steps", "backtest_legs", "candidate_outcomes",
    "chain_dataset", "candidate_dataset", "paper_replay", "replay_evaluations",
}  # fmt: skip
LAST = {"training_log", "forgetting", "policy_metrics", "policy_decisions", "policy_equity"}
CORPORA = {
    "stable_corpus", "trade_or_skip_corpus", "pick_candidate_corpus", "preference_corpus", "replay_corpus",
    "mixed_corpus", "trade_review_corpus",
}  # fmt: skip
CANDLES_OF_ETH = {"klines/ETH_1h", "kline_gaps/ETH_1h"}
CANDLES_OF_BTC = {"klines/BTC_1h", "kline_gaps/BTC_1h", "regime_windows"}
EVALUATION = {"policy_metrics", "policy_decisions", "policy_equity"}


def write_candles(folder: Path, coin: str, candles: pd.DataFrame) -> None:
    millis = candles["open_time"].astype("datetime64[ms, UTC]").astype("int64")
    frame = candles[["open", "high", "low", "close", "volume"]].assign(open_time=millis)
    folder.mkdir(parents=True, exist_ok=True)
    frame.to_parquet(folder / f"{coin}USDT_1h.parquet")


def edit(source: Path, target: Path, coin: str, moment: pd.Timestamp, factor: float = 1.02) -> None:
    """The candle files of `source` in `target`, with the close of one candle of `coin` changed."""
    shutil.copytree(source, target)
    path = target / f"{coin}USDT_1h.parquet"
    frame = pd.read_parquet(path)
    (row,) = frame.index[frame["open_time"] == moment.value // 10**6]
    frame.loc[row, "close"] *= factor
    frame.loc[row, "high"] = max(frame.loc[row, "high"], frame.loc[row, "close"])
    frame.to_parquet(path)


def pipeline_of(root: Path, klines: Path, *overrides: str) -> PipelineResource:
    return PipelineResource(
        profile_name="tiny", klines=str(klines), data_root=str(root), overrides=[*SETTINGS, *overrides]
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run of both coins: its data folder and its candle files."""
    base = tmp_path_factory.mktemp("finished")
    for coin, candles in simulate_klines(SampleParams(years=1)).items():
        write_candles(base / "candles", coin, candles)
    with pytest.MonkeyPatch.context() as patch, dg.DagsterInstance.ephemeral() as instance:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{base / 'mlflow.db'}")
        patch.delenv("TRAINING_DATA_DIR", raising=False)
        run_all(pipeline_of(base / "data", base / "candles"), instance)
        yield base


@pytest.fixture
def folder(finished, tmp_path):
    """A copy of the finished run's data folder; times of change are kept."""
    return Path(shutil.copytree(finished / "data", tmp_path / "data"))


def written(root: Path) -> dict[str, int]:
    """When each table's file was last written, by reference."""
    found = {}
    for path in root.rglob("*.parquet"):
        stage, name, *rest = path.relative_to(root).with_suffix("").parts
        if stage in (
            "klines",
            "options",
            "backtest",
            "datasets",
            "paper",
            "corpora",
            "training",
            "evaluation",
        ):
            found["/".join([name, *(r for r in rest if r != "all")])] = path.stat().st_mtime_ns
    return found


def told(pipeline: PipelineResource) -> tuple[set[str], set[str]]:
    """Names of what the outlook says is made again, and what perhaps is; the report and the exports left out."""
    found = [p for p in stale_outlook(pipeline) if p.table not in (REPORT, "training_exports")]
    return {p.name for p in found if p.certain}, {p.name for p in found if not p.certain}


def made_again(pipeline: PipelineResource) -> tuple[set[str], list[str]]:
    """The tables whose files a run writes, and the titles of what it ran."""
    before = written(pipeline.root)
    with dg.DagsterInstance.ephemeral() as instance:
        titles = [title for title, _ in run_all(pipeline, instance)]
    after = written(pipeline.root)
    assert set(before) <= set(after)
    return {name for name in after if after[name] != before.get(name)}, titles


def window(market: str, regime: str) -> set[str]:
    return {f"{table}/{market}/{regime}" for table in WINDOW_TABLES}


def holders(pipeline: PipelineResource, coin: str, moment: pd.Timestamp) -> list[str]:
    """The windows whose candles hold the moment."""
    found = []
    for market, regime in pipeline.store.partitions(WINDOW_KLINES):
        candles = pipeline.store.read(WINDOW_KLINES, (market, regime), columns=["open_time"])
        if market.startswith(coin) and (candles["open_time"] == moment).any():
            found.append(regime)
    return found


def moment_inside(pipeline: PipelineResource, regime: str) -> pd.Timestamp:
    """A moment of the window that no other window's warm-up or tail holds."""
    _, start, end = parse_regime(regime)
    params = pipeline.profile.windows
    moment = start + pd.Timedelta(days=params.tail_days + 2, hours=5)
    assert moment < end - pd.Timedelta(days=params.warm_up_days)
    return moment


@pytest.mark.slow
def test_nothing_is_stale_after_a_run_and_a_second_run_writes_no_table(finished, folder):
    pipeline = pipeline_of(folder, finished / "candles")
    assert [p.table for p in stale_outlook(pipeline)] == [REPORT]
    assert made_again(pipeline) == (set(), ["report"])


@pytest.mark.slow
def test_candle_inside_one_window_of_one_coin_touches_that_window_and_what_is_behind_it(
    finished, folder, tmp_path
):
    regime = next(
        r for _, r in pipeline_of(folder, folder).store.partitions(WINDOW_KLINES) if r.startswith("dump")
    )
    moment = moment_inside(pipeline_of(folder, finished / "candles"), regime)
    edit(finished / "candles", tmp_path / "edited", "ETH", moment)
    pipeline = pipeline_of(folder, tmp_path / "edited")
    assert holders(pipeline, "ETH", moment) == [regime]

    certain, perhaps = told(pipeline)
    # The evaluation rests on the candles themselves, the rest of what follows on what the window comes out as.
    assert certain == CANDLES_OF_ETH | window("ETH_1h", regime) | EVALUATION
    assert perhaps == CORPORA | {"training_log", "forgetting"}

    again, titles = made_again(pipeline)
    assert again == certain | perhaps
    assert titles == [
        "candles of ETH_1h", f"ETH_1h {regime}", "exports of ETH_1h", "corpora", "fine-tuning the adapter",
        "measuring what the model forgot", "evaluating the adapter", "report",
    ]  # fmt: skip
    assert told(pipeline) == (set(), set())


@pytest.mark.slow
def test_candle_in_the_warm_up_of_the_first_window_touches_that_window_and_trains_nothing_anew(
    finished, folder, tmp_path
):
    store = pipeline_of(folder, finished / "candles").store
    first = store.read(REGIME_WINDOWS).iloc[0]
    moment = first["start"] - pd.Timedelta(days=40)  # before what the first decision's features look at
    edit(finished / "candles", tmp_path / "edited", "BTC", moment)
    pipeline = pipeline_of(folder, tmp_path / "edited")
    assert holders(pipeline, "BTC", moment) == [first["regime"]]

    certain, perhaps = told(pipeline)
    assert certain == CANDLES_OF_BTC | window("BTC_1h", first["regime"]) | EVALUATION
    assert perhaps == CORPORA | {"training_log", "forgetting"}

    # No feature and no outcome rests on it, so the datasets come out the same. A paper trade names the candles that it
    # was replayed on, so the corpora are looked at again; they come out the same too, and the training is left alone.
    again, titles = made_again(pipeline)
    assert again == certain | CORPORA
    assert not {"exports of BTC_1h", "fine-tuning the adapter"} & set(titles)
    assert told(pipeline) == (set(), set())


@pytest.mark.slow
def test_candle_in_no_window_touches_no_window(finished, folder, tmp_path):
    store = pipeline_of(folder, finished / "candles").store
    moment = store.read(KLINES, ("BTC_1h",))["open_time"].iloc[-30]
    edit(finished / "candles", tmp_path / "edited", "BTC", moment, factor=1.001)
    pipeline = pipeline_of(folder, tmp_path / "edited")
    assert holders(pipeline, "BTC", moment) == []

    certain, perhaps = told(pipeline)
    assert certain == CANDLES_OF_BTC | EVALUATION
    assert perhaps == set()
    assert made_again(pipeline)[0] == certain


@pytest.mark.slow
def test_candle_file_written_anew_with_the_same_candles_makes_only_the_candles_again(
    finished, folder, tmp_path
):
    edit(finished / "candles", tmp_path / "same", "ETH", pd.Timestamp("2021-06-01", tz="UTC"), factor=1.0)
    path = tmp_path / "same" / "ETHUSDT_1h.parquet"
    pd.read_parquet(path).to_parquet(path, compression="gzip")
    pipeline = pipeline_of(folder, tmp_path / "same")
    assert told(pipeline) == (CANDLES_OF_ETH, set())
    assert made_again(pipeline)[0] == CANDLES_OF_ETH


@pytest.mark.slow
def test_exports_are_followed_by_the_hashes_in_their_manifests(finished, folder):
    """An export is no table: it is made again where no manifest names the present datasets as parents."""
    pipeline = pipeline_of(folder, finished / "candles")
    for path in pipeline.exports_dir.glob("training_candidates_ETH_*.manifest.json"):
        content = json.loads(path.read_text())
        content["parents"] = dict.fromkeys(content["parents"], "0" * 64)
        path.write_text(json.dumps(content))
    exports = [(p.partition, p.reason) for p in stale_outlook(pipeline) if p.table == "training_exports"]
    assert exports == [(("ETH_1h",), "no export of the present datasets")]


@pytest.mark.slow
def test_settings_and_lost_files_are_named_with_the_partitions_that_they_touch(finished, folder):
    candles = finished / "candles"
    reasons = {p.name: p for p in stale_outlook(pipeline_of(folder, candles, "finetune.max_steps=5"))}
    assert reasons["training_log"].reason == "settings/finetune changed"
    assert set(reasons) == LAST | {REPORT}
    assert not any(reasons[name].certain for name in LAST - {"training_log"})

    shutil.rmtree(pipeline_of(folder, candles).adapter_dir)
    reasons = {p.name: p.reason for p in stale_outlook(pipeline_of(folder, candles))}
    assert reasons["training_log"] == "the adapter's folder is missing"

    market, regime = next(iter(pipeline_of(folder, candles).store.partitions(WINDOW_KLINES)))
    (folder / "paper" / "replay_evaluations" / market / f"{regime}.parquet").unlink()
    reasons = {p.name: p.reason for p in stale_outlook(pipeline_of(folder, candles))}
    assert reasons[f"replay_evaluations/{market}/{regime}"] == "not built yet"
    assert reasons[f"option_chain/{market}/{regime}"] == "made in one run with replay_evaluations"
