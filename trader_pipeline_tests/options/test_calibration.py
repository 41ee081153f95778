"""Fitting: known parameters are found again, nothing after the day enters, and wrong use is told what to do.

Calibrations as files and by date are in `test_calibration_files`.
"""

import datetime as dt

import numpy as np
import pandas as pd
import pytest

from trader_pipeline.options import SurfaceParams
from trader_pipeline.options.calibration import (
    calibrate,
    fit_half_spread,
    index_over_atm,
    model_ivs,
    prepare_quotes,
    snapshot_levels,
)
from trader_pipeline.options.kernels import tick_steps
from trader_pipeline.options.params import (
    DAY_NODES,
    DELTA_NODES,
    Calibration,
    dump_calibrations,
)
from trader_pipeline.options.surface import build_surface
from trader_pipeline.options.venue import venue_rules
from trader_pipeline.schema import conform
from trader_pipeline.schema.tables import OPTION_QUOTES, VOLATILITY_INDEX
from trader_pipeline_tests.options.calibrations import (
    curved_surface,
    flat_surface,
    options_of,
    spread_of,
)
from trader_pipeline_tests.options.markets import at, candles
from trader_pipeline_tests.options.synthetic_quotes import shifted, synthetic_quotes

BASE = options_of(flat_surface(), window_days=10)
UNTIL = at("2026-01-15")
TRUE = {
    "BTC": curved_surface(),
    "ETH": curved_surface(
        rho=0.15, eta=0.6, gamma=0.3, long_run_iv=0.35, reversion_days=12.0, weekend_weight=0.8, basis=-0.02
    ),
}
HOURLY = 0.01 * np.sqrt(24 * 365)


def both_coins(days: int = 8, **surfaces: SurfaceParams) -> pd.DataFrame:
    """Chains of both coins from 2026-01-05 on."""
    true = {**TRUE, **surfaces}
    parts = [synthetic_quotes(true[u], underlying=u, days=days, seed=i) for i, u in enumerate(true, 1)]
    return pd.concat(parts).sort_values(["quote_time", "instrument"], ignore_index=True)


def steady_candles() -> pd.DataFrame:
    """Hourly candles of 1 % up and down in turn, from well before the quotes to well after them."""
    return candles("2025-12-20", 80_000 * np.exp(0.01 * (np.arange(24 * 60) % 2)))


def steady_index(level: float, *, days: int = 20, underlying: str = "BTC") -> pd.DataFrame:
    hours = pd.date_range(at("2026-01-05"), periods=24 * days, freq="h", unit="us")
    return pd.DataFrame(
        {
            "underlying": underlying, "open_time": hours, "iv_open": level, "iv_high": level, "iv_low": level,
            "iv_close": level, "close_time": hours + pd.Timedelta(hours=1),
        }
    )  # fmt: skip


QUOTES = both_coins()


@pytest.fixture(scope="module")
def fitted() -> Calibration:
    return calibrate(until=UNTIL, base=BASE, quotes=QUOTES, candles={u: steady_candles() for u in TRUE})


def volatility_errors(quotes: pd.DataFrame, underlying: str, found: SurfaceParams) -> pd.Series:
    """Model less true volatility in points, calls of 1.5 to 60 days and delta 0.05 to 0.9."""
    prepared = prepare_quotes(quotes, underlying=underlying)
    surface = build_surface(options_of(found), underlying=underlying)
    frame = prepared.frame
    errors = 100 * (model_ivs(prepared, snapshot_levels(prepared, surface), surface) - frame["iv"])
    return errors[frame["days"].between(1.5, 60) & frame["delta"].between(0.05, 0.9)]


def test_synthetic_quotes_conform_to_the_table_of_recorded_ones() -> None:
    assert conform(QUOTES, OPTION_QUOTES).num_rows == len(QUOTES) > 10_000
    assert conform(steady_index(0.5), VOLATILITY_INDEX).num_rows == 480


@pytest.mark.parametrize("underlying", ["BTC", "ETH"])
def test_known_parameters_are_found_again(fitted: Calibration, underlying: str) -> None:
    found, true = fitted.of(underlying), TRUE[underlying]
    for name in ("rho", "eta", "gamma", "long_run_iv", "weekend_weight"):
        assert getattr(found, name) == pytest.approx(getattr(true, name), abs=0.005), name
    assert found.reversion_days == pytest.approx(true.reversion_days, rel=0.02)
    assert found.basis == pytest.approx(true.basis, abs=1e-4)
    assert volatility_errors(QUOTES, underlying, found).abs().max() < 0.05


def test_parameters_are_found_again_where_the_level_is_far_below_the_long_run() -> None:
    true = curved_surface(
        rho=0.2, eta=0.5, gamma=0.3, long_run_iv=0.8, reversion_days=40.0, weekend_weight=0.9
    )
    quotes = both_coins(BTC=true)
    found = calibrate(until=UNTIL, base=BASE, quotes=quotes)
    assert volatility_errors(quotes, "BTC", found.btc).abs().max() < 0.05


def test_fits_say_on_which_days_and_how_many_rows(fitted: Calibration) -> None:
    assert fitted.applies_from == UNTIL.date()
    assert [(f.underlying, f.parameters) for f in fitted.fits] == [
        (u, p) for u in ("BTC", "ETH") for p in ("shape", "spread", "basis", "premium")
    ]
    for fit in fitted.fits:
        assert (fit.first_day, fit.last_day) == (dt.date(2026, 1, 5), dt.date(2026, 1, 12))
        assert fit.source == "recorded data"
    rows = QUOTES["underlying"].value_counts()
    assert [f.rows for f in fitted.fits] == [rows["BTC"]] * 3 + [8] + [rows["ETH"]] * 3 + [8]


@pytest.mark.parametrize("change", ["dropped", "dearer", "repeated"])
def test_rows_from_the_day_on_do_not_change_one_byte(change: str) -> None:
    until = at("2026-01-10")
    early = QUOTES[QUOTES["quote_time"] < until]
    later = QUOTES[QUOTES["quote_time"] >= until].assign(
        iv=lambda f: 3 * f["iv"], forward=lambda f: 2 * f["forward"]
    )
    repeated = pd.concat([early, shifted(later, "90d")])
    quotes = {"dropped": early, "dearer": pd.concat([early, later]), "repeated": repeated}
    index = steady_index(0.6)
    index.loc[index["close_time"] >= until, ["iv_open", "iv_high", "iv_low", "iv_close"]] = 9.0
    moved = steady_candles()
    moved.loc[moved["close_time"] >= until, ["open", "high", "low", "close"]] *= 1.5
    settings = {"until": until, "base": BASE}
    before = calibrate(quotes=QUOTES, candles={u: steady_candles() for u in TRUE}, **settings)
    after = calibrate(
        quotes=quotes[change], volatility_index=index, candles=dict.fromkeys(TRUE, moved), **settings
    )
    assert dump_calibrations((before,)) == dump_calibrations((after,))


def test_index_and_candles_from_the_day_on_do_not_change_one_byte() -> None:
    until = at("2026-01-10")
    index, frame = steady_index(0.6), steady_candles()
    changed, moved = index.copy(), frame.copy()
    changed.loc[changed["close_time"] >= until, "iv_close"] = 9.0
    moved.loc[moved["close_time"] >= until, ["open", "high", "low", "close"]] *= 1.5
    first, second = (
        calibrate(until=until, base=BASE, volatility_index=i, candles={"BTC": f})
        for i, f in ((index, frame), (changed, moved))
    )
    assert dump_calibrations((first,)) == dump_calibrations((second,))


def test_a_quote_stamped_at_midnight_of_the_day_is_not_known() -> None:
    at_midnight = QUOTES.assign(quote_time=UNTIL)
    with pytest.raises(ValueError, match="no quote was recorded before 2026-01-15"):
        calibrate(until=UNTIL, base=BASE, quotes=at_midnight)


def test_premium_from_quotes_is_their_level_over_realised_volatility(fitted: Calibration) -> None:
    prepared = prepare_quotes(QUOTES, underlying="BTC")
    surface = build_surface(options_of(TRUE["BTC"]), underlying="BTC")
    levels = pd.Series(snapshot_levels(prepared, surface)).groupby(prepared.frame["snapshot"]).first()
    assert fitted.btc.premium == pytest.approx(levels.median() / HOURLY, rel=1e-3)


def test_premium_from_the_index_is_its_level_over_realised_volatility() -> None:
    base = options_of(curved_surface(index_over_atm=1.25), window_days=10)
    found = calibrate(
        until=at("2026-01-10"),
        base=base,
        volatility_index=steady_index(0.8),
        candles={"BTC": steady_candles()},
    )
    assert found.btc.premium == pytest.approx(0.8 / 1.25 / HOURLY, abs=1e-4)
    assert found.eth.premium == found.btc.premium, "a coin without an index takes BTC's"
    assert found.btc == base.calibrations[0].btc.model_copy(update={"premium": found.btc.premium})
    assert [(f.underlying, f.parameters, f.rows) for f in found.fits] == [
        ("BTC", "premium", 119), ("ETH", "premium", 119)
    ]  # fmt: skip


def test_a_coin_with_an_index_of_its_own_takes_that() -> None:
    index = pd.concat([steady_index(0.8), steady_index(0.4, underlying="ETH")])
    frames = {u: steady_candles() for u in TRUE}
    found = calibrate(until=at("2026-01-10"), base=BASE, volatility_index=index, candles=frames)
    assert found.eth.premium == pytest.approx(found.btc.premium / 2, abs=1e-4)


def test_known_half_spread_is_found_again_within_the_rounding_to_ticks() -> None:
    true = curved_surface(half_spread=spread_of((0.06,) * len(DELTA_NODES)))
    quotes = prepare_quotes(synthetic_quotes(true, days=20), underlying="BTC")
    found = np.array(fit_half_spread(quotes))
    frame = quotes.frame
    tick = tick_steps(frame["bid_price"].to_numpy(), frame["time"].to_numpy(), venue_rules())
    rounding = tick / 2 / frame["mark_price"]
    place = [_nearest(DELTA_NODES, frame["delta"]), _nearest(DAY_NODES, frame["days"])]
    judged = 0
    for (i, j), cell in frame.assign(rounding=rounding).groupby(place):
        if len(cell) >= 20 and cell["bid_price"].notna().all():
            assert abs(found[i, j] - 0.06) <= cell["rounding"].max() + 1e-4
            assert abs(found[i, j] - 0.06) < 0.02
            judged += 1
    assert judged > 30


def _nearest(nodes: tuple[float, ...], values: pd.Series) -> np.ndarray:
    return np.abs(values.to_numpy()[:, None] - np.array(nodes)).argmin(axis=1)


def test_half_spread_without_a_bid_is_the_whole_mark() -> None:
    none = synthetic_quotes(curved_surface()).assign(bid_price=np.nan)
    shares = np.array(fit_half_spread(prepare_quotes(none, underlying="BTC")))
    assert (shares == 0.999).all()


def test_cells_with_too_few_quotes_take_their_neighbours_value() -> None:
    quotes = synthetic_quotes(curved_surface(), days=40)
    life = quotes["expiry"] - quotes["quote_time"]
    week = life.between(pd.Timedelta(days=5), pd.Timedelta(days=10))
    only = prepare_quotes(quotes[week & quotes["delta"].between(0.36, 0.66)], underlying="BTC")
    assert np.bincount(_nearest(DELTA_NODES, only.frame["delta"]))[6:9].min() >= 20
    shares = np.array(fit_half_spread(only))
    assert (shares == shares[:, :1]).all(), "one column was seen"
    assert (shares[:6] == shares[6]).all()
    assert (shares[9:] == shares[8]).all()
    assert len(set(shares[6:9, 0])) == 3


def test_index_stands_above_the_money_where_there_is_a_smile() -> None:
    assert index_over_atm(flat_surface(), BASE) == pytest.approx(1.0, abs=1e-9)
    smiles = [index_over_atm(flat_surface(eta=eta), BASE) for eta in (0.3, 0.8, 1.5)]
    assert 1.0 < smiles[0] < smiles[1] < smiles[2]
    assert smiles[1] == pytest.approx(1.0757, abs=1e-4)


def test_what_no_data_was_given_for_stays_as_it_was() -> None:
    found = calibrate(until=UNTIL, base=BASE, quotes=QUOTES)
    assert found.btc.premium == BASE.calibrations[0].btc.premium
    assert {f.parameters for f in found.fits} == {"shape", "spread", "basis"}


def test_wrong_use_says_what_to_do() -> None:
    with pytest.raises(ValueError, match="until the start of a day"):
        calibrate(until=at("2026-01-15 01:00"), base=BASE, quotes=QUOTES)
    with pytest.raises(ValueError, match=r"a fit needs 200\. Choose a later day or give more quotes"):
        calibrate(until=at("2026-01-06"), base=BASE, quotes=QUOTES.groupby("underlying").head(150))
    with pytest.raises(ValueError, match="nothing to fit before 2026-01-15"):
        calibrate(until=UNTIL, base=BASE)
    with pytest.raises(ValueError, match="candles of BTC are needed for the premium of BTC"):
        calibrate(
            until=UNTIL, base=BASE, volatility_index=steady_index(0.6), candles={"ETH": steady_candles()}
        )
    late = candles("2026-01-20", np.linspace(100.0, 120.0, 24 * 20))
    with pytest.raises(ValueError, match="do not cover the time in which the level was recorded"):
        calibrate(until=UNTIL, base=BASE, volatility_index=steady_index(0.6), candles={"BTC": late})
    with pytest.raises(ValueError, match="no calibration applies on 2016-05-31"):
        calibrate(until=at("2016-06-01"), base=BASE, quotes=QUOTES)
