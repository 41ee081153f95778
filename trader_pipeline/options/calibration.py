"""Fitting the surface, the spread and the premium to what was recorded, up to a day and never beyond it.

Belongs here: from recorded quotes, volatility index and candles to a `Calibration`. Holding one against later quotes is
in `quote_check`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.integrate import quad
from scipy.optimize import least_squares

from trader_pipeline.options import surface_kernels as kernels
from trader_pipeline.options.kernels import tick_steps
from trader_pipeline.options.params import (
    DAY_NODES,
    DELTA_NODES,
    PARAMETER_GROUPS,
    Calibration,
    Fit,
    OptionParams,
    SurfaceParams,
)
from trader_pipeline.options.pricing import call_price_coin
from trader_pipeline.options.snapshots import snapshot_of
from trader_pipeline.options.surface import build_surface, epoch_seconds, realised_volatility
from trader_pipeline.options.venue import venue_rules
from trader_pipeline.schema import UNDERLYINGS

LEVEL_QUOTE_DAYS = 14.0
"""A snapshot's level is read off the at-the-money quote of the expiry nearest to this many days."""
_SHAPE_DAYS = (1.5, 60.0)
_SHAPE_DELTAS = (0.05, 0.9)
_LEAST_QUOTES = 200
_LEAST_IN_CELL = 20
_DIGITS = 4
# rho, share of the largest eta, gamma, ln(reversion in days), long-run volatility, weekend weight
_LOWEST = np.array([-0.9, 0.02, 0.02, np.log(2.0), 0.1, 0.2])
_HIGHEST = np.array([0.9, 1.0, 0.5, np.log(365.0), 2.0, 1.5])


@dataclass(frozen=True)
class Quotes:
    """Calls of one underlying with what a fit needs, one row each (see `prepare_quotes`)."""

    frame: pd.DataFrame
    snapshots: pd.DataFrame

    def __len__(self) -> int:
        return len(self.frame)


def prepare_quotes(quotes: pd.DataFrame, *, underlying: str) -> Quotes:
    """Calls of `underlying` (table OPTION_QUOTES) with `time`, `end` (epoch seconds), `days` and `snapshot`.

    `snapshots` has a row per snapshot with the at-the-money quote that gives its level: `time, end, atm`. A snapshot in
    which no expiry has strikes on both sides of its forward is left out.
    """
    mine = quotes[(quotes["underlying"] == underlying) & (quotes["option_type"] == "call")]
    mine = mine.sort_values(["quote_time", "instrument"], ignore_index=True)
    mine["time"], mine["end"] = epoch_seconds(mine["quote_time"]), epoch_seconds(mine["expiry"])
    mine["days"] = (mine["end"] - mine["time"]) / kernels.SECONDS_PER_DAY
    mine = mine[mine["days"] > 0]
    mine["snapshot"] = snapshot_of(mine)
    atm = _at_the_money(mine)
    atm["off"] = (atm["days"] - LEVEL_QUOTE_DAYS).abs()
    chosen = atm.sort_values(["snapshot", "off", "end"]).drop_duplicates("snapshot").set_index("snapshot")
    return Quotes(mine[mine["snapshot"].isin(chosen.index)].reset_index(drop=True), chosen)


def _at_the_money(calls: pd.DataFrame) -> pd.DataFrame:
    """Volatility at the forward of each expiry of each snapshot, linear in log-strike between the strikes around it."""
    calls = calls.assign(k=np.log(calls["strike"] / calls["forward"])).sort_values(["snapshot", "end", "k"])
    keys = ["snapshot", "end"]
    after = calls.groupby(keys)[["k", "iv"]].shift(-1)
    around = calls[(calls["k"] <= 0) & (after["k"] > 0)]
    after = after.loc[around.index]
    weight = -around["k"] / (after["k"] - around["k"])
    return around[["snapshot", "end", "time", "days"]].assign(
        atm=around["iv"] + weight * (after["iv"] - around["iv"])
    )


def snapshot_levels(quotes: Quotes, surface: kernels.Surface) -> np.ndarray:
    """30-day level at each row of the quotes: that of its snapshot's one at-the-money quote."""
    part = quotes.snapshots
    levels = kernels.levels_from_atm(
        part["atm"].to_numpy(), part["time"].to_numpy(), part["end"].to_numpy(), surface
    )
    return pd.Series(levels, part.index).loc[quotes.frame["snapshot"]].to_numpy()


def model_ivs(quotes: Quotes, levels: np.ndarray, surface: kernels.Surface) -> np.ndarray:
    """The model's volatility of each row, given the level, on the recorded forward."""
    f = quotes.frame
    return kernels.surface_ivs(
        levels, f["time"].to_numpy(), f["end"].to_numpy(), f["forward"].to_numpy(), f["strike"].to_numpy(), surface
    )  # fmt: skip


def calibrate(
    *,
    until: pd.Timestamp,
    base: OptionParams,
    quotes: pd.DataFrame | None = None,
    volatility_index: pd.DataFrame | None = None,
    candles: Mapping[str, pd.DataFrame] | None = None,
    sources: str = "recorded data",
) -> Calibration:
    """Parameters fitted on what was known before `until` (midnight UTC), applying from then on.

    `quotes` (table OPTION_QUOTES) give smile, term structure, basis and spread; `candles` (KLINES by underlying) with
    quotes, or else with `volatility_index` (VOLATILITY_INDEX), give the premium. What nothing was given for is taken
    over, with what it was fitted on, from the calibration of `base` in force the day before `until`; so is a coin
    without quotes. A coin without an index of its own takes BTC's premium.

    Raises:
        ValueError: `until` is no midnight, or the data hold too little before it.
    """
    if until != until.normalize():
        raise ValueError(f"calibrate until the start of a day (UTC); got {until}")
    before = base.calibration_at((until - pd.Timedelta(days=1)).date())
    if quotes is not None and not (quotes["quote_time"] < until).any():
        raise ValueError(
            f"no quote was recorded before {until:%Y-%m-%d}; choose a later day or give more quotes"
        )
    fits: list[Fit] = []
    fitted: dict[str, SurfaceParams] = {}
    for underlying in UNDERLYINGS:
        params = before.of(underlying)
        known = _known_quotes(quotes, underlying, until)
        new: list[Fit] = []
        if known is not None:
            params = _fit_quotes(known, params, base)
            names = ("shape", "spread", "basis")
            new += [_fit_of(underlying, n, known.frame["quote_time"], len(known), sources) for n in names]
        if candles is not None:
            index = _until(volatility_index, "close_time", until)
            params, times, coin = _fit_premium(underlying, params, base, known, index, candles)
            source = sources if coin == underlying else f"{sources}, of {coin}"
            new += [_fit_of(underlying, "premium", times, len(times), source)] if len(times) else []
        fits += new
        fitted[underlying] = params
    if not fits:
        raise ValueError(
            f"nothing to fit before {until:%Y-%m-%d}: give quotes, or candles with a volatility index"
        )
    renewed = {(f.underlying, f.parameters) for f in fits}
    kept = tuple(f for f in before.fits if (f.underlying, f.parameters) not in renewed)
    whole = len(renewed) + len(kept) == len(UNDERLYINGS) * len(PARAMETER_GROUPS)
    return Calibration(
        applies_from=until.date(), note="" if whole else before.note, fits=(*kept, *fits), btc=fitted["BTC"],
        eth=fitted["ETH"],
    )  # fmt: skip


def _until(frame: pd.DataFrame | None, column: str, until: pd.Timestamp) -> pd.DataFrame | None:
    return None if frame is None else frame[frame[column] < until]


def _known_quotes(quotes: pd.DataFrame | None, underlying: str, until: pd.Timestamp) -> Quotes | None:
    known = _until(quotes, "quote_time", until)
    if known is None:
        return None
    if not (known["underlying"] == underlying).any():
        return None
    prepared = prepare_quotes(known, underlying=underlying)
    if len(prepared) < _LEAST_QUOTES:
        raise ValueError(
            f"only {len(prepared)} usable {underlying} calls were recorded before {until:%Y-%m-%d}; a fit needs"
            f" {_LEAST_QUOTES}. Choose a later day or give more quotes"
        )
    return prepared


def _fit_of(underlying: str, parameters: str, times: pd.Series, rows: int, source: str) -> Fit:
    return Fit.model_validate(
        {
            "underlying": underlying, "parameters": parameters, "first_day": times.min().date(),
            "last_day": times.max().date(), "rows": rows, "source": source,
        }
    )  # fmt: skip


def _one_surface(params: SurfaceParams, base: OptionParams) -> kernels.Surface:
    """A surface that holds for all times."""
    always = pd.Timestamp(0, unit="s").date()
    alone = Calibration(applies_from=always, btc=params, eth=params)
    return build_surface(base.model_copy(update={"calibrations": (alone,)}), underlying="BTC")


def _fit_quotes(quotes: Quotes, start: SurfaceParams, base: OptionParams) -> SurfaceParams:
    shaped = _fit_shape(quotes, start, base)
    far = quotes.frame[quotes.frame["days"] >= 5]
    yearly = np.log(far["forward"] / far["index_price"]) / (far["days"] / 365)
    return shaped.model_copy(
        update={
            "basis": round(float(yearly.median()), _DIGITS),
            "half_spread": fit_half_spread(quotes),
            "index_over_atm": round(index_over_atm(shaped, base), _DIGITS),
        }
    )


def _fit_shape(quotes: Quotes, start: SurfaceParams, base: OptionParams) -> SurfaceParams:
    """Smile and term structure by robust least squares on volatilities, each snapshot at its own level."""
    frame = quotes.frame
    inside = frame["days"].between(*_SHAPE_DAYS) & frame["delta"].between(*_SHAPE_DELTAS)
    used = Quotes(frame[inside].reset_index(drop=True), quotes.snapshots)
    recorded = used.frame["iv"].to_numpy()

    def errors(x: np.ndarray) -> np.ndarray:
        surface = _one_surface(_from_vector(x, start), base)
        return model_ivs(used, snapshot_levels(used, surface), surface) - recorded

    usual = float(quotes.snapshots["atm"].median())
    tries = []
    # Where the long run equals today's level its speed does not matter: start from both sides and keep the better.
    for share in (0.6, 1.0, 1.6):
        first = np.array([-0.1, 0.4, 0.45, np.log(20.0), float(np.clip(share * usual, 0.11, 1.9)), 0.7])
        tries.append(least_squares(errors, first, bounds=(_LOWEST, _HIGHEST), loss="soft_l1", f_scale=0.01))
    best = min(tries, key=lambda found: found.cost)
    return _from_vector(best.x, start, digits=_DIGITS)


def _from_vector(x: np.ndarray, start: SurfaceParams, *, digits: int = 15) -> SurfaceParams:
    rho, share, gamma, reversion, long_run, weekend = (float(v) for v in x)
    # Rounded down, so that the bound on eta still holds.
    scale = 10.0**digits
    eta = (
        float(np.floor(share * 2 / (1 + abs(rho)) * scale) / scale)
        if digits < 15
        else share * 2 / (1 + abs(rho))
    )
    return start.model_copy(
        update={
            "rho": round(rho, digits), "eta": eta, "gamma": round(gamma, digits),
            "reversion_days": round(float(np.exp(reversion)), digits), "long_run_iv": round(long_run, digits),
            "weekend_weight": round(weekend, digits),
        }
    )  # fmt: skip


def fit_half_spread(quotes: Quotes) -> tuple[tuple[float, ...], ...]:
    """(mark - bid) / mark before the bid was rounded down to its tick: medians around each node of delta and days.

    On average rounding takes half a tick, which is given back before the median. A call without a bid counts as a
    share of 1. A node with too few quotes takes the value of its neighbour with longer, else shorter, time to expiry.

    Raises:
        ValueError: every node has too few quotes.
    """
    frame = quotes.frame
    bid = frame["bid_price"].fillna(0.0)
    tick = tick_steps(bid.to_numpy(), frame["time"].to_numpy(), venue_rules())
    share = (frame["mark_price"] - bid - np.where(bid > 0, tick / 2, 0.0)) / frame["mark_price"]
    share = share.where(frame["mark_price"] > 0).clip(0.0, 0.999)
    delta_edges, day_edges = _edges(DELTA_NODES), _edges(DAY_NODES)
    cells = share.groupby(
        [np.digitize(frame["delta"], delta_edges), np.digitize(frame["days"], day_edges)]
    ).agg(["median", "count"])
    medians = cells["median"].where(cells["count"] >= _LEAST_IN_CELL).unstack()
    medians = medians.reindex(index=range(len(DELTA_NODES)), columns=range(len(DAY_NODES)))
    if medians.isna().to_numpy().all():
        raise ValueError(
            f"no group of quotes alike in delta and days to expiry holds {_LEAST_IN_CELL}; give more quotes for a fit"
        )
    filled = medians.bfill(axis=1).ffill(axis=1).bfill().ffill()
    return tuple(tuple(round(float(v), _DIGITS) for v in row) for row in filled.to_numpy())


def _edges(nodes: tuple[float, ...]) -> np.ndarray:
    """Half-way points between the nodes."""
    return (np.array(nodes[1:]) + np.array(nodes[:-1])) / 2


def index_over_atm(params: SurfaceParams, base: OptionParams, *, level: float = 0.6) -> float:
    """The volatility index over at-the-money volatility that the smile implies, for 30 days.

    The index is the square root of the variance that a strip of all options pays (Demeterfi and others, 1999; Deribit
    computes DVOL so): `2 / T * (integral of P / K^2 below F + of C / K^2 above)`, with F = 1.
    """
    month = kernels.LEVEL_DAYS * kernels.SECONDS_PER_DAY
    years = month / kernels.SECONDS_PER_YEAR
    part = kernels.slice_at(level, 0, month, _one_surface(params, base))

    def weighted_price(k: float) -> float:
        strike = float(np.exp(k))
        iv = kernels.smile_volatility(part, 1.0, strike)
        call = float(call_price_coin(forward=1.0, strike=strike, iv=iv, years=years))
        return (call - max(0.0, 1.0 - strike)) / strike

    wide = 12 * level * float(np.sqrt(years))
    total = quad(weighted_price, -wide, 0.0, limit=200)[0] + quad(weighted_price, 0.0, wide, limit=200)[0]
    at_the_money = kernels.smile_volatility(part, 1.0, 1.0)
    return float(np.sqrt(2 * total / years) / at_the_money)


def _fit_premium(
    underlying: str, params: SurfaceParams, base: OptionParams, quotes: Quotes | None,
    index: pd.DataFrame | None, candles: Mapping[str, pd.DataFrame],
) -> tuple[SurfaceParams, pd.Series, str]:  # fmt: skip
    """The parameters with the median of observed level over weighted realised volatility, when and of which coin."""
    if quotes is not None:
        seen = quotes.snapshots
        surface = _one_surface(params, base)
        levels = kernels.levels_from_atm(
            seen["atm"].to_numpy(), seen["time"].to_numpy(), seen["end"].to_numpy(), surface
        )
        observed = pd.Series(levels, pd.to_datetime(seen["time"], unit="s", utc=True))
        source = underlying
    else:
        source = underlying if index is not None and (index["underlying"] == underlying).any() else "BTC"
        mine = index[index["underlying"] == source] if index is not None else pd.DataFrame()
        if mine.empty:
            return params, pd.Series(dtype="datetime64[us, UTC]"), source
        observed = pd.Series(mine["iv_close"].to_numpy(), mine["close_time"]) / params.index_over_atm
    if source not in candles:
        raise ValueError(
            f"candles of {source} are needed for the premium of {underlying}; found {sorted(candles)}"
        )
    ratio = _over_realised(observed, candles[source], base)
    premium = round(float(ratio.median()), _DIGITS)
    return params.model_copy(update={"premium": premium}), ratio.index.to_series(), source


def _over_realised(observed: pd.Series, candles: pd.DataFrame, base: OptionParams) -> pd.Series:
    """Each observed level over the weighted realised volatility of the last candle closed by then."""
    weighted, _ = realised_volatility(candles, base.volatility)
    seen = pd.DatetimeIndex(observed.index)
    time, close_time = epoch_seconds(seen), epoch_seconds(candles["close_time"])
    known = np.searchsorted(close_time, time, side="right") - 1
    window = base.volatility.window_days * kernels.SECONDS_PER_DAY
    covered = close_time[np.maximum(known, 0)] >= close_time[0] + window
    fresh = covered & (time - close_time[np.maximum(known, 0)] < kernels.SECONDS_PER_DAY)
    if not fresh.any():
        raise ValueError("the candles do not cover the time in which the level was recorded")
    return pd.Series(observed.to_numpy()[fresh] / weighted[known[fresh]], seen[fresh])
