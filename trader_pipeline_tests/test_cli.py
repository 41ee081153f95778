"""The command line as a user meets it: each stage over plain files, and what it says when something is wrong."""

import json

import pandas as pd
import pytest
from click.testing import CliRunner

from trader_pipeline.cli import main
from trader_pipeline.klines import SampleParams, simulate_klines

SMALL = ["--set", "backtest.max_candidates=4"]


@pytest.fixture(scope="module")
def candle_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("candles")
    for underlying, candles in simulate_klines(SampleParams(years=1)).items():
        millis = candles["open_time"].astype("datetime64[ms, UTC]").astype("int64")
        frame = candles[["open", "high", "low", "close", "volume"]].assign(open_time=millis)
        frame.to_parquet(folder / f"{underlying}USDT_1h.parquet")
    return folder


def call(*arguments):
    return CliRunner().invoke(main, [str(a) for a in arguments])


def succeed(*arguments):
    result = call(*arguments)
    assert result.exit_code == 0, result.output
    return result.output


def test_klines_import_writes_one_clean_parquet_file_and_never_overwrites(candle_folder, tmp_path):
    out = tmp_path / "btc_4h.parquet"
    text = succeed("klines", "import", candle_folder, "--market", "BTC_4h", "--out", out)
    assert "2190 candles of BTC_4h" in text
    frame = pd.read_parquet(out)
    assert len(frame) == 2190
    assert frame["close_time"].sub(frame["open_time"]).eq(pd.Timedelta(hours=4)).all()
    before = out.read_bytes()
    again = call("klines", "import", candle_folder, "--market", "BTC_4h", "--out", out)
    assert again.exit_code == 1
    assert "exists" in again.output.lower()
    assert out.read_bytes() == before


@pytest.mark.slow
def test_stages_one_after_the_other_without_dagster(candle_folder, tmp_path):
    exports, corpora, adapter = tmp_path / "exports", tmp_path / "corpora", tmp_path / "adapter"
    text = succeed(
        "backtest", "--klines", candle_folder, "--underlying", "BTC", "--start", "2021-02-15", "--end", "2021-10-01",
        "--out", exports, *SMALL,
    )  # fmt: skip
    assert "mean_pnl_vs_hodl" in text
    names = sorted(p.name for p in exports.iterdir() if not p.name.endswith(".manifest.json"))
    assert [n[: n.index("_2021")] for n in names] == [
        "training_candidates_BTC",
        "training_dataset_BTC",
        "training_dataset_BTC",
    ]

    candidates = next(exports.glob("training_candidates_BTC_20210215_20210930_both_*.csv"))
    text = succeed("corpus", "build", candidates, "--out", corpora, "--set", "mix.max_train_records=40")
    assert "train.jsonl" in text
    record = json.loads((corpora / "train.jsonl").read_text().splitlines()[0])
    assert [m["role"] for m in record["messages"]] == ["system", "user", "assistant"]

    text = succeed(
        "train", "--corpus", corpora, "--out", adapter, "--model", "tiny", "--set", "finetune.max_steps=3"
    )
    assert "validation loss" in text
    assert (adapter / "adapter_model.safetensors").is_file()
    assert (adapter / "splits.json").read_bytes() == (corpora / "splits.json").read_bytes()
    again = call("corpus", "build", candidates, "--out", corpora)
    assert "already" in again.output
    assert "exists" in call("train", "--corpus", corpora, "--out", adapter, "--model", "tiny").output

    text = succeed(
        "evaluate", "--adapter", adapter, "--klines", candle_folder, candidates, "--out", tmp_path / "figures",
        "--profile", "tiny", "--set", "evaluation.max_steps=4", "--set", "evaluation.bootstrap_samples=100", *SMALL,
    )  # fmt: skip
    assert "Held-out steps" in text
    assert "Sequential backtest" in text
    assert sorted(p.name for p in (tmp_path / "figures").iterdir()) == [
        "decisions.csv",
        "equity.csv",
        "metrics.csv",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--profile", "smaple"], "did you mean sample?"),
        (["run", "--profile", "full"], "--klines FOLDER"),
        (["run", "--set", "backtest.take_proft=0.5"], "did you mean backtest.take_profit?"),
        (["run", "--set", "backtest.take_profit=7"], "setting backtest.take_profit"),
        (["run", "--set", "markets"], "KEY=VALUE"),
        (["run", "--set", "markets=[BTC_1h,BTC_4h]"], "one timeframe per underlying"),
    ],
)
def test_wrong_settings_are_one_line_that_says_what_is_right(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("PROFILE", "KLINES", "DATA_DIR", "OVERRIDES"):
        monkeypatch.setenv(f"TRADER_PIPELINE_{name}", "")  # `run` sets them for this process
        monkeypatch.delenv(f"TRADER_PIPELINE_{name}")
    result = call(*arguments)
    assert result.exit_code == 1
    assert message in result.output
    assert "Traceback" not in result.output
    assert not any(tmp_path.iterdir()), "nothing is written for a run that cannot start"


def test_window_outside_the_candles_and_wrong_dates_are_explained(candle_folder):
    base = ["backtest", "--klines", candle_folder, "--underlying", "BTC"]
    early = call(*base, "--start", "2021-01-02", "--end", "2021-02-01")
    assert early.exit_code == 1
    assert "start at 2021-01-31" in early.output
    assert call(*base, "--start", "soon", "--end", "2021-02-01").output.strip().endswith("write YYYY-MM-DD")
    backwards = call(*base, "--start", "2021-05-01", "--end", "2021-04-01")
    assert backwards.exit_code == 1
    assert "Traceback" not in backwards.output
