"""Measuring the model against quotes: what counts, what is left out, and the errors on real chains."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from trader_pipeline.klines import KlinesParams, build_klines
from trader_pipeline.options import OptionParams
from trader_pipeline.options.calibration import calibrate, prepare_quotes
from trader_pipeline.options.params import Calibration, default_calibrations
from trader_pipeline.options.quote_check import DAY_BUCKETS, DELTA_BUCKETS, quote_errors, summarise_errors
from trader_pipeline.options.recordings import load_quotes_file
from trader_pipeline.options.surface import atm_iv
from trader_pipeline.schema import UNDERLYINGS, Market
from trader_pipeline_tests.options.calibrations import curved_surface, options_of
from trader_pipeline_tests.options.markets import at, random_candles
from trader_pipeline_tests.options.synthetic_quotes import synthetic_quotes

UNTIL = at("2026-03-01")
SMILING = curved_surface()
SMILELESS = curved_surface(eta=0.0)


def headline(errors: pd.DataFrame, underlying: str = "BTC") -> pd.Series:
    table = summarise_errors(errors)
    row = table[(table["underlying"] == underlying) & (table["delta"] == "all") & (table["days"] == "all")]
    assert len(row) == 1
    return row.iloc[0]


def test_quotes_of_the_model_itself_have_no_error() -> None:
    """Without a smile the level is read off exactly; with one, off the line between two strikes."""
    exact = quote_errors(synthetic_quotes(SMILELESS), options_of(SMILELESS, minimum=1e-3))
    assert (exact["model_iv"] - exact["iv"]).abs().max() < 1e-12
    assert (exact["model_bid"] == exact["bid_price"].fillna(0.0)).all()
    smiling = quote_errors(synthetic_quotes(SMILING), options_of(SMILING, minimum=1e-3))
    assert headline(smiling)["iv_error_points"] < 0.01
    assert headline(smiling)["bid_error_pct"] == 0.0
    assert headline(smiling)["bid_bias_pct"] == 0.0


def test_errors_are_model_minus_market() -> None:
    quotes = synthetic_quotes(SMILELESS)
    dear = quote_errors(quotes.assign(bid_price=quotes["bid_price"] / 2), options_of(SMILELESS, minimum=1e-3))
    assert headline(dear)["bid_bias_pct"] == headline(dear)["bid_error_pct"] == pytest.approx(100.0)
    errors = dear.assign(model_iv=dear["iv"] - 0.03)
    found = headline(errors)
    assert found["iv_error_points"] == pytest.approx(3.0)
    assert found["iv_bias_points"] == pytest.approx(-3.0)
    assert found["iv_error_p90_points"] == pytest.approx(3.0)


def test_headline_is_calls_of_3_to_35_days_and_delta_a_tenth_to_a_half() -> None:
    errors = quote_errors(synthetic_quotes(SMILING), options_of(SMILING))
    inside = errors[errors["days"].between(3, 35) & errors["delta"].between(0.1, 0.5)]
    assert 0 < len(inside) < len(errors)
    assert headline(errors)["quotes"] == len(inside)
    outside = errors.assign(model_iv=lambda f: f["model_iv"].where(f.index.isin(inside.index), 9.0))
    assert headline(outside).equals(headline(errors))


def test_share_without_a_bid_is_counted_and_its_rows_have_no_bid_error() -> None:
    errors = quote_errors(synthetic_quotes(SMILELESS), options_of(SMILELESS, minimum=1e-3))
    inside = errors.index[errors["days"].between(3, 35) & errors["delta"].between(0.1, 0.5)]
    for missing in (np.nan, 0.0):
        errors.loc[inside[: len(inside) // 4], "bid_price"] = missing
        found = headline(errors)
        assert found["no_bid_pct"] == pytest.approx(100 * (len(inside) // 4) / len(inside))
        assert found["bid_error_pct"] == 0.0
    errors["bid_price"] = np.nan
    assert headline(errors)["no_bid_pct"] == 100
    assert np.isnan(headline(errors)["bid_error_pct"])


def test_rows_stamped_seconds_apart_are_one_snapshot() -> None:
    quotes = synthetic_quotes(SMILING, days=6)
    ranks = quotes.groupby("quote_time")["expiry"].rank("dense")
    apart = quotes.assign(quote_time=quotes["quote_time"] + pd.to_timedelta(7 * ranks, unit="s"))
    assert apart["quote_time"].nunique() > 40
    prepared = prepare_quotes(apart, underlying="BTC")
    assert len(prepared.snapshots) == prepared.frame["snapshot"].nunique() == 6
    assert len(prepared) == len(quotes)
    later = quotes.assign(quote_time=quotes["quote_time"] + pd.to_timedelta(ranks % 2 * 10, unit="min"))
    assert len(prepare_quotes(later, underlying="BTC").snapshots) == 12


def test_level_is_that_of_the_expiry_nearest_to_two_weeks() -> None:
    prepared = prepare_quotes(synthetic_quotes(SMILELESS, days=10), underlying="BTC")
    for snapshot, chosen in prepared.snapshots.iterrows():
        lives = prepared.frame.loc[prepared.frame["snapshot"] == snapshot, "days"]
        assert abs(chosen["days"] - 14) == pytest.approx((lives - 14).abs().min())
        same = prepared.frame[
            (prepared.frame["snapshot"] == snapshot) & (prepared.frame["end"] == chosen["end"])
        ]
        assert chosen["atm"] == pytest.approx(same["iv"].iloc[0], rel=1e-12)


def test_a_snapshot_with_strikes_on_one_side_of_the_forward_is_left_out() -> None:
    quotes = synthetic_quotes(SMILING, days=6)
    days = quotes["quote_time"].dt.normalize()
    third, fifth = (days == sorted(days.unique())[i] for i in (2, 4))
    above, below = quotes["strike"] > quotes["forward"], quotes["strike"] < quotes["forward"]
    one_sided = quotes[(~third | above) & (~fifth | below)]
    errors = quote_errors(one_sided, options_of(SMILING))
    assert len(errors) == (~third & ~fifth).sum()
    assert not set(errors["quote_time"]) & set(quotes.loc[third | fifth, "quote_time"])


def test_puts_and_the_other_coin_are_left_out() -> None:
    quotes = synthetic_quotes(SMILING, days=4)
    ether = synthetic_quotes(SMILING, underlying="ETH", days=4)
    puts = quotes.assign(option_type="put", iv=9.0)
    prepared = prepare_quotes(pd.concat([quotes, puts, ether]), underlying="BTC")
    assert len(prepared) == len(quotes)
    errors = quote_errors(pd.concat([quotes, puts, ether]), options_of(SMILING))
    assert errors["underlying"].value_counts().to_dict() == {"BTC": len(quotes), "ETH": len(ether)}
    assert set(summarise_errors(errors)["underlying"]) == {"BTC", "ETH"}


def test_nothing_to_measure_says_so() -> None:
    quotes = synthetic_quotes(SMILING, days=1)
    with pytest.raises(ValueError, match="there are no quotes to hold the model against"):
        quote_errors(quotes.iloc[:0], options_of(SMILING))
    with pytest.raises(ValueError, match=r"quotes of BTC and no candles; candles found: \['ETH'\]"):
        quote_errors(quotes, options_of(SMILING), candles={"ETH": random_candles(1, "2025-12-20", 99)})


def test_rows_that_candles_do_not_cover_are_left_out() -> None:
    quotes = synthetic_quotes(SMILING, days=10)
    candles = random_candles(5, "2025-12-20", 24 * 22, price=80_000.0)
    errors = quote_errors(quotes, options_of(SMILING, window_days=10), candles={"BTC": candles})
    covered = quotes["quote_time"] <= candles["close_time"].iloc[-1] + pd.Timedelta(days=1)
    assert 0 < covered.sum() < len(quotes)
    assert len(errors) == covered.sum()


def test_with_candles_the_level_is_what_those_closed_by_then_forecast() -> None:
    quotes = synthetic_quotes(SMILING, days=10)
    params = options_of(SMILING, window_days=10)
    candles = random_candles(5, "2025-12-20", 24 * 30, price=80_000.0)
    errors = quote_errors(quotes, params, candles={"BTC": candles})
    assert len(errors) == len(quotes)
    levels = pd.Series(atm_iv(candles, params, underlying="BTC"), candles["close_time"])
    for time, part in errors.groupby("quote_time"):
        assert part["level"].nunique() == 1
        assert part["level"].iloc[0] == pytest.approx(levels[levels.index <= time].iloc[-1], rel=1e-9)
    changed = candles.copy()
    changed.loc[changed["close_time"] > at("2026-01-08"), ["open", "high", "low", "close"]] *= 2
    again = quote_errors(quotes, params, candles={"BTC": changed})
    early = errors["quote_time"] < at("2026-01-08")
    assert early.any()
    pd.testing.assert_frame_equal(again[early], errors[early], check_exact=True)


@pytest.fixture(scope="module")
def real_quotes(reference_data: Path) -> pd.DataFrame:
    return load_quotes_file(reference_data / "options")


@pytest.fixture(scope="module")
def real_candles(reference_data: Path) -> dict[str, pd.DataFrame]:
    params = KlinesParams(source="file", path=str(reference_data / "klines"))
    return {u: build_klines(Market(u, "1h"), params)[0] for u in UNDERLYINGS}


@pytest.fixture(scope="module")
def real_fit(real_quotes: pd.DataFrame, real_candles: dict[str, pd.DataFrame]) -> Calibration:
    base = OptionParams(calibrations=default_calibrations()[:-1])
    return calibrate(until=UNTIL, base=base, quotes=real_quotes, candles=real_candles)


@pytest.fixture(scope="module")
def real_errors(real_quotes: pd.DataFrame, real_fit: Calibration) -> pd.DataFrame:
    later = real_quotes[real_quotes["quote_time"] >= UNTIL]
    return quote_errors(later, OptionParams(calibrations=(real_fit,)))


def test_shipped_calibration_is_what_the_quotes_before_its_day_give(real_fit: Calibration) -> None:
    shipped = default_calibrations()[-1]
    assert shipped.applies_from == UNTIL.date()
    for underlying in UNDERLYINGS:
        found, known = real_fit.of(underlying).model_dump(), shipped.of(underlying).model_dump()
        assert np.array(found.pop("half_spread")) == pytest.approx(
            np.array(known.pop("half_spread")), abs=1e-3
        )
        assert found == pytest.approx(known, rel=0.01)
    assert [f.model_dump(exclude={"source"}) for f in real_fit.fits] == [
        f.model_dump(exclude={"source"}) for f in shipped.fits
    ]


@pytest.mark.parametrize(("underlying", "quotes", "points"), [("BTC", 2195, 0.71), ("ETH", 1953, 1.10)])
def test_error_on_later_quotes_is_below_two_volatility_points(
    real_errors: pd.DataFrame, underlying: str, quotes: int, points: float
) -> None:
    found = headline(real_errors, underlying)
    assert found["quotes"] == quotes
    assert found["iv_error_points"] < 2
    assert found["iv_error_points"] == pytest.approx(points, abs=0.1)
    assert abs(found["iv_bias_points"]) < 0.5
    assert found["bid_error_pct"] < 5
    assert abs(found["bid_bias_pct"]) < 1
    assert found["no_bid_pct"] < 1


def test_buckets_partition_the_headline(real_errors: pd.DataFrame) -> None:
    table = summarise_errors(real_errors)
    deltas, days = len(DELTA_BUCKETS) - 1, len(DAY_BUCKETS) - 1
    for _, mine in table.groupby("underlying"):
        whole = mine.loc[(mine["delta"] == "all") & (mine["days"] == "all"), "quotes"].item()
        by_delta = mine[(mine["delta"] != "all") & (mine["days"] == "all")]
        by_days = mine[(mine["delta"] == "all") & (mine["days"] != "all")]
        both = mine[(mine["delta"] != "all") & (mine["days"] != "all")]
        assert (len(by_delta), len(by_days)) == (deltas, days)
        for part in (by_delta, by_days, both):
            assert part["quotes"].sum() == whole
            assert not part.duplicated(["delta", "days"]).any()
        assert np.isfinite(mine.drop(columns=["underlying", "delta", "days"]).to_numpy(dtype=float)).all()
        summed = both.groupby("delta")["quotes"].sum()
        assert (summed[by_delta["delta"]].to_numpy() == by_delta["quotes"].to_numpy()).all()


def test_level_from_candles_alone_is_worse_but_of_the_right_size(
    real_quotes: pd.DataFrame, real_candles: dict[str, pd.DataFrame], real_fit: Calibration
) -> None:
    """3.5 volatility points for BTC, 5.9 for ETH."""
    later, points = real_quotes[real_quotes["quote_time"] >= UNTIL], {"BTC": 3.50, "ETH": 5.85}
    errors = quote_errors(later, OptionParams(calibrations=(real_fit,)), candles=real_candles)
    for underlying in UNDERLYINGS:
        assert headline(errors, underlying)["iv_error_points"] == pytest.approx(points[underlying], abs=0.5)
