"""Which candles of an exchange count: a history that was ticked never changes, whatever the exchange delivers later.

Belongs here: what is done about candles that are missing while a market is ticked, and the file that remembers it.
Does not belong here: asking the exchange (`klines`), ticking (`paper.ticking.executor`).

A candle is settled once the candles around it are to be ticked. Settled and there: it counts for ever. Settled and
missing: it is missing for ever, and left out and reported should it come later. While a gap is young its candles may
still come: the gap is asked about again by every tick, and what lies behind it waits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from trader_pipeline.klines.cleaning import counted
from trader_pipeline.klines.downloads import Downloads
from trader_pipeline.store import write_atomic

GAP_PATIENCE = pd.Timedelta(minutes=15)
"""For how long the candles of a gap are waited for, from the close of the first candle behind it."""

Span = tuple[pd.Timestamp, pd.Timestamp]
"""First missing `open_time`, and that of the candle after the gap."""


class _Stored(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    market: str
    since: AwareDatetime
    until: AwareDatetime
    gaps: tuple[tuple[AwareDatetime, AwareDatetime], ...]


@dataclass(frozen=True)
class Settled:
    """The stretch of a market's candles that is settled, and what was missing in it.

    Candles count that open in [`since`, `until`) and in none of the `gaps`.
    """

    market: str
    since: pd.Timestamp
    until: pd.Timestamp
    gaps: tuple[Span, ...] = ()

    def counts(self, open_times: pd.Series) -> NDArray[np.bool_]:
        """True for each time (UTC) that is settled and not in a gap; shape (len(open_times),)."""
        return self.covers(open_times) & ~self._lies_in_gap(open_times)

    def late(self, open_times: pd.Series) -> NDArray[np.bool_]:
        """True for each time of a candle that came after it had been given up."""
        return self.covers(open_times) & self._lies_in_gap(open_times)

    def covers(self, open_times: pd.Series) -> NDArray[np.bool_]:
        """True for each time inside the settled stretch."""
        return ((open_times >= self.since) & (open_times < self.until)).to_numpy(dtype=bool)

    def _lies_in_gap(self, open_times: pd.Series) -> NDArray[np.bool_]:
        inside = np.zeros(len(open_times), dtype=bool)
        for first, after in self.gaps:
            inside |= ((open_times >= first) & (open_times < after)).to_numpy(dtype=bool)
        return inside


@dataclass(frozen=True)
class Settlement:
    """What is settled now, its candles (`KLINES`, sorted), and what a person should know about them."""

    settled: Settled
    candles: pd.DataFrame
    notes: tuple[str, ...]


def settle_candles(
    candles: pd.DataFrame,
    known: Settled | None,
    *,
    market: str,
    since: pd.Timestamp,
    step: pd.Timedelta,
    now: pd.Timestamp,
    patience: pd.Timedelta = GAP_PATIENCE,
) -> Settlement:
    """Settle the closed candles (`KLINES`, sorted, one or more) that follow what is `known`, up to the first young gap.

    A gap is young until `patience` after the close of the candle behind it, by the clock `now` (UTC). `since` is the
    first moment that counts; where it lies before what is settled already, the stretch between is settled as it is.
    """
    times = candles["open_time"]
    settled = known or Settled(market, since, since)
    if since < settled.since:
        settled = Settled(
            market, since, settled.until, (*_missing(times, since, settled.since, step), *settled.gaps)
        )
    end = times.iloc[-1] + step
    new = _missing(times, settled.until, end, step)
    young = next((gap for gap in new if _is_young(gap, step, now, patience)), None)
    until = max(settled.until, end if young is None else young[0])
    gaps = (*settled.gaps, *(gap for gap in new if gap[1] <= until))
    settled = Settled(market, settled.since, until, gaps)
    notes = [*_note_waiting(times, young, now, patience, step), *_note_late(times, settled)]
    own = candles[settled.counts(times)].reset_index(drop=True)
    return Settlement(settled, own, tuple(f"{market}: {note}" for note in notes))


def keep_asking(
    downloads: Downloads, *, step: pd.Timedelta, now: pd.Timestamp, patience: pd.Timedelta = GAP_PATIENCE
) -> int:
    """Record the young gaps of `downloads` as not asked about again, so that the next fetch asks; how many they are.

    Raises:
        BlockingIOError: another process fetches the same series.
    """
    gaps = downloads.load_gaps()
    young = gaps["to"] + step + patience > now
    if young.any():
        downloads.record_gaps(
            gaps.assign(gap_reason=gaps["gap_reason"].mask(young, "not_asked_again").to_numpy())
        )
    return int(young.sum())


def load_settled(path: Path) -> Settled | None:
    """What `path` remembers, or None where there is no such file.

    Raises:
        ValueError: the file is damaged.
    """
    if not path.exists():
        return None
    try:
        stored = _Stored.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise ValueError(
            f"{path}: does not say which candles were missing when they were ticked; take it from a backup. Without it,"
            " candles that came late would count as ticked"
        ) from error
    return Settled(
        stored.market,
        _utc(stored.since),
        _utc(stored.until),
        tuple((_utc(a), _utc(b)) for a, b in stored.gaps),
    )


def settled_by_ticks(
    market: str, ticked: pd.DatetimeIndex, *, first: pd.Timestamp, step: pd.Timedelta
) -> Settled:
    """What the candles that were ticked (sorted, one or more) tell, from the first that was to be ticked on."""
    until = ticked[-1] + step
    return Settled(market, first, until, _missing(pd.Series(ticked), first, until, step))


def write_settled(settled: Settled, path: Path) -> None:
    """Remember `settled` in `path`, in one step; an unchanged file is not written again."""
    stored = _Stored(
        market=settled.market,
        since=settled.since.to_pydatetime(),
        until=settled.until.to_pydatetime(),
        gaps=tuple((a.to_pydatetime(), b.to_pydatetime()) for a, b in settled.gaps),
    )
    text = (stored.model_dump_json(indent=1) + "\n").encode()
    if not path.exists() or path.read_bytes() != text:
        write_atomic(path, text, overwrite=True)


def _missing(
    times: pd.Series, first: pd.Timestamp, end: pd.Timestamp, step: pd.Timedelta
) -> tuple[Span, ...]:
    """The spans of [first, end) in which no candle opens, in order."""
    if first >= end:
        return ()
    held = times[(times >= first) & (times < end)]
    expected = [first, *(held + step)]
    found = [*held, end]
    return tuple((a, b) for a, b in zip(expected, found, strict=True) if a < b)


def _is_young(gap: Span, step: pd.Timedelta, now: pd.Timestamp, patience: pd.Timedelta) -> bool:
    return gap[1] + step + patience > now


def _note_waiting(
    times: pd.Series, young: Span | None, now: pd.Timestamp, patience: pd.Timedelta, step: pd.Timedelta
) -> Sequence[str]:
    if young is None:
        return []
    waiting = int((times >= young[1]).sum())
    return [
        f"{counted(int((young[1] - young[0]) / step), 'candle')} missing from {_stamp(young[0])};"
        f" {counted(waiting, 'candle')} behind {'waits' if waiting == 1 else 'wait'} for them until"
        f" {_stamp(young[1] + step + patience)}"
    ]


def _note_late(times: pd.Series, settled: Settled) -> Sequence[str]:
    late = times[settled.late(times)]
    if late.empty:
        return []
    verb = "is" if len(late) == 1 else "are"
    return [
        f"{counted(len(late), 'candle')} came after ticking had passed and {verb} left out (the first opens"
        f" {_stamp(late.iloc[0])})"
    ]


def _stamp(moment: pd.Timestamp) -> str:
    return f"{moment:%Y-%m-%dT%H:%M}"


def _utc(moment: object) -> pd.Timestamp:
    return pd.Timestamp(moment).tz_convert("UTC")  # type: ignore[arg-type]
