"""The dashboard's own components of Dash; assets/components.js shows them.

Belongs here: what Dash's own cannot do in time. `Markup` puts a table of many cells into the page in one step. `Chart`
draws with Plotly once: Dash's own graph draws again 100 ms later, and anew at every choice, changed or not.
"""

from __future__ import annotations

from typing import Any

from dash.development.base_component import Component

from trader_pipeline.dashboard.markup import Html

_NAMESPACE = "trader_pipeline_dashboard"


class Markup(Component):
    """HTML of `markup.element`."""

    _namespace = _NAMESPACE
    _type = "Markup"

    def __init__(self, html: Html) -> None:
        if not isinstance(html, Html):
            raise TypeError("Markup shows what markup.element wrote, and no other text")
        _declare(self, ["html"])
        super().__init__(html=str(html))


class Chart(Component):
    """A figure of Plotly, as a mapping. With an id that the page before had, its drawing is kept or changed."""

    _namespace = _NAMESPACE
    _type = "Chart"

    def __init__(self, figure: dict[str, Any], *, id: str, height: int, zooms: bool = False) -> None:
        _declare(self, ["id", "figure", "height", "zooms"])
        super().__init__(id=id, figure=figure, height=height, zooms=zooms)


def _declare(component: Component, names: list[str]) -> None:
    """Tells Dash the properties of a component; those that Dash generates do the same."""
    component._prop_names = names
    component._valid_wildcard_attributes = component.available_wildcard_properties = []
