"""Which decisions a backtest makes: start, end and decision times, checked before anything is priced.

Belongs here: one clear error for each window that the candles or the settings do not allow, with the nearest one that
they do. Does not belong here: what is known or done at a decision.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from trader_pipeline.backtest.params import BacktestParams
from trader_pipeline.backtest.setting_grid import check_settings
from trader_pipeline.options.chain import check_covered, decision_times
from trader_pipeline.options.params import OptionParams
from trader_pipeline.options.surface import candle_step, epoch_seconds, history_days
from trader_pipeline.schema import TIMEFRAMES, Market

_EXPIRY_HOUR = pd.Timedelta(hours=8)
_HOUR = pd.Timedelta(hours=1)


@dataclass(frozen=True)
class Reach:
    """What candles allow: decisions from `earliest` to `latest` (the last close), after `history_days` of candles."""

    first_open: pd.Timestamp
    earliest: pd.Timestamp
    latest: pd.Timestamp
    history_days: int
    why: str
    """What a decision before `earliest` lacks."""


def resolve_window(
    fine_klines: pd.DataFrame,
    *,
    market: Market,
    start: pd.Timestamp | None,
    end: pd.Timestamp | None,
    params: BacktestParams,
    option_params: OptionParams,
) -> tuple[pd.Timestamp, pd.Timestamp, np.ndarray]:
    """Start, end (exclusive) and the sorted decision times (epoch seconds, never empty) of a backtest.

    Without `start` it begins as soon as the volatility's window of candles has passed, without `end` it goes on until
    the last close. Times without a zone are UTC.

    Raises:
        ValueError: a window that is empty, reversed, or not covered by the candles; settings that contradict each other
            or do not fit the candles. The message names the nearest valid choice.
    """
    check_settings(params)
    _check_steps(fine_klines, market, params)
    begin, finish = _in_utc("start", start), _in_utc("end", end)
    if begin is not None and finish is not None and finish < begin:
        raise ValueError(f"the window ends at {_text(finish)}, before its start at {_text(begin)}; swap them")
    reach = candle_reach(fine_klines, option_params, begin)
    begin = reach.earliest if begin is None else begin
    finish = reach.latest if finish is None else finish
    _check_overlap(begin, finish, reach, params)
    times = epoch_seconds(_decisions(begin, finish, params))
    if not len(times):
        raise ValueError(_no_decision(begin, finish, reach, params))
    _check_reach(times, begin, finish, reach, params)
    check_covered(fine_klines, times, option_params)
    return begin, finish, times


def candle_reach(
    fine_klines: pd.DataFrame, option_params: OptionParams, start: pd.Timestamp | None = None
) -> Reach:
    """When decisions on these candles can be made, from `start` on where it is given.

    Raises:
        ValueError: the candles end before the first decision that they would allow.
    """
    first_open, opened = fine_klines["open_time"].iloc[0], fine_klines["close_time"].iloc[0]
    latest, volatility = fine_klines["close_time"].iloc[-1], option_params.volatility
    probe = opened + pd.Timedelta(days=volatility.window_days) if start is None else start
    while True:  # a moment with a volatility index before it needs more history, which can move the moment
        need = history_days(fine_klines, volatility, first=probe)
        earliest = opened + pd.Timedelta(days=need)
        if probe >= earliest:
            break
        probe = earliest
    why = f"has less than {need} days of candles before it"
    since = pd.Timestamp(option_params.calibrations[0].applies_from, tz="UTC")
    if since > earliest:
        earliest, why = since, f"lies before the first calibration, which applies from {since:%Y-%m-%d} on"
    if latest < earliest:
        lacking = (earliest - latest).ceil("D").days
        reason = f"a decision before {_text(earliest)} {why}"
        raise ValueError(
            f"the candles cover {_text(first_open)} to {_text(latest)} and allow no decision: {reason};"
            f" give at least {lacking} more days of candles{' before them or' if since < earliest else ''} after them"
        )
    return Reach(first_open, earliest, latest, need, why)


def _check_steps(fine_klines: pd.DataFrame, market: Market, params: BacktestParams) -> None:
    every = pd.Timedelta(hours=params.decision_every_hours)
    if every % market.step != pd.Timedelta(0):
        near = sorted({int(every.floor(market.step) / _HOUR), int(every.ceil(market.step) / _HOUR)} - {0})
        raise ValueError(
            f"decision_every_hours is {params.decision_every_hours}, not a multiple of {market}'s timeframe;"
            f" use {' or '.join(map(str, near))}"
        )
    step = candle_step(fine_klines)
    if _EXPIRY_HOUR % step != pd.Timedelta(0):
        raise ValueError(
            f"fine candles of {_span(step)} never close at 08:00 UTC, when options expire; give 4h or finer ones"
        )
    if step > market.step:
        wide = [name for name, width in TIMEFRAMES.items() if width >= step]
        raise ValueError(
            f"the fine candles ({_span(step)}) are coarser than {market}'s; give the finest ones held as fine_klines,"
            f" of {market.timeframe} or finer, or a market of {' or '.join(wide)}"
        )


def _check_overlap(begin: pd.Timestamp, finish: pd.Timestamp, reach: Reach, params: BacktestParams) -> None:
    """Refuse a window that lies wholly after or before what can be decided; `finish < begin` where one is a default."""
    after, before = begin > reach.latest, finish <= reach.first_open or finish < begin
    if not (after or before):
        return
    asked = f"{_text(begin)} to {_text(finish)}"
    if finish < begin:
        asked = f"from {_text(begin)} on" if after else f"until {_text(finish)}"
    raise ValueError(
        f"the window {asked} lies {'after' if after else 'before'} what the candles allow: they cover"
        f" {_text(reach.first_open)} to {_text(reach.latest)}, and decisions can be made from {_text(reach.earliest)}"
        f" on; {_nearest(begin, finish, reach, params)}"
    )


def _check_reach(
    times: np.ndarray, begin: pd.Timestamp, finish: pd.Timestamp, reach: Reach, params: BacktestParams
) -> None:
    first, last = (pd.Timestamp(int(t), unit="s", tz="UTC") for t in (times[0], times[-1]))
    if first < reach.earliest:
        raise ValueError(
            f"the first decision at {_text(first)} {reach.why}; start at {_text(reach.earliest)} or later, or give"
            f" candles from {_text(first - pd.Timedelta(days=reach.history_days))} on;"
            f" {_nearest(begin, finish, reach, params)}"
        )
    if last > reach.latest:
        raise ValueError(
            f"the candles end at {_text(reach.latest)}, before the decision at {_text(last)}; end the window by then;"
            f" {_nearest(begin, finish, reach, params)}"
        )


def _no_decision(begin: pd.Timestamp, finish: pd.Timestamp, reach: Reach, params: BacktestParams) -> str:
    every, offset = params.decision_every_hours, pd.Timedelta(hours=params.decision_offset_hours)
    following = (begin - offset).ceil(pd.Timedelta(hours=every)) + offset
    return (
        f"no decision lies in {_text(begin)} to {_text(finish)}: with one every {every} h since 1970 the next is at"
        f" {_text(following)}; widen the window or decide more often; {_nearest(begin, finish, reach, params)}"
    )


def _nearest(begin: pd.Timestamp, finish: pd.Timestamp, reach: Reach, params: BacktestParams) -> str:
    """The window closest to the one asked for, of its length where the candles allow, that holds a decision."""
    possible = _decisions(reach.earliest, reach.latest + pd.Timedelta(seconds=1), params)
    if not len(possible):
        return "no window on these candles holds a decision: decide more often, or give more candles"
    every = pd.Timedelta(hours=params.decision_every_hours)
    length = max(finish - begin, every)
    if begin > reach.latest:
        begin = reach.latest - length
    begin = min(max(begin, reach.earliest), possible[-1])
    first = possible[int(possible.searchsorted(begin))]
    finish = finish if finish > first else begin + length
    finish = max(min(finish, reach.latest), first + every)
    return f"the nearest window that works: {_text(begin)} to {_text(finish)} (UTC)"


def _decisions(begin: pd.Timestamp, finish: pd.Timestamp, params: BacktestParams) -> pd.DatetimeIndex:
    return decision_times(
        begin, finish, every_hours=params.decision_every_hours, offset_hours=params.decision_offset_hours
    )


def _in_utc(name: str, moment: pd.Timestamp | None) -> pd.Timestamp | None:
    if moment is None:
        return None
    moment = pd.Timestamp(moment)
    if not isinstance(moment, pd.Timestamp):
        raise ValueError(f"{name} is no moment; give a date, or None for all that the candles cover")
    return moment.tz_localize("UTC") if moment.tzinfo is None else moment.tz_convert("UTC")


def _text(moment: pd.Timestamp) -> str:
    return f"{moment:%Y-%m-%d %H:%M}"


def _span(step: pd.Timedelta) -> str:
    names = {span: name for name, span in TIMEFRAMES.items()}
    return names.get(step, str(step))
