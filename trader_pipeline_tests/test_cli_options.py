"""The commands around the option model: fitting it, holding it against quotes, and backtests on recorded quotes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner, Result

from trader_pipeline.cli import main
from trader_pipeline.options import OptionParams, build_option_chain
from trader_pipeline.options.params import (
    Calibration,
    default_calibrations,
    dump_calibrations,
    load_calibrations,
)
from trader_pipeline.schema import Market
from trader_pipeline.settings import load_profile, parse_overrides
from trader_pipeline_tests.backtest.test_recorded import quotes_of
from trader_pipeline_tests.options.calibrations import calibration, curved_surface
from trader_pipeline_tests.options.markets import at, random_candles
from trader_pipeline_tests.options.synthetic_quotes import synthetic_quotes

TRUTH = curved_surface()
"""What the synthetic quotes are made of: snapshots of eight days, 2026-01-05 to 12."""
FITTED_UNTIL = "2026-01-09"


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


def succeed(*arguments: object) -> str:
    result = call(*arguments)
    assert result.exit_code == 0, result.output
    return result.output


def refused(*arguments: object) -> str:
    """The one message of a command that cannot work."""
    result = call(*arguments)
    assert result.exit_code == 1, result.output
    assert "Traceback" not in result.output
    (message,) = (line for line in result.output.splitlines() if line.startswith("Error: "))
    return message


@pytest.fixture(scope="module")
def quotes_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("quotes") / "quotes.parquet"
    parts = [synthetic_quotes(TRUTH, underlying=u, days=8) for u in ("BTC", "ETH")]
    pd.concat(parts, ignore_index=True).to_parquet(path)
    return path


@pytest.fixture(scope="module")
def params_file(quotes_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("params") / "params.json"
    succeed("options", "calibrate", "--quotes", quotes_file, "--until", FITTED_UNTIL, "--out", path)
    return path


# options calibrate


def test_calibrate_writes_what_was_fitted_on_which_days(quotes_file: Path, params_file: Path) -> None:
    (written,) = json.loads(params_file.read_text())
    assert list(written) == ["applies_from", "note", "fits", "btc", "eth"]
    assert written["applies_from"] == FITTED_UNTIL
    taken_over, own = written["fits"][:2], written["fits"][2:]
    assert [(f["underlying"], f["parameters"]) for f in own] == [
        (u, p) for u in ("BTC", "ETH") for p in ("shape", "spread", "basis")
    ]
    assert {(f["first_day"], f["last_day"], f["source"]) for f in own} == {
        ("2026-01-05", "2026-01-08", "quotes.parquet")
    }
    before = json.loads(dump_calibrations(default_calibrations()))[-2]
    assert taken_over == before["fits"], "what was not fitted says what it was once fitted on"
    for coin in ("btc", "eth"):
        assert set(written[coin]) == set(TRUTH.model_dump())
        for name, tolerance in (("rho", 0.002), ("eta", 0.01), ("weekend_weight", 0.005), ("basis", 1e-4)):
            assert written[coin][name] == pytest.approx(getattr(TRUTH, name), abs=tolerance), name
        # Nobody gave candles, so the premium is that of the calibration in force the day before.
        assert written[coin]["premium"] == default_calibrations()[-2].of(coin.upper()).premium


def test_calibrate_says_what_it_found(quotes_file: Path, tmp_path: Path) -> None:
    text = succeed(
        "options", "calibrate", "--quotes", quotes_file, "--until", FITTED_UNTIL, "--out", tmp_path / "p.json"
    )
    assert re.search(r"weekend_weight\W+0\.[45]\d*\W+0\.[45]", text)
    quotes = pd.read_parquet(quotes_file)
    rows = ((quotes["quote_time"] < at(FITTED_UNTIL)) & (quotes["underlying"] == "BTC")).sum()
    assert f"BTC shape: {rows} observations, 2026-01-05 to 2026-01-08" in text
    assert f"{tmp_path / 'p.json'}: applies from 2026-01-09 on" in text


def test_quotes_from_the_day_on_change_no_byte_of_the_file(
    quotes_file: Path, params_file: Path, tmp_path: Path
) -> None:
    quotes = pd.read_parquet(quotes_file)
    later = quotes["quote_time"] >= at(FITTED_UNTIL)
    assert 0 < later.sum() < len(quotes)
    quotes.loc[later, ["iv", "bid_price", "mark_price"]] *= 1.5
    (tmp_path / "changed").mkdir()
    quotes.to_parquet(tmp_path / "changed" / "quotes.parquet")
    succeed(
        "options", "calibrate", "--quotes", tmp_path / "changed" / "quotes.parquet", "--until", FITTED_UNTIL,
        "--out", tmp_path / "p.json",
    )  # fmt: skip
    assert (tmp_path / "p.json").read_bytes() == params_file.read_bytes()


def test_calibrate_with_candles_fits_the_premium_too(quotes_file: Path, tmp_path: Path) -> None:
    for coin in ("BTC", "ETH"):
        candle_file(tmp_path, coin, random_candles(5, "2025-12-01", 24 * 45))
    out = tmp_path / "p.json"
    succeed(
        "options", "calibrate", "--quotes", quotes_file, "--until", FITTED_UNTIL, "--out", out, "--klines", tmp_path
    )  # fmt: skip
    (fitted,) = load_calibrations(out)
    assert [f.rows for f in fitted.fits if f.parameters == "premium"] == [4, 4]
    # The candles move by 0.6 % an hour, 0.562 a year; the synthetic level is around 0.5.
    assert fitted.btc.premium == pytest.approx(0.5 / 0.562, rel=0.15)


def test_calibrate_never_overwrites(quotes_file: Path, params_file: Path) -> None:
    before = params_file.read_bytes()
    message = refused(
        "options", "calibrate", "--quotes", quotes_file, "--until", FITTED_UNTIL, "--out", params_file
    )
    assert message == f"Error: {params_file} exists already; nothing was overwritten, name another file"
    assert params_file.read_bytes() == before


@pytest.mark.parametrize(
    ("until", "message"),
    [
        ("soon", "'soon' is not a date; write YYYY-MM-DD"),
        ("2026-01-09T05:00", "calibrate until the start of a day (UTC); got 2026-01-09 05:00:00+00:00"),
        ("2026-01-05", "no quote was recorded before 2026-01-05"),
        ("2016-01-01", "no calibration applies on 2015-12-31"),
    ],
)
def test_calibrate_refuses_days_that_cannot_work(
    quotes_file: Path, tmp_path: Path, until: str, message: str
) -> None:
    out = tmp_path / "p.json"
    assert message in refused("options", "calibrate", "--quotes", quotes_file, "--until", until, "--out", out)
    assert not out.exists()


def test_calibrate_says_what_to_give_where_nothing_was_given(tmp_path: Path) -> None:
    message = refused("options", "calibrate", "--until", "2026-03-01", "--out", tmp_path / "p.json")
    assert "nothing to fit before 2026-03-01: give quotes, or candles with a volatility index" in message


def test_unknown_columns_are_named_beside_those_that_were_found(quotes_file: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.parquet"
    quotes = pd.read_parquet(quotes_file).rename(columns={"iv": "sigma", "bid_price": "bid"})
    quotes.head(50).to_parquet(bad)
    wanted = f"{bad}: missing columns bid_price, mark_iv; found quote_time, underlying, instrument"
    assert wanted in refused(
        "options", "calibrate", "--quotes", bad, "--until", FITTED_UNTIL, "--out", tmp_path / "p"
    )
    assert wanted in refused("options", "check", "--quotes", bad, "--from", FITTED_UNTIL)
    assert (
        call("options", "check", "--quotes", tmp_path / "none.parquet", "--from", FITTED_UNTIL).exit_code == 2
    )


# options check


def test_check_finds_quotes_of_the_fitted_model_where_the_model_says(
    quotes_file: Path, params_file: Path
) -> None:
    text = succeed(
        "options", "check", "--quotes", quotes_file, "--from", FITTED_UNTIL, "--params", params_file, "--json"
    )
    answer = json.loads(text)
    assert {k: answer[k] for k in ("from", "to", "level")} == {
        "from": FITTED_UNTIL, "to": None, "level": "one at-the-money quote a snapshot",
    }  # fmt: skip
    assert list(answer["buckets"][0]) == [
        "underlying", "delta", "days", "quotes", "iv_error_points", "iv_bias_points", "iv_error_p90_points",
        "bid_error_pct", "bid_bias_pct", "no_bid_pct",
    ]  # fmt: skip
    whole = [b for b in answer["buckets"] if (b["delta"], b["days"]) == ("all", "all")]
    assert [b["underlying"] for b in whole] == ["BTC", "ETH"]
    for bucket in whole:
        assert bucket["quotes"] > 100
        assert bucket["iv_error_points"] < 0.05
        assert bucket["bid_error_pct"] == 0.0


def test_check_without_params_holds_the_packages_own_against_the_quotes(quotes_file: Path) -> None:
    answer = json.loads(
        succeed("options", "check", "--quotes", quotes_file, "--from", FITTED_UNTIL, "--json")
    )
    # In January 2026 the package's smile is still the assumed one, which these quotes were not made of.
    assert answer["buckets"][0]["iv_error_points"] > 0.2


def test_check_prints_a_table_by_coin_delta_and_days(quotes_file: Path, params_file: Path) -> None:
    base = ("options", "check", "--quotes", quotes_file, "--from", FITTED_UNTIL, "--params", params_file)
    text = succeed(*base)
    rows = [line for line in text.splitlines() if line.startswith("│")]
    assert "model against market (every bucket: --json)" in text
    assert sum("BTC" in r for r in rows) == sum("ETH" in r for r in rows) >= 8
    assert not any(re.search(r"0\.1-0\.2 +│ 3-5", r) for r in rows), "the cells of both are for --json"
    one_day = succeed(*base, "--to", "2026-01-10", "--json")
    all_days = succeed(*base, "--json")
    counts = [json.loads(t)["buckets"][0]["quotes"] for t in (one_day, all_days)]
    assert 0 < counts[0] < counts[1] / 3


def test_parameters_are_refused_for_days_before_they_apply(quotes_file: Path, params_file: Path) -> None:
    message = refused(
        "options", "check", "--quotes", quotes_file, "--from", "2026-01-08", "--params", params_file
    )
    assert message == "Error: no calibration applies on 2026-01-08; the first one does from 2026-01-09 on"


def test_check_explains_dates_and_files_that_cannot_work(quotes_file: Path, tmp_path: Path) -> None:
    base = ("options", "check", "--quotes", quotes_file)
    assert "'yesterdayish' is not a date" in refused(*base, "--from", "yesterdayish")
    assert "'x' is not a date" in refused(*base, "--from", FITTED_UNTIL, "--to", "x")
    assert f"{quotes_file}: no quotes from 2027-01-01" in refused(*base, "--from", "2027-01-01")
    (tmp_path / "p.json").write_text('[{"applies_from": "2026-01-09", "btc": {"rho": 7}}]')
    message = refused(*base, "--from", FITTED_UNTIL, "--params", tmp_path / "p.json")
    assert f"{tmp_path / 'p.json'}: 0.btc.premium: Field required" in message


@pytest.mark.parametrize(
    ("command", "example"),
    [
        (("options", "calibrate"), "options calibrate --quotes quotes.parquet --until 2026-03-01"),
        (
            ("options", "check"),
            "options check --quotes quotes.parquet --from 2026-03-01 --params params.json",
        ),
        (("backtest",), "backtest --klines ~/candles --underlying BTC --start 2023-10-01"),
    ],
)
def test_help_shows_an_example(command: tuple[str, ...], example: str) -> None:
    text = succeed(*command, "--help")
    assert example in text.split("Example:")[1]


@pytest.mark.slow
def test_example_of_the_help_works_on_what_was_really_recorded(reference_data: Path, tmp_path: Path) -> None:
    quotes, out = reference_data / "options" / "deribit_calls_daily_2026H1.parquet", tmp_path / "params.json"
    succeed("options", "calibrate", "--quotes", quotes, "--until", "2026-03-01", "--out", out)
    (fitted,) = load_calibrations(out)
    days = {f.parameters: f.last_day.isoformat() for f in fitted.fits}
    assert days == {"premium": "2025-10-15", **dict.fromkeys(("shape", "spread", "basis"), "2026-02-28")}
    # Puts on the downside are dearer than calls, and weekends count half.
    assert -0.5 < fitted.btc.rho < -0.1
    assert 0.4 < fitted.btc.weekend_weight < 0.6
    answer = json.loads(
        succeed("options", "check", "--quotes", quotes, "--from", "2026-03-01", "--params", out, "--json")
    )
    whole = {b["underlying"]: b for b in answer["buckets"] if (b["delta"], b["days"]) == ("all", "all")}
    assert (whole["BTC"]["quotes"], whole["ETH"]["quotes"]) == (2195, 1953)
    assert whole["BTC"]["iv_error_points"] == pytest.approx(0.71, abs=0.05)
    assert whole["ETH"]["iv_error_points"] == pytest.approx(1.10, abs=0.05)
    assert "no calibration applies on 2026-02-28" in refused(
        "options", "check", "--quotes", quotes, "--from", "2026-02-28", "--params", out
    )


# options.calibration_file


def merged(path: Path) -> tuple[Calibration, ...]:
    return load_profile(
        "sample", overrides=parse_overrides((f"options.calibration_file={path}",))
    ).options.calibrations


def test_own_calibrations_take_over_from_the_packages(params_file: Path) -> None:
    (own,) = load_calibrations(params_file)
    dated = merged(params_file)
    before = [c for c in default_calibrations() if c.applies_from < own.applies_from]
    assert list(dated) == [*before, own]
    # What options check was told to hold against the market is what runs, however long after.
    assert OptionParams(calibrations=dated).calibration_at(at("2026-12-01").date()) == own


def test_calibration_of_the_package_gives_way_to_one_of_the_same_day(tmp_path: Path) -> None:
    own = calibration(curved_surface(), since=default_calibrations()[-1].applies_from)
    (tmp_path / "own.json").write_bytes(dump_calibrations((own,)))
    assert merged(tmp_path / "own.json") == (*default_calibrations()[:-1], own)


def test_settings_of_live_trading_make_no_table_of_a_run_stale() -> None:
    plain = load_profile("sample").section_hash("paper")
    live = {"paper.live.start": "2024-01-01", "paper.spot.size": "5"}
    assert load_profile("sample", overrides=live).section_hash("paper") == plain
    assert (
        load_profile("sample", overrides={"paper.exit_style": "hold_to_expiry"}).section_hash("paper")
        != plain
    )


def test_own_calibrations_count_as_a_change_of_the_settings(params_file: Path) -> None:
    plain = load_profile("sample")
    own = load_profile("sample", overrides={"options.calibration_file": str(params_file)})
    assert plain.options.calibrations == default_calibrations()
    assert own.section_hash("options") != plain.section_hash("options")
    assert own.section_hash("backtest") == plain.section_hash("backtest")
    copied = params_file.with_name("copy.json")
    copied.write_bytes(params_file.read_bytes())
    again = load_profile("sample", overrides={"options.calibration_file": str(copied)})
    assert again.section_hash("options") == own.section_hash("options"), "its content counts, not its name"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file"),
        ("[]", "own.json: holds no calibration"),
        ("{", "own.json: the file: Invalid JSON"),
    ],
)
def test_run_says_what_is_wrong_with_a_calibration_file(
    content: str | None, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("PROFILE", "KLINES", "DATA_DIR", "OVERRIDES"):
        monkeypatch.setenv(f"TRADER_PIPELINE_{name}", "")  # `run` sets them for this process
        monkeypatch.delenv(f"TRADER_PIPELINE_{name}")
    if content is not None:
        (tmp_path / "own.json").write_text(content)
    path = tmp_path / "own.json"
    assert message in refused("run", "--profile", "tiny", "--set", f"options.calibration_file={path}")


# backtest on recorded quotes and with the volatility index


def candle_file(folder: Path, coin: str, frame: pd.DataFrame) -> Path:
    millis = frame["open_time"].astype("datetime64[ms, UTC]").astype("int64")
    path = folder / f"{coin}USDT_1h.parquet"
    frame[["open", "high", "low", "close", "volume"]].assign(open_time=millis).to_parquet(path)
    return path


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """`backtest` over five days on candles of which three days have quotes, at 09:18; what it prints."""
    folder = tmp_path_factory.mktemp("recorded")
    frame = random_candles(8, "2023-12-01", 24 * 120)
    candles = candle_file(folder, "BTC", frame)
    chain = build_option_chain(
        fine_klines=frame, market=Market("BTC", "1h"), start=at("2024-02-10"), end=at("2024-02-13"),
        option_params=OptionParams(), decision_offset_hours=9,
    )  # fmt: skip
    quotes = quotes_of(chain)
    quotes["quote_time"] += pd.Timedelta(minutes=18)
    quotes.to_parquet(folder / "quotes.parquet")

    def backtest(*arguments: object, with_quotes: bool = True) -> Result:
        return call(
            "backtest", "--klines", candles, "--underlying", "BTC", "--start", "2024-02-10", "--end", "2024-02-15",
            "--set", "backtest.decision_offset_hours=10", "--set", "backtest.score_threshold=5.5",
            *(("--quotes", folder / "quotes.parquet") if with_quotes else ()), *arguments,
        )  # fmt: skip

    return backtest


def figures(result: Result, name: str) -> list[float]:
    """A figure of the printed summary of every decision by itself, under each exit style."""
    assert result.exit_code == 0, result.output
    (summary,) = re.findall(r"Every decision by itself(.*?)└", result.output, flags=re.DOTALL)
    (line,) = (text for text in summary.splitlines() if re.match(rf"│ {name} ", text))
    return [float(v) for v in re.findall(r"-?\d[\d.e+-]*", line)]


def test_backtest_on_recorded_quotes_counts_the_days_without_any(recorded: Callable[..., Result]) -> None:
    result = recorded("--set", "options.source=recorded")
    assert figures(result, "decisions") == [5, 5]
    assert figures(result, "without_quotes") == [2, 2]
    assert 0 < figures(result, "trades")[0] <= 3
    old = recorded("--set", "options.source=recorded", "--set", "options.max_quote_age_hours=0.5")
    assert figures(old, "without_quotes") == [5, 5]
    assert figures(old, "trades") == [0, 0]


def test_backtest_takes_quotes_only_where_the_source_says_so(recorded: Callable[..., Result]) -> None:
    unused = recorded()
    assert unused.exit_code == 2
    assert "--quotes counts only with --set options.source=recorded" in unused.output
    lacking = recorded("--set", "options.source=recorded", with_quotes=False)
    assert lacking.exit_code == 2
    assert "say where the quotes are with --quotes FILE" in lacking.output
    assert "Traceback" not in lacking.output
    wrong = recorded("--set", "options.source=quotes")
    assert "setting options.source: Input should be 'model' or 'recorded'" in wrong.output


def test_backtest_exports_training_files_of_recorded_quotes(
    recorded: Callable[..., Result], tmp_path: Path
) -> None:
    result = recorded("--set", "options.source=recorded", "--out", tmp_path)
    assert result.exit_code == 0, result.output
    (path,) = tmp_path.glob("training_dataset_BTC_20240210_20240214_both_*.csv")
    rows = pd.read_csv(path)
    assert (rows["reason"] == "no_quotes").sum() == 4
    assert pd.to_datetime(rows["decision_time"]).dt.hour.unique().tolist() == [10]


def test_backtest_prices_at_the_volatility_index_where_it_is_given(
    recorded: Callable[..., Result], tmp_path: Path
) -> None:
    hours = pd.date_range("2024-02-01", "2024-03-20", freq="1h", tz="UTC")
    premiums = []
    for percent in (60.0, 120.0):
        frame = pd.DataFrame({"open_time": hours.strftime("%Y-%m-%dT%H:%M:%SZ")})
        path = tmp_path / f"{percent:g}" / "BTC_dvol_1h.csv"
        path.parent.mkdir()
        frame.assign(open=percent, high=percent, low=percent, close=percent).to_csv(path, index=False)
        result = recorded(
            "--volatility-index", path, "--set", "backtest.score_threshold=0", with_quotes=False
        )
        assert figures(result, "trades") == [5, 5]
        premiums.append(figures(result, "total_pnl_coin")[0])
    assert premiums[1] > premiums[0]
    bad = recorded(
        "--volatility-index", tmp_path / "60" / "BTC_dvol_1h.csv", "--underlying", "ETH", with_quotes=False
    )
    assert bad.exit_code == 1


def test_backtest_on_real_quotes(reference_data: Path) -> None:
    result = call(
        "backtest", "--klines", reference_data / "klines" / "ETHUSDT_1h.parquet", "--underlying", "ETH",
        "--start", "2026-03-23", "--end", "2026-04-06", "--quotes", reference_data / "options",
        "--set", "options.source=recorded", "--set", "backtest.decision_offset_hours=10",
        "--set", "backtest.max_candidates=10",
    )  # fmt: skip
    assert figures(result, "decisions") == [14, 14]
    assert figures(result, "without_quotes") == [2, 2]
    assert figures(result, "trades") == [8, 8]


def test_value_like_a_clock_is_no_number_of_seconds() -> None:
    assert parse_overrides(("a.b=1:30", "a.c=90", "a.d=[1, 2]")) == {"a.b": "1:30", "a.c": 90, "a.d": [1, 2]}
