"""What a backtest from the command line works on: settings, candles, window, regime windows, quotes.

Belongs here: from options to checked inputs, before anything long is run.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import click
import pandas as pd

from trader_pipeline.backtest import BacktestParams, PreparedMarket, prepare_market
from trader_pipeline.backtest.setting_grid import change_settings, combine_settings
from trader_pipeline.backtest.window import resolve_window
from trader_pipeline.cli.options import utc_day
from trader_pipeline.klines import build_klines
from trader_pipeline.options.recordings import load_quotes_file, load_volatility_index_file
from trader_pipeline.options.surface import with_volatility_index
from trader_pipeline.profile import Profile
from trader_pipeline.schema import Market
from trader_pipeline.schema.columns import EXIT_STYLES
from trader_pipeline.settings import load_profile, parse_overrides

_SECTION = "backtest."
_HOURS = {"h": 1, "d": 24, "w": 24 * 7}


@dataclass(frozen=True)
class Request:
    """The command's options as they were given."""

    profile: str
    overrides: tuple[str, ...]
    klines_path: Path
    underlying: str
    timeframe: str
    start: str | None
    end: str | None
    exit_style: str
    decision_every: str | None
    mode: Literal["independent", "sequential"]
    grid: tuple[str, ...]
    quotes_path: Path | None
    index_path: Path | None
    out: Path | None
    page_path: Path | None
    tracking_uri: str | None
    threads: int
    progress: bool | None

    @property
    def market(self) -> Market:
        return Market(self.underlying, self.timeframe)

    @property
    def exit_styles(self) -> tuple[str, ...]:
        return EXIT_STYLES if self.exit_style == "both" else (self.exit_style,)


@dataclass(frozen=True)
class Settings:
    """The profile with the changes asked for, a grid's values by setting, and all of their combinations.

    Without a grid the profile's own settings are the one combination.
    """

    profile: Profile
    varied: Mapping[str, list[Any]]
    combinations: list[BacktestParams]


@dataclass(frozen=True)
class Inputs:
    """All that a run needs; `now` is the one look at the clock."""

    request: Request
    profile: Profile
    klines: pd.DataFrame
    fine_klines: pd.DataFrame
    start: pd.Timestamp
    end: pd.Timestamp
    quotes: pd.DataFrame | None
    simulated: bool
    now: pd.Timestamp

    @property
    def last_day(self) -> pd.Timestamp:
        """The last moment of the window, which does not include its end."""
        return self.end - pd.Timedelta(microseconds=1)


def read_settings(request: Request) -> Settings:
    """Settings from profile, `--set`, `--decision-every` and `--grid`.

    Raises:
        ValueError: an unknown name, a bad value, settings that contradict each other, or one that is given twice.
    """
    changes, others = _own_and_other(parse_overrides(request.overrides))
    if request.decision_every:
        if "decision_every_hours" in changes:
            raise ValueError("--decision-every and --set decision_every_hours say the same thing; keep one")
        changes["decision_every_hours"] = hours_of(request.decision_every)
    varied = _grid_values(request.grid)
    if twice := sorted(set(varied) & set(changes)):
        raise ValueError(f"setting {twice[0]} is both set and varied by --grid; keep one")
    profile = load_profile(request.profile, klines=str(request.klines_path), overrides=others)
    params = change_settings(profile.backtest, changes)
    return Settings(profile.model_copy(update={"backtest": params}), varied, combine_settings(params, varied))


def _own_and_other(overrides: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings of the backtest by their bare names, and those of other sections."""
    own, others = {}, {}
    for key, value in overrides.items():
        if key.startswith(_SECTION) or ("." not in key and key not in Profile.model_fields):
            own[key.removeprefix(_SECTION)] = value
        else:
            others[key] = value
    return own, others


def _grid_values(pairs: tuple[str, ...]) -> dict[str, list[Any]]:
    values: dict[str, list[Any]] = {}
    for pair in pairs:
        key, separator, text = pair.partition("=")
        name, parts = key.strip().removeprefix(_SECTION), [part.strip() for part in text.split(",")]
        if not separator or not all(parts):
            raise ValueError(f"a grid is KEY=V1,V2,..., for example take_profit=0.5,0.7,0.9; got {pair!r}")
        if "." in name:
            raise ValueError(f"--grid varies settings of the backtest; change {name} with --set")
        if name in values:
            raise ValueError(
                f"--grid {name} is given twice; write all its values after one ={','.join(parts)}"
            )
        values[name] = [parse_overrides((f"{name}={part}",))[name] for part in parts]
    return values


def hours_of(text: str) -> int:
    """`24h`, `1d`, `2w` in hours.

    Raises:
        ValueError: anything else.
    """
    match = re.fullmatch(r"([1-9]\d{0,4})([hdw])", text.strip().lower())
    if not match:
        raise ValueError(
            f"--decision-every {text!r} is no whole number of hours, days or weeks; write 24h, 1d or 1w"
        )
    return int(match[1]) * _HOURS[match[2]]


def load_inputs(request: Request, settings: Settings) -> Inputs:
    """Candles of the market and the finest ones, with the window checked against them.

    Raises:
        ValueError: no candles, a window that they do not cover, quotes that do not fit.
    """
    profile, market = settings.profile, request.market
    start, end = (utc_day(day) if day else None for day in (request.start, request.end))
    _check_quotes(request, profile.options.source)
    now = pd.Timestamp.now("UTC")
    finest = Market(request.underlying, profile.klines.finest_timeframe)
    fine, _, simulated = build_klines(finest, profile.klines, as_of=now)
    klines = fine if market == finest else build_klines(market, profile.klines, as_of=now)[0]
    if simulated and (request.quotes_path or request.index_path):
        raise ValueError(
            "the candles are simulated: real quotes or a real volatility index say nothing about them"
        )
    if request.index_path:
        index = load_volatility_index_file(request.index_path)
        _check_index(index, request)
        fine = with_volatility_index(fine, index, underlying=request.underlying)
    begin, finish = _window(settings, fine, market, start, end)
    quotes = load_quotes_file(request.quotes_path) if request.quotes_path else None
    return Inputs(request, profile, klines, fine, begin, finish, quotes, simulated, now)


def _window(
    settings: Settings,
    fine: pd.DataFrame,
    market: Market,
    start: pd.Timestamp | None,
    end: pd.Timestamp | None,
) -> tuple[pd.Timestamp, pd.Timestamp]:
    """The window, held against every decision time that the combinations ask for."""
    timings = {(p.decision_every_hours, p.decision_offset_hours): p for p in settings.combinations}
    windows = [
        resolve_window(
            fine, market=market, start=start, end=end, params=params, option_params=settings.profile.options
        )
        for params in timings.values()
    ]
    return windows[0][0], windows[0][1]


def prepare_inputs(inputs: Inputs, settings: Settings) -> PreparedMarket:
    """The market made ready for all of the settings at once."""
    return prepare_market(
        klines=inputs.klines,
        fine_klines=inputs.fine_klines,
        market=inputs.request.market,
        start=inputs.start,
        end=inputs.end,
        option_params=inputs.profile.options,
        settings=settings.combinations,
        quotes=inputs.quotes,
        threads=inputs.request.threads,
    )


def _check_index(index: pd.DataFrame, request: Request) -> None:
    if request.underlying not in (held := sorted(set(index["underlying"]))):
        raise ValueError(
            f"{request.index_path} holds no volatility index of {request.underlying}, but of {', '.join(held)}; leave"
            " --volatility-index, or give a file that does"
        )


def _check_quotes(request: Request, source: str) -> None:
    """Quotes that would go unused, or that are missing."""
    if request.quotes_path and source != "recorded":
        raise click.UsageError(
            "--quotes counts only with --set options.source=recorded; add it, or leave --quotes"
        )
    if source == "recorded" and not request.quotes_path:
        raise click.UsageError("options.source is recorded: say where the quotes are with --quotes FILE")
