"""A page, what it is given, and its state: the query of its URL.

Belongs here: `Page`, `Context`, reading a state and writing links. Markup is in `parts`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

import pandas as pd
from dash import Dash

from trader_pipeline.dashboard.hints import StartedWith
from trader_pipeline.dashboard.tables import Tables
from trader_pipeline.profile import Profile

State = Mapping[str, str]
"""Query parameters of the URL. All that a reader chose on a page stands in them, so that a URL shows the same view."""
_WHOLE = re.compile(r"-?[0-9]{1,18}")


@dataclass(frozen=True)
class Context:
    """What a page may look at."""

    tables: Tables
    profile: Profile
    data_root: Path
    tracking_uri: str = ""
    """MLflow's tracking address."""
    mlflow_ui: str = "http://127.0.0.1:5000"
    dagster_ui: str = "http://127.0.0.1:3000"
    started: StartedWith = field(default_factory=StartedWith)
    """For the commands that a page names: see `hints`."""

    @property
    def exports_dir(self) -> Path:
        """Where the training files of a run lie."""
        return self.data_root / "datasets" / "exports"


@dataclass(frozen=True)
class Page:
    """A page of the dashboard. `layout` gives the page's parts; the frame puts navigation and title around them."""

    path: str
    """Path of its URL, for example `/market`."""
    title: str
    layout: Callable[[State, Context], Any]
    """Called for every view. What it raises is shown as a sentence, so a page raises errors that say what to do."""
    register: Callable[[Dash, Context], None] | None = None
    """Callbacks of the page, for what a URL cannot hold: a running process, a zoom."""
    summary: str = ""
    """What the page answers, in a phrase."""


class BadChoiceError(ValueError):
    """A query parameter that makes no sense; the message names it and the nearest valid choice."""


def read_state(search: str | None) -> dict[str, str]:
    """`?market=BTC_1h&page=2` as a dict; empty values are left out."""
    return dict(parse_qsl((search or "").lstrip("?")))


def href(path: str, state: State | None = None, **changes: object) -> str:
    """The URL of a page in a state, with some parameters changed; None or an empty text drops one."""
    merged = {**(state or {}), **changes}
    query = urlencode({k: str(v) for k, v in merged.items() if v is not None and v != ""})
    return f"{path}?{query}" if query else path


def chosen(state: State, name: str, options: list[str], default: str | None = None) -> str:
    """The value of parameter `name`, which is one of `options`; without it `default`, or the first.

    Raises:
        BadChoiceError: another value, or there is nothing to choose from.
    """
    if not options:
        raise BadChoiceError(f"there is no {name} to choose from yet")
    value = state.get(name, options[0] if default is None else default)
    if value not in options:
        shown = ", ".join(options[:12]) + (" ..." if len(options) > 12 else "")
        raise BadChoiceError(f"{name} {value!r} is not known here; choose one of {shown}")
    return value


def number(state: State, name: str, default: int, *, minimum: int = 1, maximum: int = 10**9) -> int:
    """A whole number from the state.

    Raises:
        BadChoiceError: no whole number, or one out of bounds.
    """
    text = state.get(name, str(default))
    if not _WHOLE.fullmatch(text) or not minimum <= int(text) <= maximum:
        shown = text if len(text) <= 40 else f"{text[:40]}..."
        raise BadChoiceError(f"{name} {shown!r} is not a whole number from {minimum} to {maximum:,}")
    return int(text)


def moment(state: State, name: str) -> pd.Timestamp | None:
    """A day or moment from the state, in UTC; None where it is not given.

    Raises:
        BadChoiceError: no date.
    """
    text = state.get(name)
    if not text:
        return None
    try:
        time = pd.Timestamp(text)
    except ValueError as error:
        raise BadChoiceError(f"{name} {text!r} is not a date; write YYYY-MM-DD") from error
    if not isinstance(time, pd.Timestamp) or not 2009 <= time.year <= 2100:
        raise BadChoiceError(f"{name} {text!r} is not a date from 2009 to 2100; write YYYY-MM-DD")
    return time.tz_localize("UTC") if time.tzinfo is None else time.tz_convert("UTC")
