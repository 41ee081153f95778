"""Sections that fail by themselves: what is wrong stands in the section, and the rest of the page is shown."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from dash.development.base_component import Component

from trader_pipeline.dashboard import parts
from trader_pipeline.dashboard.deferred import shown_or_problem


def guarded(title: str, make: Callable[[], Iterable[Any]]) -> Component:
    """A section of what `make` gives, or of its error as a sentence."""
    made = shown_or_problem(title, lambda _: list(make()), {})
    return parts.section(title, *(made if isinstance(made, list) else [made]))
