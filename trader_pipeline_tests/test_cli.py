"""The command line as a user meets it: each stage over plain files, and what it says when something is wrong."""

import datetime as dt
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner

from trader_pipeline.cli import main
from trader_pipeline.klines import SampleParams, simulate_klines
from trader_pipeline.schema.tables import KLINE_GAPS, KLINES
from trader_pipeline.store import TableStore
from trader_pipeline_tests.klines.archive_server import ArchiveServer
from trader_pipeline_tests.klines.exchange_server import ExchangeServer

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
        "backtest_BTC_1h",
        "backtest_BTC_1h",
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
    assert "adapter is tied with" in text
    assert "fewer than 30, which settles nothing" in text
    assert "Premiums: modelled from the candles" in text
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


def candle_file(folder, name, *rows):
    lines = [f"{1_704_067_200_000 + 3_600_000 * hour},{rest}" for hour, rest in rows]
    (folder / name).write_text("\n".join(["open_time,open,high,low,close,volume", *lines]) + "\n")
    return folder / name


def test_klines_check_tells_clean_from_bad_files_by_its_exit_status(tmp_path):
    clean = candle_file(
        tmp_path, "BTCUSDT_1h.csv", (0, "1,2,0.5,1,9"), (1, "1,2,0.5,1,0"), (4, "1,2,0.5,1,9")
    )
    text = succeed("klines", "check", clean)
    assert text.splitlines()[0].endswith(
        "BTC_1h, plain, 3 rows, 2024-01-01 00:00 .. 2024-01-01 04:00, epoch ms: clean"
    )
    assert "warning: 2 bars missing in 1 gap" in text.splitlines()[-2]
    assert "warning: bars without a trade: 1" in text

    bad = candle_file(tmp_path, "ETHUSDT_1h.csv", (0, "1,2,0.5,1,9"), (0, "1,2,0.5,1,9"), (1, "x,2,0.5,1,-9"))
    result = call("klines", "check", clean, bad, tmp_path / "nothing.csv")
    assert result.exit_code == 1
    assert "row 4, column open: 'x' is no finite number" in result.output
    assert "row 4, column volume: '-9' is negative" in result.output
    assert "repaired by import: exact duplicates: 1" in result.output
    assert "nothing.csv: no such file" in result.output


def test_klines_check_json_is_one_object_per_file_and_a_folder_stands_for_its_files(tmp_path):
    candle_file(tmp_path, "BTCUSDT_1h.csv", (0, "1,2,0.5,1,9"), (1, "1,2,0.5,1,9"))
    candle_file(tmp_path, "ETHUSDT_1h.csv", (0, "1,2,0.5,1,9"), (1, "1,2,3,1,9"))
    result = call("klines", "check", tmp_path, "--json", "--as-of", "2024-01-01T01:30")
    btc, eth = (json.loads(line) for line in result.output.splitlines())
    assert result.exit_code == 1
    assert (btc["market"], btc["clean"], btc["unfinished"]) == ("BTC_1h", False, 1)
    assert (eth["bad_rows"], eth["problems"][0]["why"]) == (1, "is below low")
    assert list(btc) == list(eth)

    candle_file(tmp_path, "BTCUSDT_1h_again.csv", (1, "1,2,0.5,1.5,9"), (2, "1,2,0.5,1,9"))
    result = call("klines", "check", tmp_path, "--json", "--as-of", "2024-01-02")
    *_, market = (json.loads(line) for line in result.output.splitlines())
    assert list(market) == list(btc)
    assert (market["market"], len(market["files"]), market["conflicts"]) == ("BTC_1h", 2, 1)


@pytest.fixture(scope="module")
def quarter():
    """Ninety simulated days of both coins, by the names under which they are served; one hour is missing."""
    sampled = simulate_klines(SampleParams(start=dt.date(2024, 11, 1), years=90 / 365))
    return {f"{u}USDT": frame.drop(index=[100]) for u, frame in sampled.items()}


@pytest.fixture
def fetching(monkeypatch, tmp_path):
    """`klines fetch` into a folder of the test's own, on a machine whose environment says nothing."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for name in ("PROFILE", "KLINES", "DATA_DIR", "OVERRIDES"):
        monkeypatch.delenv(f"TRADER_PIPELINE_{name}", raising=False)
    monkeypatch.chdir(tmp_path)

    def arguments(source, url, *more):
        return [
            "klines", "fetch", "--source", source, "--base-url", url, "--since", "2024-11-01", "--until", "2024-12-10",
            "--data-dir", tmp_path / "data", "--set", f"klines.{source}.retries.first_wait_seconds=0.01",
            "--set", f"klines.{source}.retries.attempts=2", *more,
        ]  # fmt: skip

    return arguments


@pytest.fixture
def servers(quarter):
    clock = pd.Timestamp("2025-01-30 00:00", tz="UTC")
    with (
        ArchiveServer({f"{name}-1h": frame for name, frame in quarter.items()}) as archive,
        ExchangeServer(quarter, clock=clock) as exchange,
    ):
        yield {"archive": archive, "ccxt": exchange}


def requests_of(server):
    return sum(server.asked().values()) if isinstance(server, ArchiveServer) else len(server.asked("klines"))


def run_options(text):
    """Profile, settings and folder of the `run` command that fetch proposes."""
    words = shlex.split(
        next(x for x in text.splitlines() if "Use them:" in x).split("trader-pipeline run ")[1]
    )
    pairs = list(zip(words[::2], words[1::2], strict=True))
    return dict(pairs)["--profile"], [v for k, v in pairs if k == "--set"], dict(pairs)["--data-dir"]


@pytest.mark.parametrize("source", ["archive", "ccxt"])
def test_klines_fetch_fills_the_store_as_a_run_would_and_tops_up(
    source, fetching, servers, quarter, tmp_path
):
    from trader_pipeline.defs.resources import PipelineResource
    from trader_pipeline.defs.staleness import stale_reason

    text = succeed(*fetching(source, servers[source].url, "--markets", "BTC_1h,ETH_4h"))
    assert f"profile full, data folder {tmp_path / 'data'}" in text
    assert "BTC_1h: 935 candles, 2024-11-01 00:00 to 2024-12-09 23:00, 1 bar missing in 1 gap;" in text
    store = TableStore(str(tmp_path / "data"))
    shown = ["open_time", "open", "high", "low", "close", "volume", "close_time"]
    hourly, served = store.read(KLINES, ("BTC_1h",)), quarter["BTCUSDT"].iloc[:935].reset_index(drop=True)
    if source == "archive":
        pd.testing.assert_frame_equal(hourly[shown], served[shown], check_exact=True)
    else:  # Binance's wire format has eight decimals
        pd.testing.assert_frame_equal(hourly[shown], served[shown], rtol=1e-9)
    assert len(store.read(KLINES, ("ETH_4h",))) == 39 * 6
    gaps = store.read(KLINE_GAPS, ("BTC_1h",))
    reason = {"archive": "absent_from_archive", "ccxt": "exchange_has_none"}[source]
    assert gaps[["bars", "gap_reason"]].values.tolist() == [[1, reason]]

    profile, settings, folder = run_options(text)
    assert {"markets=[BTC_1h,ETH_4h]", f"klines.{source}.until=2024-12-10"} <= set(settings)
    pipeline = PipelineResource(profile_name=profile, data_root=folder, overrides=settings)
    for market in ("BTC_1h", "ETH_4h"):
        assert stale_reason(pipeline, KLINES, (market,)) is None
        assert stale_reason(pipeline, KLINE_GAPS, (market,)) is None

    before = requests_of(servers[source])
    again = succeed(*fetching(source, servers[source].url, "--markets", "BTC_1h,ETH_4h"))
    assert {"archive": "0 candles stored", "ccxt": "nothing new to ask for"}[source] in again
    assert requests_of(servers[source]) - (before if source == "ccxt" else 0) == 0


@pytest.mark.parametrize("source", ["archive", "ccxt"])
def test_klines_fetch_says_at_its_end_which_history_is_not_there(source, fetching, servers):
    early = ("--markets", "BTC_1h,BTC_4h", "--since", "2024-01-01")
    for _ in range(2):
        *_, hourly, coarse, use = call(*fetching(source, servers[source].url, *early)).stdout.splitlines()
        lacking = "asked from 2024-01-01, the source's first candle is 2024-11-01: 305 days are not there"
        assert (hourly, coarse) == (f"WARNING: BTC_1h: {lacking}", f"WARNING: BTC_4h: {lacking}")
    assert "markets=[BTC_1h]" in use, "a run takes one market of each underlying"


@pytest.mark.parametrize("source", ["archive", "ccxt"])
def test_run_does_not_go_beyond_the_end_that_fetch_was_given(source, fetching, servers, tmp_path):
    from trader_pipeline.klines import build_klines, top_up_klines, top_up_reason
    from trader_pipeline.schema import Market
    from trader_pipeline.settings import load_profile, parse_overrides

    text = succeed(*fetching(source, servers[source].url, "--markets", "BTC_1h"))
    _, settings, folder = run_options(text)
    params = load_profile("full", overrides=parse_overrides(tuple(settings))).klines
    now, downloads = pd.Timestamp("2025-01-20 12:00", tz="UTC"), Path(folder) / "klines" / "downloads"
    given = {"as_of": now, "downloads_root": downloads}
    assert top_up_reason(Market.parse("BTC_1h"), params, **given) is None
    beyond = params.model_copy(update={source: getattr(params, source).model_copy(update={"until": None})})
    assert top_up_reason(Market.parse("BTC_1h"), beyond, **given) is not None
    top_up_klines(Market.parse("BTC_1h"), beyond, **given)
    assert build_klines(Market.parse("BTC_1h"), beyond, fetch=False, **given)[0]["open_time"].max() > utc(
        "2025"
    )
    held = build_klines(Market.parse("BTC_1h"), params, fetch=False, **given)[0]
    assert held["close_time"].max() == utc("2024-12-10")


def utc(text):
    return pd.Timestamp(text, tz="UTC")


def test_klines_fetch_that_is_interrupted_says_that_it_can_go_on(fetching, servers, monkeypatch):
    from trader_pipeline.klines.downloads import Downloads

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Downloads, "add", interrupted)
    result = call(*fetching("archive", servers["archive"].url, "--markets", "BTC_1h"))
    assert result.exit_code == 130
    assert "What was stored stays, and the same command goes on from there." in result.output
    assert "Traceback" not in result.output
    monkeypatch.undo()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert "935 candles" in succeed(*fetching("archive", servers["archive"].url, "--markets", "BTC_1h"))


@pytest.mark.parametrize("source", ["archive", "ccxt"])
def test_klines_fetch_that_is_refused_is_one_error_and_keeps_what_came_before(
    source, fetching, servers, tmp_path
):
    succeed(*fetching(source, servers[source].url, "--markets", "BTC_1h"))
    held = sorted(p.name for p in (tmp_path / "data" / "klines").rglob("*.parquet"))
    if source == "archive":
        servers["archive"].refuse_with = 451
    else:
        servers["ccxt"].forever = "451"
    result = call(*fetching(source, servers[source].url, "--markets", "BTC_1h,ETH_1h"))
    assert result.exit_code == 1
    errors = [line for line in result.output.splitlines() if "Error: " in line]
    assert len(errors) == 1
    assert "451" in errors[0]
    assert "Traceback" not in result.output
    kept = sorted(p.name for p in (tmp_path / "data" / "klines").rglob("*.parquet"))
    assert kept == held
    assert len(TableStore(str(tmp_path / "data")).read(KLINES, ("BTC_1h",))) == 935


def test_klines_fetch_says_what_cannot_work_before_it_asks_anybody(fetching, servers, tmp_path):
    archive = servers["archive"]
    finer = call(*fetching("archive", archive.url, "--markets", "BTC_5m"))
    assert "cannot be refined" in finer.output
    other = call(*fetching("archive", archive.url, "--exchange", "kraken"))
    assert "--exchange goes with --source ccxt" in other.output
    unknown = call(*fetching("archive", archive.url, "--set", "klines.archive.wrokers=2"))
    assert "did you mean klines.archive.workers?" in unknown.output
    simulated = simulate_klines(SampleParams(years=0.01))["BTC"]
    TableStore(str(tmp_path / "data")).write(simulated, KLINES, partition=("BTC_1h",), simulated=True)
    mixed = call(*fetching("archive", archive.url))
    assert "holds simulated candles; give real ones a folder of their own" in mixed.output
    assert {r.exit_code for r in (finer, other, unknown, mixed)} == {1, 2}
    assert archive.asked() == {}


def test_klines_fetch_needs_no_dagster(fetching, servers):
    arguments = [str(a) for a in fetching("archive", servers["archive"].url, "--markets", "BTC_1d")]
    script = f"import sys; from trader_pipeline.cli import main; main({arguments!r}, standalone_mode=False);"
    script += " sys.exit(len({'dagster', 'torch'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "BTC_1d: 39 candles" in done.stdout
    assert "file" in done.stderr, "the progress bar"


@pytest.mark.parametrize(
    ("day", "message"),
    [
        ("NaT", "'NaT' is not a date; write YYYY-MM-DD"),
        ("now", "'now' is not a date; write YYYY-MM-DD"),
        ("1", "'1' is not a date; write YYYY-MM-DD"),
        ("2024-13-01", "'2024-13-01' is not a date; write YYYY-MM-DD"),
        ("99999-01-01", "'99999-01-01' is not a date; write YYYY-MM-DD"),
        ("1600-01-01", "'1600-01-01' does not lie in 2009 to 2100; write YYYY-MM-DD"),
        ("2101-01-01", "'2101-01-01' does not lie in 2009 to 2100; write YYYY-MM-DD"),
    ],
)
def test_days_that_cannot_be_meant_are_refused_wherever_a_day_is_given(day, message, candle_folder, tmp_path):
    file = candle_file(tmp_path, "BTCUSDT_1h.csv", (0, "1,1,1,1,1"))
    fetch = [
        "klines",
        "fetch",
        "--markets",
        "BTC_1h",
        "--base-url",
        "http://127.0.0.1:1",
        "--data-dir",
        tmp_path,
    ]
    for arguments in (
        [*fetch, "--source", "archive", "--since", day],
        [*fetch, "--source", "ccxt", "--since", day],
        [*fetch, "--source", "ccxt", "--since", "2024-01-01", "--until", day],
        ["klines", "check", file, "--as-of", day],
        ["backtest", "--klines", candle_folder, "--underlying", "BTC", "--start", day, "--end", "2021-03-01"],
    ):
        result = call(*arguments)
        assert (result.exit_code, result.output.strip()) == (1, f"Error: {message}"), arguments


@pytest.mark.parametrize("source", ["archive", "ccxt"])
def test_klines_fetch_refuses_a_span_without_a_day_though_candles_are_stored(source, fetching, servers):
    succeed(*fetching(source, servers[source].url, "--markets", "BTC_1h"))
    servers["archive"].asked()
    before = len(servers["ccxt"].requests)
    backwards = call(*fetching(source, servers[source].url, "--until", "2024-10-01"))
    assert backwards.exit_code == 1
    assert re.search(r"until.*2024-10-01.* after.*since.*2024-11-01", backwards.output)
    ahead = call(*fetching(source, servers[source].url, "--since", "2099-01-01", "--until", "2099-02-01"))
    assert ahead.exit_code == 1
    assert "2099-01-01" in ahead.output
    assert "future" in ahead.output
    assert "fetch some with" not in ahead.output
    assert (servers["archive"].asked(), len(servers["ccxt"].requests)) == ({}, before)


@pytest.mark.parametrize("source", ["archive", "ccxt"])
@pytest.mark.parametrize("way", ["--base-url", "--set"])
def test_klines_fetch_refuses_a_password_in_the_address_without_showing_it(source, way, fetching, servers):
    address = servers[source].url.replace("http://", "http://user:SECRET@")
    more = () if way == "--base-url" else ("--set", f"klines.{source}.base_url={address}", "--base-url", "")
    result = call(*fetching(source, address if not more else servers[source].url, *more))
    assert result.exit_code == 1
    assert "Error: base_url holds a user name or password" in result.output
    assert "SECRET" not in result.output
    assert requests_of(servers[source]) == 0
