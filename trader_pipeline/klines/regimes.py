"""Bull, chop and dump windows, dated on daily closes.

Belongs here: the dating algorithm alone. A regime label is hindsight: it names partitions and splits and never
enters a feature or a prompt.
Does not belong here: cutting candles by window (`klines.windows`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from trader_pipeline.schema import regime_key
from trader_pipeline.schema.tables import REGIME_WINDOWS

Floats = NDArray[np.float64]
_DAY = pd.Timedelta(days=1)
_TREND = {1: "bull", -1: "dump"}


class RegimeParams(BaseModel):
    """Thresholds of `date_regime_windows`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rise: float = Field(
        default=0.40,
        gt=0,
        description="rise of the close above the lowest one that turns a dump into a bull, decimal",
    )
    fall: float = Field(
        default=0.30,
        gt=0,
        lt=1,
        description="fall of the close below the highest one that turns a bull into a dump, decimal",
    )
    stall_days: int = Field(
        default=72, ge=2, description="days without a new extreme after which a trend has become chop"
    )
    shortest_days: int = Field(default=21, ge=1, description="no window is shorter than this, days")

    @model_validator(mode="after")
    def _stall_holds_two_windows(self) -> RegimeParams:
        if self.stall_days < 2 * self.shortest_days:
            raise ValueError(
                f"stall_days ({self.stall_days}) must be at least twice shortest_days ({self.shortest_days}):"
                " a stall is split into a chop and the start of the next trend"
            )
        return self


def date_regime_windows(
    klines: pd.DataFrame, *, underlying: str = "BTC", params: RegimeParams | None = None
) -> pd.DataFrame:
    """Contiguous windows over the full UTC days of `klines` (`schema.tables.REGIME_WINDOWS`), the last one provisional.

    The filter rule of Lunde and Timmermann (2004): a bull ends at its highest close once the close has fallen by
    `fall` from it, a dump ends at its lowest close once the close has risen by `rise`. Chop is added by time, as a
    trend that makes no new extreme for `stall_days`: it lasts from the old extreme to the lowest close (in a bull;
    the highest in a dump) before the next new extreme. Dating is sequential: a closed window depends on nothing
    after the day that closed it, so later candles never move it.

    Source: A. Lunde and A. Timmermann (2004), "Duration Dependence in Stock Prices: An Analysis of Bull and Bear
    Markets", Journal of Business & Economic Statistics 22(3), 253-273 (the filter); D. Guillaume et al. (1997),
    "From the bird's eye to the microscope", Finance and Stochastics 1, 95-129 (directional changes).

    Raises:
        ValueError: the candles hold no full day.
    """
    daily = daily_closes(klines)
    if daily.empty:
        raise ValueError("regime dating needs at least one full UTC day of candles; there is none")
    dating = _Dating(daily.to_numpy(dtype=float), params or RegimeParams())
    cuts = dating.run()
    rows = [
        _window_row(daily, first, end, label, underlying, float(klines["open"].iloc[0]))
        | {"provisional": number == len(cuts) - 1}
        for number, (first, end, label) in enumerate(cuts)
    ]
    return pd.DataFrame(rows)[REGIME_WINDOWS.column_names]


def daily_closes(klines: pd.DataFrame) -> pd.Series:
    """Last close of each UTC day, indexed by midnight; days without candles repeat the last close known.

    The last day counts once its last candle has closed at midnight.
    """
    if klines.empty:
        return pd.Series(dtype=float)
    day = klines["open_time"].dt.floor("D")
    closes = klines.groupby(day)["close"].last()
    if klines["close_time"].iloc[-1] < closes.index[-1] + _DAY:
        closes = closes.iloc[:-1]
    return closes.asfreq("D").ffill() if len(closes) else closes


def _window_row(
    daily: pd.Series, first: int, end: int, label: str, underlying: str, first_open: float
) -> dict[str, object]:
    start, last = daily.index[first], daily.index[end - 1]
    before = daily.iloc[first - 1] if first else first_open
    return {
        "regime": regime_key(label, start, last),
        "underlying": underlying,
        "label": label,
        "start": start,
        "end": last + _DAY,
        "days": end - first,
        "return_pct": 100 * (daily.iloc[end - 1] / before - 1),
    }


@dataclass
class _Dating:
    """The state machine behind `date_regime_windows`. Days are positions in `closes`.

    A turning point on day d closes the window that ends with day d; the next one starts with day d + 1.
    """

    closes: Floats
    params: RegimeParams
    windows: list[tuple[int, int, str]] = field(default_factory=list)
    direction: int = 0
    """+1 in a rising leg, -1 in a falling one, 0 before the first threshold is reached."""
    start: int = 0
    """First day of the open window."""
    extreme: int = -1
    """Day of the leg's highest (lowest) close so far; -1 while the window is too young to end."""
    stalled: bool = False
    """The open window is a chop that began after `extreme`."""

    def run(self) -> list[tuple[int, int, str]]:
        """(first day, end day (exclusive), label) of every window; the last one is open."""
        for day in range(len(self.closes)):
            if self.direction == 0:
                self._find_first_leg(day)
            else:
                self._step(day)
        label = "chop" if self.stalled or self.direction == 0 else _TREND[self.direction]
        return [*self.windows, (self.start, len(self.closes), label)]

    def _find_first_leg(self, day: int) -> None:
        seen = self.closes[: day + 1]
        low, high = int(seen.argmin()), int(seen.argmax())
        if seen[day] >= seen[low] * (1 + self.params.rise):
            self._begin_leg(1, low, day)
        elif seen[day] <= seen[high] * (1 - self.params.fall):
            self._begin_leg(-1, high, day)

    def _begin_leg(self, direction: int, turn: int, day: int) -> None:
        """Close what came before the turn as chop, unless that would be too short: then the leg starts at once."""
        if turn + 1 - self.start >= self.params.shortest_days:
            self._close(turn, "chop")
        self._turn(direction, day)

    def _step(self, day: int) -> None:
        if day < self._first_turn:
            return
        if self.extreme < 0 or self._ahead(day, self.extreme):
            self._extend(day)
        elif self._reversed(day):
            self._reverse(day)
        elif not self.stalled and day - self.extreme >= self.params.stall_days:
            self._close(self.extreme, _TREND[self.direction])
            self.stalled = True

    @property
    def _first_turn(self) -> int:
        """First day on which the open trend may end."""
        return self.start + self.params.shortest_days - 1 if not self.stalled else 0

    def _extend(self, day: int) -> None:
        """A new extreme: the trend goes on, after a stall from the deepest close of its second part."""
        if self.stalled:
            self._close(self._counter_extreme(day), "chop")
            self.stalled = False
        self.extreme = day

    def _reverse(self, day: int) -> None:
        """The close has come back by the threshold: the trend ended at its extreme, or at the stall's second try."""
        if not self.stalled:
            self._close(self.extreme, _TREND[self.direction])
        else:
            second = self._best(self.extreme + self.params.shortest_days, day)
            # Where the best close of the stall is its first possible one, the price only slid: no chop.
            if second > self.extreme + self.params.shortest_days:
                self._close(second, "chop")
        self.stalled = False
        self._turn(-self.direction, day)

    def _turn(self, direction: int, day: int) -> None:
        self.direction = direction
        self.extreme = -1
        if day >= self._first_turn:
            self.extreme = self._best(self._first_turn, day)

    def _close(self, last_day: int, label: str) -> None:
        self.windows.append((self.start, last_day + 1, label))
        self.start = last_day + 1

    def _ahead(self, day: int, other: int) -> bool:
        return bool(self.direction * (self.closes[day] - self.closes[other]) > 0)

    def _reversed(self, day: int) -> bool:
        ratio = self.closes[day] / self.closes[self.extreme]
        return bool(ratio <= 1 - self.params.fall if self.direction > 0 else ratio >= 1 + self.params.rise)

    def _best(self, first: int, last: int) -> int:
        """Day of the leg's most extreme close among `first .. last`."""
        return first + int((self.direction * self.closes[first : last + 1]).argmax())

    def _counter_extreme(self, day: int) -> int:
        """Day of the close furthest against the leg, at least a shortest window after the extreme and before `day`."""
        first, last = self.extreme + self.params.shortest_days, day - self.params.shortest_days
        return first + int((-self.direction * self.closes[first : last + 1]).argmax())
