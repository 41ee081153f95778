"""The form of the page Backtests: its fields, what they may hold, and the job they make.

Belongs here: from the address' words to a `BacktestJob`, or a sentence beside the field that is wrong. Nothing is
started here (`backtest_jobs`) or drawn (`backtest_views`).
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

import pandas as pd
from pydantic import ValidationError

from trader_pipeline import __version__
from trader_pipeline.backtest.params import BacktestParams
from trader_pipeline.backtest.window import resolve_window
from trader_pipeline.dashboard.backtest_jobs import CODE, BacktestJob
from trader_pipeline.dashboard.damage import DamagedTableError, body_errors_named
from trader_pipeline.dashboard.page import BadChoiceError, moment
from trader_pipeline.dashboard.tables import Tables
from trader_pipeline.klines.tables import refuse_gappy
from trader_pipeline.profile import Profile
from trader_pipeline.schema import TIMEFRAMES, Market, Table
from trader_pipeline.schema.columns import EXIT_STYLES
from trader_pipeline.schema.tables import KLINE_GAPS, KLINES, OPTION_QUOTES, REGIME_WINDOWS, VOLATILITY_INDEX
from trader_pipeline.store import Manifest, MissingTableError, reference

DATES = "dates"
"""The choice of window in which the two dates count."""
BOTH = "both"
NUMBERS = {
    "every": "decision_every_hours",
    "threshold": "score_threshold",
    "profit": "take_profit",
    "rolls": "max_rolls",
    "costs": "cost_multiplier",
}
"""Fields of the form by the setting that each is."""


@dataclass(frozen=True)
class Form:
    """What the form shows, and what is wrong with it by field; a form without errors has a job."""

    values: dict[str, str]
    errors: dict[str, str] = field(default_factory=dict)
    job: BacktestJob | None = None


def held_underlyings(tables: Tables, profile: Profile) -> list[str]:
    """Coins whose finest candles are on disk and no damaged file."""
    finest = profile.klines.finest_timeframe
    held = {partition[0] for partition in tables.partitions(KLINES)}
    return sorted(key.split("_")[0] for key in held if key.endswith(f"_{finest}"))


def held_timeframes(profile: Profile) -> list[str]:
    """Timeframes to which the finest candles can be joined."""
    finest = TIMEFRAMES[profile.klines.finest_timeframe]
    return [
        name
        for name, step in TIMEFRAMES.items()
        if step >= finest and pd.Timedelta("1D") % step == pd.Timedelta(0)
    ]


def closed_windows(tables: Tables) -> pd.DataFrame:
    """REGIME_WINDOWS that are over; empty where none were dated, or their file is damaged: the page names it."""
    windows = REGIME_WINDOWS.empty()
    with suppress(MissingTableError, DamagedTableError):
        windows = tables.page(REGIME_WINDOWS, limit=10**6)
    return windows[~windows["provisional"].astype(bool)].sort_values("start", ignore_index=True)


def fill_form(state: Mapping[str, str], tables: Tables, profile: Profile) -> Form:
    """The form's values: the address' where it names them, else those of the profile and the first dated window."""
    windows = closed_windows(tables)
    held = held_underlyings(tables, profile)
    own = {Market.parse(m).underlying: Market.parse(m).timeframe for m in profile.markets}
    underlying = state.get("underlying") or next(iter([c for c in own if c in held] or held), "")
    values = {
        "underlying": underlying,
        "timeframe": own.get(underlying, profile.klines.finest_timeframe),
        "window": windows["regime"].iloc[0] if len(windows) else DATES,
        "start": "",
        "end": "",
        "exit": BOTH,
        **{name: f"{getattr(profile.backtest, setting):g}" for name, setting in NUMBERS.items()},
    }
    values |= {name: state[name].strip() for name in values if state.get(name)}
    dated = windows[windows["regime"] == values["window"]]
    if len(dated):
        values |= {edge: f"{dated[edge].iloc[0]:%Y-%m-%d}" for edge in ("start", "end")}
    return Form(values)


def read_form(form: Form, tables: Tables, profile: Profile) -> Form:
    """The form with its job, or with a sentence for each field that is wrong."""
    values, errors = form.values, dict[str, str]()
    market = _market(values, tables, profile, errors)
    if values["window"] not in (known := [*closed_windows(tables)["regime"], DATES]):
        errors["window"] = f"Unknown window; choose {', '.join(known)}."
    params = _params(values, profile, errors)
    start, end = (_moment(values, name, errors) for name in ("start", "end"))
    if values["exit"] not in (BOTH, *EXIT_STYLES):
        errors["exit"] = f"Unknown exit style; choose {', '.join((BOTH, *EXIT_STYLES))}."
    if start is not None and end is not None and end <= start:
        errors["end"] = f"The window ends at {end:%Y-%m-%d}, not after its start; give a later day."
    if errors or market is None or params is None:
        return Form(values, errors)
    finest = Market(market.underlying, profile.klines.finest_timeframe)
    try:
        begin, finish, _ = resolve_window(
            _closes(tables, finest), market=market,
            start=start, end=end, params=params, option_params=profile.options,
        )  # fmt: skip
    except DamagedTableError as error:
        return Form(values, {"underlying": f"{error}"})
    except ValueError as error:
        return Form(values, _beside(f"{error}."))
    try:
        parents, simulated = _inputs(tables, finest, profile)
    except (ValueError, DamagedTableError) as error:
        return Form(values, {"underlying": f"{error}"})
    styles = EXIT_STYLES if values["exit"] == BOTH else (values["exit"],)
    job = BacktestJob(
        market=market.key, finest=finest.key, start=begin.isoformat(), end=finish.isoformat(), exit_styles=styles,
        backtest=params, options=profile.options, parents=parents | _made_by(profile, params), simulated=simulated,
    )  # fmt: skip
    return Form(values, job=job)


def _closes(tables: Tables, finest: Market) -> pd.DataFrame:
    columns = ["open_time", "close_time", "close"]
    with body_errors_named([tables.store.path(KLINES, (finest.key,))]):
        return tables.store.read(KLINES, (finest.key,), columns=columns)


def _beside(text: str) -> dict[str, str]:
    """What is wrong with the window, by the field to change."""
    rhythm = "decision_every_hours is"
    if text.startswith(rhythm):
        return {"every": text.replace(rhythm, "The hours between decisions are")}
    return {"end" if text.startswith("the candles end") else "start": text[0].upper() + text[1:]}


def _market(
    values: Mapping[str, str], tables: Tables, profile: Profile, errors: dict[str, str]
) -> Market | None:
    held = held_underlyings(tables, profile)
    if values["underlying"] not in held:
        known = f"choose {' or '.join(held)}" if held else "make them first: trader-pipeline run"
        errors["underlying"] = f"There are no candles of {values['underlying'] or 'any coin'}; {known}."
    if values["timeframe"] not in (known_steps := held_timeframes(profile)):
        errors["timeframe"] = f"Unknown timeframe; choose {', '.join(known_steps)}."
    return None if errors else Market(values["underlying"], values["timeframe"])


def _params(values: Mapping[str, str], profile: Profile, errors: dict[str, str]) -> BacktestParams | None:
    given = {setting: values[name] for name, setting in NUMBERS.items()}
    try:
        return BacktestParams.model_validate({**profile.backtest.model_dump(), **given})
    except ValidationError as error:
        names = {setting: name for name, setting in NUMBERS.items()}
        for problem in error.errors():
            name = names.get(str(problem["loc"][0]) if problem["loc"] else "", "threshold")
            errors[name] = f"{problem['msg']}; got {values[name]}."
        return None


def _moment(values: Mapping[str, str], name: str, errors: dict[str, str]) -> pd.Timestamp | None:
    """A day or moment in UTC; None where the field is empty, which means all that the candles allow."""
    try:
        return moment(values, name)
    except BadChoiceError as error:
        errors[name] = f"{error}.".removeprefix(f"{name} ")
        return None


def _inputs(tables: Tables, finest: Market, profile: Profile) -> tuple[dict[str, str], bool]:
    """Content hashes of the tables that the run reads, and whether the candles are simulated.

    Raises:
        ValueError: too many candles are missing; recorded quotes are asked for and there are none, or the candles are
            simulated.
        DamagedTableError: a file of them cannot be read.
    """
    tables.manifest(KLINE_GAPS, (finest.key,))
    refuse_gappy(tables.store, finest.key)
    candles = tables.manifest(KLINES, (finest.key,))
    assert candles is not None, "the form was checked against the candles on disk"
    parents = {reference(KLINES, (finest.key,)): candles.content_hash}
    index = None if candles.simulated else _filled(tables, VOLATILITY_INDEX)
    if index:
        parents[reference(VOLATILITY_INDEX)] = index.content_hash
    if profile.options.source == "recorded":
        quotes = None if candles.simulated else _filled(tables, OPTION_QUOTES)
        if quotes is None:
            raise ValueError("The profile asks for recorded quotes, and there are none for these candles.")
        parents[reference(OPTION_QUOTES)] = quotes.content_hash
    return parents, candles.simulated


def _made_by(profile: Profile, params: BacktestParams) -> dict[str, str]:
    """Code and settings as the pipeline's own backtests name them among their parents."""
    own = profile.model_copy(update={"backtest": params})
    return {CODE: __version__, **{f"settings/{s}": own.section_hash(s) for s in ("backtest", "options")}}


def _filled(tables: Tables, table: Table) -> Manifest | None:
    manifest = tables.manifest(table)
    return manifest if manifest is not None and manifest.rows else None
