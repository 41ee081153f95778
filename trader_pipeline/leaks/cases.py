"""Which decisions are tried: random moments of every coin, timeframe and source of option prices, hard ones among them.

Belongs here: drawing cases. What is done with one is in `prover`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from trader_pipeline.leaks.world import INDEXED, RECORDED, Inputs, Settings, World, inputs_at
from trader_pipeline.schema import TIMEFRAMES

_HOUR = pd.Timedelta(hours=1)
_DAY = pd.Timedelta(days=1)
_EXPIRY_HOUR = 8
_TURNS = 20
"""How often each kind of case comes before one of candles finer than an hour, ten times as dear, comes again."""
_AT_A_GAP, _AT_EXPIRY, _AT_MIDNIGHT = 0.2, 0.35, 0.5
"""Cumulative shares of the moments: in or right after a gap, at 08:00 when options expire, at the day's end."""


@dataclass(frozen=True)
class Case:
    """One decision to be tried, of the world at position `world`; `seed` draws its other futures."""

    number: int
    world: int
    moment: pd.Timestamp
    timeframe: str
    source: str
    seed: int

    def inputs(self, worlds: Sequence[World], settings: Settings) -> Inputs:
        """What there is around the decision; its prompts are rendered in one style, drawn by the seed."""
        inputs = inputs_at(
            worlds[self.world], self.moment, timeframe=self.timeframe, source=self.source, settings=settings
        )
        style = settings.renders[self.seed % len(settings.renders)]
        return replace(inputs, renders=(style,))


def draw_cases(
    worlds: Sequence[World], *, count: int, seed: int, settings: Settings, source: str | None = None
) -> list[Case]:
    """`count` cases, the coins and sources in turn, half of them in the finest timeframe of decisions.

    Args:
        source: only cases of this source of option prices; None takes all that the worlds have.

    Raises:
        ValueError: candles too short for one decision with its past and its future, or no world has the source.
    """
    generator = np.random.default_rng(seed)
    moments, refused = _possible(worlds, settings, source)
    if not moments:
        raise ValueError(refused[0] if refused else f"no world has option prices of source {source!r}")
    kinds, cases = _turns(worlds, list(moments)), []
    for number in range(count):
        w, chosen = kinds[number % len(kinds)]
        finer, *coarser = worlds[w].timeframes
        timeframe = finer if not coarser or generator.random() < 0.5 else str(generator.choice(coarser))
        moment = moments[w, chosen].draw(generator)
        cases.append(Case(number, w, moment, timeframe, chosen, int(generator.integers(2**31))))
    return cases


def _turns(worlds: Sequence[World], kinds: list[tuple[int, str]]) -> list[tuple[int, str]]:
    """The worlds and sources in the order of their turns: dear ones, of candles finer than an hour, come once."""
    dear = [kind for kind in kinds if TIMEFRAMES[worlds[kind[0]].timeframe] < _HOUR]
    others = [kind for kind in kinds if kind not in dear]
    return dear + others * _TURNS


def impossible_sources(worlds: Sequence[World], settings: Settings) -> list[str]:
    """A sentence for each source of a world in which no decision can be tried."""
    return _possible(worlds, settings, None)[1]


def _possible(
    worlds: Sequence[World], settings: Settings, source: str | None
) -> tuple[dict[tuple[int, str], _Moments], list[str]]:
    """The moments of each world and source, and why there are none in others."""
    moments, refused = {}, []
    for place, world in enumerate(worlds):
        for each in world.sources if source is None else {source} & set(world.sources):
            try:
                moments[place, each] = _Moments.of(world, each, settings)
            except ValueError as error:
                refused.append(str(error))
    return moments, refused


@dataclass(frozen=True)
class _Moments:
    """Whole hours at which a decision can be made, and those of them that lie at a gap; snapshots where recorded."""

    first: pd.Timestamp
    last: pd.Timestamp
    gaps: pd.DatetimeIndex
    snapshots: pd.DatetimeIndex | None

    @classmethod
    def of(cls, world: World, source: str, settings: Settings) -> _Moments:
        candles = world.candles
        first = candles["open_time"].iloc[0] + settings.history_days * _DAY
        first = max(first, pd.Timestamp(settings.options.calibrations[0].applies_from, tz="UTC")).ceil("h")
        last = (candles["close_time"].iloc[-1] - pd.Timedelta(days=settings.future_days)).floor("h")
        if source == INDEXED and world.index is not None:
            first = max(first, world.index["close_time"].iloc[0].ceil("h"))
            last = min(last, world.index["close_time"].iloc[-1].floor("h"))
        snapshots = _snapshots(world, first, last) if source == RECORDED else None
        if last < first or (snapshots is not None and snapshots.empty):
            raise ValueError(
                f"{world.name}, {source}: what is held from {candles['open_time'].iloc[0]:%Y-%m-%d} to"
                f" {candles['close_time'].iloc[-1]:%Y-%m-%d} has no decision with {settings.history_days} days before"
                f" it and {settings.future_days:g} after it; give more candles"
            )
        return cls(first, last, _gap_hours(candles, first, last), snapshots)

    def draw(self, generator: np.random.Generator) -> pd.Timestamp:
        if self.snapshots is not None:
            return self.snapshots[int(generator.integers(len(self.snapshots)))]
        where = generator.random()
        if where < _AT_A_GAP and len(self.gaps):
            return self.gaps[int(generator.integers(len(self.gaps)))]
        moment = self.first + int(generator.integers((self.last - self.first) // _HOUR + 1)) * _HOUR
        if _AT_A_GAP <= where < _AT_MIDNIGHT:
            hour = _EXPIRY_HOUR if where < _AT_EXPIRY else 0
            moment = min(max(moment.floor("D") + hour * _HOUR, self.first), self.last)
        return moment


def _gap_hours(candles: pd.DataFrame, first: pd.Timestamp, last: pd.Timestamp) -> pd.DatetimeIndex:
    """Whole hours inside gaps between candles, and the one at which each gap is over."""
    opens, closes = candles["open_time"].iloc[1:].reset_index(drop=True), candles["close_time"].iloc[:-1]
    inside = (opens > closes.reset_index(drop=True)).to_numpy()
    hours = [
        pd.date_range(closed.ceil("h"), opened.ceil("h"), freq="h")
        for closed, opened in zip(closes[inside], opens[inside], strict=True)
    ]
    found = pd.DatetimeIndex(np.concatenate(hours) if hours else [], tz="UTC")
    return found[(found >= first) & (found <= last)]


def _snapshots(world: World, first: pd.Timestamp, last: pd.Timestamp) -> pd.DatetimeIndex:
    """The first whole hour at or after each stamp of the quotes."""
    assert world.quotes is not None
    hours = pd.DatetimeIndex(world.quotes["quote_time"].dt.ceil("h").unique())
    return hours[(hours >= first) & (hours <= last)]
