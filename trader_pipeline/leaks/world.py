"""What the prover works on: everything held of a coin, and the part of it that one decision may look at.

Belongs here: `World` (candles, quotes, index, regime windows), `Settings`, and `Inputs`, the cut around one decision.
Changing what is later than a decision is in `mutations`, the functions under test in `pipeline`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pandas as pd

from trader_pipeline.backtest import BacktestParams
from trader_pipeline.corpora.render import RenderParams
from trader_pipeline.corpora.splits import SplitParams
from trader_pipeline.options import OptionParams
from trader_pipeline.schema import TIMEFRAMES, Market

MODELLED, INDEXED, RECORDED = "modelled", "modelled with index", "recorded"
SOURCES = (MODELLED, INDEXED, RECORDED)
"""Where a case's option prices come from."""
_HISTORY_DAYS, _SLACK_DAYS = 33, 4
_DAY = pd.Timedelta(days=1)


@dataclass(frozen=True)
class Settings:
    """The stages' settings that the cases run with."""

    backtest: BacktestParams = field(default_factory=BacktestParams)
    options: OptionParams = field(default_factory=OptionParams)
    splits: SplitParams = field(default_factory=SplitParams)
    renders: tuple[RenderParams, ...] = (RenderParams(), RenderParams(style="report", rationale=True))

    @property
    def history_days(self) -> int:
        """Days of candles that a decision rests on, with some to spare."""
        volatility = self.options.volatility
        return max(_HISTORY_DAYS, volatility.window_days + volatility.index_bridge_days) + _SLACK_DAYS

    @property
    def future_days(self) -> float:
        """Days after a decision within which its chains end, with some to spare."""
        return self.backtest.max_dte_days + _SLACK_DAYS


@dataclass(frozen=True)
class World:
    """All that is held of one coin.

    `candles` are the finest ones (clean, table KLINES) of `timeframe`; `quotes` table OPTION_QUOTES, `index` table
    VOLATILITY_INDEX, of this coin, or None; `regimes` table REGIME_WINDOWS.
    """

    underlying: str
    timeframe: str
    candles: pd.DataFrame = field(repr=False)
    regimes: pd.DataFrame = field(repr=False)
    quotes: pd.DataFrame | None = field(default=None, repr=False)
    index: pd.DataFrame | None = field(default=None, repr=False)
    simulated: bool = False

    @property
    def name(self) -> str:
        return Market(self.underlying, self.timeframe).key

    @property
    def sources(self) -> tuple[str, ...]:
        """The sources of option prices that this world has."""
        have = {MODELLED: True, INDEXED: self.index is not None, RECORDED: self.quotes is not None}
        return tuple(source for source in SOURCES if have[source])

    @property
    def timeframes(self) -> tuple[str, ...]:
        """Timeframes in which decisions can be made: the finest one, if it is 1h or coarser, and all coarser ones."""
        finest = max(TIMEFRAMES[self.timeframe], TIMEFRAMES["1h"])
        return tuple(name for name, step in TIMEFRAMES.items() if finest <= step <= _DAY)


@dataclass(frozen=True)
class Inputs:
    """What there is around one decision: its past, and the future that it must not see.

    `moment` is the decision time. `option_params` say the source and hold every dated calibration, later ones too;
    `params` make a decision at `moment` and none other within a day.
    """

    market: Market
    source: str
    moment: pd.Timestamp
    candles: pd.DataFrame = field(repr=False)
    regimes: pd.DataFrame = field(repr=False)
    quotes: pd.DataFrame | None = field(repr=False)
    index: pd.DataFrame | None = field(repr=False)
    option_params: OptionParams = field(repr=False)
    params: BacktestParams = field(repr=False)
    renders: tuple[RenderParams, ...] = field(repr=False)

    @property
    def end(self) -> pd.Timestamp:
        """End of the window that holds this decision alone."""
        return self.moment + pd.Timedelta(hours=1)

    @property
    def finest_step(self) -> pd.Timedelta:
        first = self.candles.iloc[0]
        return first["close_time"] - first["open_time"]


def inputs_at(
    world: World, moment: pd.Timestamp, *, timeframe: str, source: str, settings: Settings
) -> Inputs:
    """The cut of `world` around the decision at `moment` (a whole hour), from its history to the end of its chains."""
    first = moment - settings.history_days * _DAY
    last = moment + pd.Timedelta(days=settings.future_days)
    params = settings.backtest.model_copy(
        update={"decision_every_hours": 24, "decision_offset_hours": moment.hour}
    )
    recorded = source == RECORDED
    return Inputs(
        market=Market(world.underlying, timeframe),
        source=source,
        moment=moment,
        candles=_between(world.candles, "close_time", first, last),
        regimes=world.regimes,
        quotes=_between(world.quotes, "quote_time", moment - _DAY, last) if recorded else None,
        index=_between(world.index, "close_time", first, last) if source == INDEXED else None,
        option_params=settings.options.model_copy(update={"source": "recorded" if recorded else "model"}),
        params=params,
        renders=settings.renders,
    )


def inputs_between(
    world: World, start: pd.Timestamp, end: pd.Timestamp, *, timeframe: str, source: str, settings: Settings
) -> Inputs:
    """The cut for one decision a day in `[start, end)`, at the hour of `start`; `moment` is the first of them."""
    one = inputs_at(world, start, timeframe=timeframe, source=source, settings=settings)
    last = end + pd.Timedelta(days=settings.future_days)
    return replace(
        one,
        candles=_between(world.candles, "close_time", one.candles["close_time"].iloc[0], last),
        quotes=None if one.quotes is None else _between(world.quotes, "quote_time", start - _DAY, last),
        index=None if one.index is None else _between(world.index, "close_time", start - 60 * _DAY, last),
    )


def _between(
    frame: pd.DataFrame | None, column: str, first: pd.Timestamp, last: pd.Timestamp
) -> pd.DataFrame:
    """Rows of a frame sorted by `column` within `[first, last]`."""
    assert frame is not None
    begin = frame[column].searchsorted(first, side="left")
    stop = frame[column].searchsorted(last, side="right")
    return frame.iloc[begin:stop].reset_index(drop=True)
