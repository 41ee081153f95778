"""The slope of the volatility term structure, from recorded chains alone.

Belongs here: what a policy may see of the quotes of one moment. A modelled chain is made from the candles, so its slope
would say nothing that the candles do not: it is null there.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

NEAR_DAYS, FAR_DAYS = 7.0, 30.0
NEAR_BAND_DAYS, FAR_BAND_DAYS = (3.0, 14.0), (20.0, 45.0)
"""Times to expiry that still stand for 7 and for 30 days."""
MAX_DISTANCE_PCT = 10.0
"""Farthest that the strike next to the forward may lie from it, in % of it; beyond, nothing is at the money."""


def term_structure_slope(option_chain: pd.DataFrame) -> pd.Series:
    """At-the-money volatility of the expiry nearest to 30 days minus that of the one nearest to 7 days.

    At the money is the call whose strike is nearest the forward, the lower of two that are as near. Of two expiries
    that are as near to 30 (or 7) days the earlier one counts. The expiries must have 20 to 45 and 3 to 14 days to go
    and their strikes lie within 10 % of the forward, else the slope is null.

    Args:
        option_chain: recorded calls of any number of decisions: `decision_time, option_type, strike, expiry, dte,
            forward, iv` as in table `option_chain`.

    Returns:
        float64 by `decision_time` (every one of the chain's, ascending), as annualised decimal.
    """
    money = _at_the_money(option_chain)
    near = _volatility_nearest(money, days=NEAR_DAYS, band=NEAR_BAND_DAYS)
    far = _volatility_nearest(money, days=FAR_DAYS, band=FAR_BAND_DAYS)
    times = pd.DatetimeIndex(np.sort(option_chain["decision_time"].unique()), name="decision_time")
    return (far.reindex(times) - near.reindex(times)).astype("float64").rename("term_structure_slope")


def _at_the_money(chain: pd.DataFrame) -> pd.DataFrame:
    """One call per decision and expiry."""
    calls = chain[chain["option_type"] == "call"]
    distance = (calls["strike"] - calls["forward"]).abs()
    calls = calls.assign(distance=distance)[distance <= MAX_DISTANCE_PCT / 100 * calls["forward"]]
    ordered = calls.sort_values(["decision_time", "expiry", "distance", "strike"], kind="stable")
    return ordered.drop_duplicates(["decision_time", "expiry"])


def _volatility_nearest(money: pd.DataFrame, *, days: float, band: tuple[float, float]) -> pd.Series:
    inside = money[money["dte"].between(*band)]
    ordered = inside.assign(away=(inside["dte"] - days).abs()).sort_values(
        ["decision_time", "away", "expiry"]
    )
    return ordered.drop_duplicates("decision_time").set_index("decision_time")["iv"]
