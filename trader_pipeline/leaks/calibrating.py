"""Fitting the option model: a calibration may not know anything from the day on which it begins to apply.

Belongs here: the fits tried. Using a calibration before it applies is tried with every case (`prover`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from trader_pipeline.leaks.mutations import PERMUTE, PERTURB, TRUNCATE, mutate, unreal
from trader_pipeline.leaks.prover import Leak, Tally
from trader_pipeline.leaks.world import MODELLED, RECORDED, Inputs, Settings, World, inputs_between
from trader_pipeline.options.calibration import calibrate
from trader_pipeline.options.params import Calibration

Fit = Callable[[Inputs, pd.Timestamp], Calibration]
_DAY = pd.Timedelta(days=1)
_FITTED_DAYS, _LATER_DAYS = 12, 20
_MUTATIONS = (PERTURB, PERMUTE, TRUNCATE)


def fit_calibration(inputs: Inputs, until: pd.Timestamp) -> Calibration:
    """The stage's own fit on all that the inputs hold, until a midnight."""
    return calibrate(
        until=until, base=inputs.option_params, quotes=inputs.quotes, volatility_index=inputs.index,
        candles={inputs.market.underlying: inputs.candles}, sources="the prover's",
    )  # fmt: skip


def prove_calibrations(
    fit: Fit, worlds: Sequence[World], *, count: int, settings: Settings, seed: int, first: int = 0
) -> Tally:
    """`count` fits on quotes or on the index, from the `first` on, each repeated with other data from its day on.

    Worlds without quotes and index have nothing to fit.
    """
    tally = Tally()
    sources = [(w, s) for w in worlds for s in w.sources if s != MODELLED]
    for number in range(first, first + count if sources else first):
        world, source = sources[number % len(sources)]
        generator = np.random.default_rng((seed, number))
        until = _draw_day(world, source, generator)
        inputs = _inputs(world, source, until, settings)
        try:
            base = fit(inputs, until).model_dump_json()
        except ValueError as error:
            tally.refusals.append(f"calibration until {until:%Y-%m-%d}: {error}")
            continue
        for turn, mutation in enumerate(_MUTATIONS):
            other = mutate(inputs, mutation, after=until, seed=seed + turn)
            tally.unreal += [f"calibration, {mutation}: {f}" for f in unreal(inputs, other, cut=until)]
            fitted = fit(other, until).model_dump_json()
            tally.runs += 1
            tally.bytes += len(fitted)
            tally.outputs["calibration"] += 1
            if fitted != base:
                part = "quotes" if source == RECORDED else "index"
                tally.leaks.append(
                    Leak("calibration", "parameters", mutation, part, world.name, source, until)
                )
    return tally


def _draw_day(world: World, source: str, generator: np.random.Generator) -> pd.Timestamp:
    """A midnight within the quotes or the index, with as much before it as a fit needs."""
    held = world.quotes if source == RECORDED else world.index
    assert held is not None
    stamps = held["quote_time" if source == RECORDED else "close_time"]
    first, last = stamps.iloc[0].ceil("D") + _FITTED_DAYS * _DAY, stamps.iloc[-1].floor("D")
    days = max(1, (last - first).days)
    return first + int(generator.integers(days)) * _DAY


def _inputs(world: World, source: str, until: pd.Timestamp, settings: Settings) -> Inputs:
    """What is held from the fitted days to some weeks after them; only calibrations that apply by then are the base."""
    start = until - _FITTED_DAYS * _DAY
    inputs = inputs_between(
        world, start, until + _LATER_DAYS * _DAY, timeframe=world.timeframes[0], source=source, settings=settings
    )  # fmt: skip
    index = None if inputs.index is None else inputs.index[inputs.index["close_time"] > start]
    return replace(inputs, index=index)
