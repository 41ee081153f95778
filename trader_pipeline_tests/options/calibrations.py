"""Calibrations for tests: a flat one, one with everything in it, and hypothesis strategies within the bounds."""

from __future__ import annotations

import datetime as dt

from hypothesis import strategies as st

from trader_pipeline.options.params import (
    DAY_NODES,
    DELTA_NODES,
    Calibration,
    OptionParams,
    SurfaceParams,
    VolatilityParams,
)

LONG_AGO = dt.date(2016, 6, 1)
STEADY_BTC = (0.16, 0.08, 0.0725, 0.065, 0.054, 0.035, 0.0215, 0.014, 0.0145, 0.022, 0.016)
STEADY_ETH = (0.16, 0.08, 0.068, 0.056, 0.0475, 0.0325, 0.0195, 0.012, 0.0135, 0.021, 0.017)
"""Half-spreads at DELTA_NODES, the same for all days to expiry; the golden figures were worked with them."""


def spread_of(shares: tuple[float, ...]) -> tuple[tuple[float, ...], ...]:
    """A half-spread grid that does not depend on the days to expiry."""
    return tuple((share,) * len(DAY_NODES) for share in shares)


def flat_surface(**changes: object) -> SurfaceParams:
    """No premium, no smile, no term structure, no weekend, no basis; `changes` are set on top."""
    flat = {
        "premium": 1.0, "index_over_atm": 1.0, "rho": 0.0, "eta": 0.0, "gamma": 0.5, "weekend_weight": 1.0,
        "basis": 0.0, "half_spread": spread_of((0.0,) * len(DELTA_NODES)),
    }  # fmt: skip
    return SurfaceParams.model_validate({**flat, **changes})


def curved_surface(**changes: object) -> SurfaceParams:
    """Premium, skewed smile, reverting term structure, light weekends and a basis, each unlike its neutral value."""
    curved = {
        "premium": 1.1, "index_over_atm": 1.08, "rho": -0.25, "eta": 0.9, "gamma": 0.45, "long_run_iv": 0.5,
        "reversion_days": 20.0, "weekend_weight": 0.5, "basis": 0.04, "half_spread": spread_of(STEADY_BTC),
    }  # fmt: skip
    return SurfaceParams.model_validate({**curved, **changes})


def calibration(
    btc: SurfaceParams | None = None, eth: SurfaceParams | None = None, *, since: dt.date = LONG_AGO
) -> Calibration:
    """One calibration, flat where nothing is given; ETH is as BTC where only that is."""
    btc = btc or flat_surface()
    return Calibration(applies_from=since, btc=btc, eth=eth or btc)


def options_of(*surfaces: SurfaceParams, minimum: float = 0.05, **volatility: object) -> OptionParams:
    """Settings with one calibration since long ago for each of `surfaces` (one day apart), for both coins."""
    dated = [
        calibration(s, since=LONG_AGO + dt.timedelta(days=i))
        for i, s in enumerate(surfaces or (flat_surface(),))
    ]
    params = VolatilityParams.model_validate({"minimum": minimum, **volatility})
    return OptionParams(volatility=params, calibrations=tuple(dated))


@st.composite
def surfaces(draw: st.DrawFn) -> SurfaceParams:
    """Any surface within its bounds, as far as markets may ask for; half-spreads differ in delta and days."""
    rho = draw(st.floats(-0.98, 0.98))
    share = draw(st.sampled_from([0.0, 1.0]) | st.floats(0.0, 1.0))
    base, slope, fall = draw(st.floats(0.0, 0.2)), draw(st.floats(-0.15, 0.2)), draw(st.floats(0.0, 0.5))
    grid = tuple(
        tuple(max(0.0, base + slope * delta) * (1 - fall * j / len(DAY_NODES)) for j in range(len(DAY_NODES)))
        for delta in DELTA_NODES
    )
    return SurfaceParams(
        premium=draw(st.floats(0.8, 1.5)),
        index_over_atm=draw(st.floats(1.0, 1.3)),
        rho=rho,
        eta=share * 2 / (1 + abs(rho)) * (1 - 1e-12),
        gamma=draw(st.floats(0.02, 0.5)),
        long_run_iv=draw(st.none() | st.floats(0.1, 2.0)),
        reversion_days=draw(st.floats(1.0, 365.0)),
        weekend_weight=draw(st.floats(0.1, 2.0)),
        basis=draw(st.floats(-0.2, 0.2)),
        half_spread=grid,
    )
