"""Parts of a page that take longer than the page may: shown after it, by a callback of their own.

Belongs here: the place, and the callback that fills it. Does not belong here: what is shown.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from dash import Dash, Input, Output, dcc, html
from dash.development.base_component import Component

from trader_pipeline.dashboard import parts
from trader_pipeline.dashboard.damage import DamagedTableError
from trader_pipeline.dashboard.damage_views import what_to_do
from trader_pipeline.dashboard.page import Context, State

_LOG = logging.getLogger(__name__)


def later(name: str, state: State, *, words: str) -> Component:
    """The place of a part: `words` until it is there. `name` is the one that `fill_later` was given."""
    live: dict[str, Any] = {"aria-live": "polite"}
    asked = dcc.Store(id=f"{name}-asked", data=dict(state))
    return html.Div([asked, html.Div(parts.note(words), id=f"{name}-shown")], **live)


def fill_later(app: Dash, name: str, show: Callable[[State], Any], context: Context | None = None) -> None:
    """Register what fills the place: `show` is called with the page's state."""

    @app.callback(Output(f"{name}-shown", "children"), Input(f"{name}-asked", "data"))
    def fill(state: dict[str, str] | None) -> Any:
        return shown_or_problem(name, show, state or {}, context)


def shown_or_problem(
    name: str, show: Callable[[State], Any], state: State, context: Context | None = None
) -> Any:
    """What `show` gives, or its error as a sentence: whatever failed, the rest of the page stands.

    With a `context` a damaged file is told with the command that makes it again.
    """
    try:
        return show(state)
    except DamagedTableError as error:
        told = parts.problem(error)
        return told if context is None else html.Div([told, what_to_do(context)])
    except (ValueError, OSError) as error:  # the project's own errors: they say what to do
        return parts.problem(error)
    except Exception as error:  # noqa: BLE001 - as in `routing`: never a blank
        _LOG.exception("part %s failed", name)
        return parts.problem(f"{type(error).__name__}: {error}. The server's terminal has the details.")
