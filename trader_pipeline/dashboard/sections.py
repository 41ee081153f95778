"""Sections that fail by themselves: what is wrong stands in the section, and the rest of the page is shown."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from dash.development.base_component import Component

from trader_pipeline.dashboard import parts
from trader_pipeline.dashboard.deferred import shown_or_problem
from trader_pipeline.dashboard.page import BadChoiceError, Context


def guarded_parts(name: str, make: Callable[[], Iterable[Any]], context: Context | None = None) -> list[Any]:
    """What `make` gives, or its error as a sentence; a bad choice is the address', so the frame tells it."""
    made = shown_or_problem(name, lambda _: _without_bad_choices(make), {}, context)
    if isinstance(made, BadChoiceError):
        raise made
    return made if isinstance(made, list) else [made]


def _without_bad_choices(make: Callable[[], Iterable[Any]]) -> list[Any] | BadChoiceError:
    try:
        return list(make())
    except BadChoiceError as error:
        return error


def guarded(title: str, make: Callable[[], Iterable[Any]], context: Context | None = None) -> Component:
    """A section of what `make` gives, or of its error as a sentence."""
    made = shown_or_problem(title, lambda _: list(make()), {}, context)
    return parts.section(title, *(made if isinstance(made, list) else [made]))
