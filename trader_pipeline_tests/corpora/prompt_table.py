"""Rows for the renderer's tests: two calls of one decision, and random rows with figures of any size and sign.

Also how figures are printed, told apart from the renderer: decimal text, ties to the even digit.
"""

from __future__ import annotations

import math
from decimal import ROUND_HALF_EVEN, Decimal

import pandas as pd
from hypothesis import strategies as st

from trader_pipeline.corpora.render import PromptCandidate, PromptStep, prompt_rows_of
from trader_pipeline.schema.columns import FEATURES

FIRST = PromptCandidate("BTC-8SEP24-63000-C", 63000.0, 7.0, 0.234, 0.65, 1.2, 1.118, 1.94, 6.5)
SECOND = PromptCandidate("BTC-27SEP24-70000-C", 70000.0, 26.33, 0.18, 0.61, 1.75, 1.05, 3.2, 4.25)
STEP = PromptStep(
    pd.Timestamp("2024-09-01 08:00", tz="UTC"),
    "BTC",
    58466.0,
    "hold_to_expiry",
    dict.fromkeys(FEATURES, 0.0)
    | {
        "return_1d_pct": -0.4,
        "return_7d_pct": -8.26,
        "return_30d_pct": 3.14,
        "realised_volatility_1d": 0.44,
        "realised_volatility_7d": 0.71,
        "realised_volatility_30d": 0.58,
        "distance_to_ma_7d_pct": -3.21,
        "distance_to_ma_30d_pct": 1.5,
        "drawdown_from_high_30d_pct": 9.51,
        "range_position_30d": 0.4,
        "atr_14d_pct": 4.02,
    },
    (SECOND, FIRST),
)
ROWS = prompt_rows_of([STEP])


def printed(value: float, decimals: int) -> float:
    """The figure as it is printed: its decimal text to so many decimals, a tie to the even digit."""
    return float(Decimal(repr(float(value))).quantize(Decimal(1).scaleb(-decimals), ROUND_HALF_EVEN))


def printed_price(value: float) -> float:
    return printed(value, 0) if value >= 1000 else float(f"{value:.6g}")


def printed_duration(dte: float) -> str:
    """Days, or hours below one day."""
    days = printed(dte, 1)
    number, noun = (days, "day") if days >= 1 else (printed(dte * 24, 0), "hour")
    return "under an hour" if number < 1 else f"{number:g} {noun}" + ("" if number == 1 else "s")


def _number(low: float, high: float) -> st.SearchStrategy[float]:
    """Any number, and often one of few decimals: zeros, ties and figures at a bound."""
    short = st.one_of(
        st.integers(math.ceil(low * scale), int(high * scale)).map(lambda n, scale=scale: n / scale)
        for scale in (10, 1000)
    )
    return st.floats(low, high, allow_nan=False, width=64) | short


_SIGNED = _number(-60, 60)
_POSITIVE = ("realised_volatility_", "drawdown_", "atr_")


@st.composite
def steps(draw: st.DrawFn, *, candidates: int = 3) -> PromptStep:
    """A decision with any figures that the schema allows."""
    features = {
        name: draw(
            _number(0, 1)
            if name == "range_position_30d"
            else _number(0.001, 9)
            if name == "realised_volatility_30d"
            else _number(0, 9)
            if name.startswith(_POSITIVE)
            else _SIGNED
        )
        for name in FEATURES
    }
    spot = draw(_number(80, 150_000))
    offers = tuple(
        PromptCandidate(
            f"BTC-8SEP24-{60000 + 1000 * i}-C",
            strike=draw(_number(0.8, 2)) * spot,
            dte=draw(_number(0.04, 400)),
            delta=draw(_number(0, 1)),
            iv=draw(_number(0.05, 9)),
            premium_yield_pct=draw(_number(0, 40)),
            ivrv_ratio=draw(_number(0.01, 5)),
            distance_to_strike_atr=draw(_number(-5, 20)),
            score=draw(_number(0, 10)),
        )
        for i in range(candidates)
    )
    slope = draw(st.none() | _number(-0.5, 0.5))
    hours = draw(st.integers(0, 50_000))
    moment = pd.Timestamp("2020-01-01", tz="UTC") + pd.Timedelta(hours=hours)
    style = draw(st.sampled_from(["hold_to_expiry", "tp_and_roll"]))
    return PromptStep(moment, "BTC", spot, style, features, offers, slope)
