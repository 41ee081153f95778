"""The chains of golden/*.csv: reading them, working out their cells once more, and the market each one needs.

Belongs here: plain arithmetic on the tables alone. Nothing of the engine or its kernels is called; what holds them to
the tables is in `test_golden`.
"""

from __future__ import annotations

import datetime as dt
import math
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from trader_pipeline.backtest import BacktestParams
from trader_pipeline.options import OptionParams, VolatilityParams
from trader_pipeline_tests.options.calibrations import calibration, flat_surface
from trader_pipeline_tests.options.markets import at, candles

FOLDER = Path(__file__).with_name("golden")
YEAR, DAY, HOUR = pd.Timedelta(days=365), pd.Timedelta(days=1), pd.Timedelta(hours=1)
FINE_TICKS_SINCE, LOWER_FEES_SINCE = at("2023-07-06"), at("2020-08-01")


def read(name: str) -> pd.DataFrame:
    """A table of the folder, all cells as text, empty where nothing stands."""
    return pd.read_csv(FOLDER / f"{name}.csv", comment="#", dtype=str, keep_default_na=False)


CASES, CANDLES, LEGS, HALF_SPREAD = (read(name) for name in ("cases", "candles", "legs", "half_spread"))


@dataclass(frozen=True)
class Candle:
    open_time: pd.Timestamp
    close_time: pd.Timestamp
    open: float
    close: float
    iv: float


@dataclass(frozen=True)
class Case:
    """A row of cases.csv, with its candles and its legs."""

    name: str
    row: dict[str, str]

    @cached_property
    def settings(self) -> dict[str, float]:
        return {k: float(v) for k, v in (pair.split("=") for pair in self.row["settings"].split())}

    @cached_property
    def legs(self) -> list[dict[str, str]]:
        return LEGS[LEGS["case"] == self.name].to_dict("records")

    @cached_property
    def frame(self) -> pd.DataFrame:
        """The candles, with the column `volatility_index`."""
        step = pd.Timedelta(minutes=int(self.row["candle_minutes"]))
        count = (at(self.row["last_candle"]) - at(self.row["first_candle"])) // step
        closes = at(self.row["first_candle"]) + step * pd.Index(range(1, count + 1))
        price, iv = np.full(count, float(self.row["price"])), np.full(count, float(self.row["iv"]))
        gone = np.zeros(count, dtype=bool)
        for change in CANDLES[CANDLES["case"] == self.name].to_dict("records"):
            inside = (closes > at(change["after"])) & (closes <= at(change["until"]))
            if change["iv"]:
                iv[inside] = float(change["iv"])
            if change["price"] == "gap":
                gone |= inside
            elif change["price"]:
                price[inside] = float(change["price"])
        frame = candles(self.row["first_candle"], price, step=f"{self.row['candle_minutes']}min")
        return frame.assign(volatility_index=iv)[~gone].reset_index(drop=True)

    @cached_property
    def candles(self) -> list[Candle]:
        columns = ["open_time", "close_time", "open", "close", "volatility_index"]
        return [Candle(*row) for row in self.frame[columns].itertuples(index=False)]

    def options(self) -> OptionParams:
        """No smile, no term structure, no weekends: the index is the volatility of every call."""
        grids = [list(zip(*half_spread_grid(u)[1].values(), strict=True)) for u in ("BTC", "ETH")]
        surfaces = [flat_surface(half_spread=grid, basis=float(self.row["basis"])) for grid in grids]
        return OptionParams(
            volatility=VolatilityParams(window_days=10, index_bridge_days=0),
            calibrations=(calibration(*surfaces),),
            spread_multiplier=self.settings.get("spread_multiplier", 1.0),
        )

    def params(self) -> BacktestParams:
        own = {k: v for k, v in self.settings.items() if k != "spread_multiplier"}
        return BacktestParams.model_validate({"max_candidates": 200, **own})


def cases() -> Iterator[Case]:
    for row in CASES.to_dict("records"):
        yield Case(row["case"], row)


def known(case: Case, time: pd.Timestamp) -> Candle:
    """The last candle closed by `time`."""
    return max((c for c in case.candles if c.close_time <= time), key=lambda c: c.close_time)


def filled(case: Case, time: pd.Timestamp) -> Candle:
    """The first candle that opens at `time` or later."""
    return min((c for c in case.candles if c.open_time >= time), key=lambda c: c.open_time)


def normal(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2))


def between(nodes: list[float], values: list[float], x: float) -> float:
    """Linear between the nodes, constant beyond them."""
    x = min(max(x, nodes[0]), nodes[-1])
    i = max(1, bisect_left(nodes, x))
    share = (x - nodes[i - 1]) / (nodes[i] - nodes[i - 1])
    return values[i - 1] * (1 - share) + values[i] * share


@cache
def half_spread_grid(underlying: str) -> tuple[list[float], dict[float, list[float]]]:
    """Deltas, and the shares at them by days to expiry."""
    rows = HALF_SPREAD[HALF_SPREAD["underlying"] == underlying]
    by_days = {float(c.removesuffix("d")): rows[c].astype(float).tolist() for c in rows.columns[2:]}
    return rows["delta"].astype(float).tolist(), by_days


def half_spread(case: Case, delta: float, days: float) -> float:
    deltas, by_days = half_spread_grid(case.row["underlying"])
    share = between(list(by_days), [between(deltas, shares, delta) for shares in by_days.values()], days)
    return share * case.settings.get("spread_multiplier", 1.0) * case.settings.get("cost_multiplier", 1.0)


def tick(price: float, time: pd.Timestamp) -> float:
    return 0.0001 if time >= FINE_TICKS_SINCE and price <= 0.005 + 1e-12 else 0.0005


def fee(case: Case, price: float, time: pd.Timestamp) -> float:
    """Of the whole size: a rate per coin, at most 12.5 % of the price."""
    rate = 0.0003 if time >= LOWER_FEES_SINCE else 0.0004
    return min(rate, price / 8) * size(case) * case.settings.get("cost_multiplier", 1.0)


def delivery_fee(case: Case, payoff: float, expiry: pd.Timestamp) -> float:
    if expiry.day_name() != "Friday":
        return 0.0
    return min(0.00015, payoff / 8) * size(case) * case.settings.get("cost_multiplier", 1.0)


def size(case: Case) -> float:
    return case.settings.get("size", 1.0)


def price(
    case: Case, *, spot: float, strike: float, time: pd.Timestamp, expiry: pd.Timestamp, iv: float
) -> dict[str, float]:
    """`years, forward, d1, d2, mark, half_spread` of a call."""
    years = (expiry - time) / YEAR
    forward = spot * math.exp(float(case.row["basis"]) * years)
    deviation = iv * math.sqrt(years)
    d1 = math.log(forward / strike) / deviation + deviation / 2
    d2 = d1 - deviation
    return {
        "years": years,
        "forward": forward,
        "d1": d1,
        "d2": d2,
        "mark": normal(d1) - strike / forward * normal(d2),
        "half_spread": half_spread(case, normal(d1), years * 365),
    }


def expiry_and_strike(instrument: str) -> tuple[pd.Timestamp, float]:
    _, day, strike, _ = instrument.split("-")
    date = dt.datetime.strptime(day.title(), "%d%b%y").replace(hour=8)
    return pd.Timestamp(date, tz="UTC"), float(strike)


def entry(case: Case, leg: dict[str, str]) -> dict[str, object]:
    """The cells of `leg` from `spot` to `entry_fee`, out of the case, the decision and the instrument."""
    decision = at(leg["decision"])
    before, fill = known(case, decision), filled(case, decision)
    expiry, strike = expiry_and_strike(leg["instrument"])
    priced = price(case, spot=fill.open, strike=strike, time=fill.open_time, expiry=expiry, iv=before.iv)
    wanted = priced["mark"] * (1 - priced["half_spread"])
    step = tick(wanted, fill.open_time)
    bid = math.floor(wanted / step + 1e-7) * step
    return {
        "spot": before.close, "strike": strike, "expiry": expiry, "entry_time": fill.open_time, "entry_spot": fill.open,
        "iv": before.iv, **priced, "bid_before_tick": wanted, "tick": step, "bid": bid,
        "entry_fee": fee(case, bid, fill.open_time),
    }  # fmt: skip


def ask_at(case: Case, candle: Candle, strike: float, expiry: pd.Timestamp) -> dict[str, object]:
    """The cells of a leg that is bought back at the close of `candle`."""
    time = candle.close_time
    priced = price(case, spot=candle.close, strike=strike, time=time, expiry=expiry, iv=candle.iv)
    wanted = priced["mark"] * (1 + priced["half_spread"])
    step = tick(wanted, time)
    ask = max(1, math.ceil(wanted / step - 1e-7)) * step
    return {
        "exit_time": time, "exit_reason": "take_profit", "exit_spot": candle.close, "exit_iv": candle.iv,
        **{f"exit_{name}": value for name, value in priced.items()}, "ask_before_tick": wanted, "exit_tick": step,
        "exit_price": ask, "exit_fee": fee(case, ask, time),
    }  # fmt: skip


def delivery(case: Case, expiry: pd.Timestamp) -> float | None:
    """Mean close inside the last half hour, else the close at the expiry, else unknown."""
    ends = [c for c in case.candles if c.close_time <= expiry]
    inside = [c.close for c in ends if c.open_time >= expiry - HOUR / 2]
    inside = inside or [c.close for c in ends if c.close_time == expiry]
    return sum(inside) / len(inside) if inside else None


def leaving(case: Case, sold: dict[str, object]) -> dict[str, object]:
    """The cells of a leg from `exit_time` to `exit_fee`; of all closes, the first with an ask low enough is taken."""
    strike, expiry = float(sold["strike"]), sold["expiry"]
    target = (1 - case.settings.get("take_profit", 0.8)) * float(sold["bid"]) + 1e-12
    if case.row["exit_style"] == "tp_and_roll":
        for candle in case.candles:
            if sold["entry_time"] < candle.close_time < expiry:
                bought = ask_at(case, candle, strike, expiry)
                if bought["exit_price"] <= target:
                    return bought
    found = delivery(case, expiry)
    if found is None:
        return {"exit_reason": "failed"}
    payoff = max(0.0, found - strike) / found
    return {
        "exit_time": expiry, "exit_reason": "expired", "exit_spot": found, "exit_price": payoff,
        "exit_fee": delivery_fee(case, payoff, expiry),
    }  # fmt: skip


def worked(case: Case) -> Iterator[tuple[dict[str, str], dict[str, object]]]:
    """Each leg of the table beside all its cells worked out anew; on a chain's last leg with the chain's totals."""
    coins, begun = 0.0, 0.0
    for n, leg in enumerate(case.legs):
        sold = entry(case, leg)
        left = leaving(case, sold)
        cells = {**sold, **left}
        if leg["leg"] == "1":
            coins, begun = 0.0, float(sold["spot"])
        if left["exit_reason"] != "failed":
            cells["leg_cash"] = (
                size(case) * (sold["bid"] - left["exit_price"]) - sold["entry_fee"] - left["exit_fee"]
            )
            coins += cells["leg_cash"]
            if n + 1 == len(case.legs) or case.legs[n + 1]["leg"] == "1":
                end = left["exit_spot"]
                cells |= {
                    "total_coin": coins,
                    "reward_usd": (size(case) + coins) * end - size(case) * begun,
                    "pnl_vs_hodl_usd": coins * end,
                }
        yield leg, cells
