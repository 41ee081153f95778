"""Colours, and the look of all figures. The style sheet (assets/frame.css) has the rest.

Figures are see-through: their text, grid and labels take the page's ink from the style sheet, so that one figure suits
the light and the dark theme and a switch redraws nothing. Marks keep colours that stand off from both.
Colours are Okabe and Ito's, as in the report, told apart by most colour-blind readers, and never alone.
"""

from __future__ import annotations

from functools import cache

import plotly.graph_objects as go

from trader_pipeline.backtest.page.plots import BLUE, GREEN, GREY, INK, ORANGE, RED

SKY, PINK = "#56b4e9", "#cc79a7"
NEUTRAL = "#7d8796"
"""For what is neither good nor bad: candles, HODL. At least 3:1 on both themes' cards."""
SERIES = (BLUE, ORANGE, GREEN, PINK, SKY, RED)
REGIMES = {"bull": (BLUE, 0.16), "chop": (GREY, 0.16), "dump": (ORANGE, 0.22)}

__all__ = [
    "BLUE",
    "GREEN",
    "GREY",
    "INK",
    "NEUTRAL",
    "ORANGE",
    "PINK",
    "RED",
    "REGIMES",
    "SERIES",
    "SKY",
    "adapted",
]

_CLEAR = "rgba(0,0,0,0)"
_LEGEND = {
    "orientation": "h",
    "x": 0,
    "xanchor": "left",
    "y": 1,
    "yref": "container",
    "yanchor": "top",
    "bgcolor": _CLEAR,
}


@cache
def template() -> go.layout.Template:
    """What every figure starts from."""
    axis = {
        "gridcolor": NEUTRAL,
        "linecolor": NEUTRAL,
        "showline": True,
        "zeroline": False,
        "automargin": True,
    }
    return go.layout.Template(
        layout={
            "colorway": SERIES,
            "paper_bgcolor": _CLEAR,
            "plot_bgcolor": _CLEAR,
            "font": {"family": "system-ui, sans-serif", "size": 12, "color": NEUTRAL},
            "margin": {"l": 56, "r": 12, "t": 30, "b": 36},
            "legend": _LEGEND,
            "hovermode": "x unified",
            "xaxis": axis,
            "yaxis": axis,
        }
    )


def adapted(figure: go.Figure) -> go.Figure:
    """A copy without colours of its own for paper, text and axes; dark ink in marks becomes neutral.

    So figures that a stage draws for a white page (`backtest.page`, `evaluation.report`) can be shown here.
    """
    figure = go.Figure(figure)
    figure.update_layout(
        template=template(),
        paper_bgcolor=_CLEAR,
        plot_bgcolor=_CLEAR,
        font_color=NEUTRAL,
        hoverlabel=None,
        legend_bgcolor=_CLEAR,
        dragmode=figure.layout.dragmode or "zoom",
    )
    plain = {"gridcolor": None, "linecolor": None}
    figure.update_xaxes(**plain)
    figure.update_yaxes(**plain)
    for trace in figure.data:
        for part in ("line", "marker"):
            colour = getattr(getattr(trace, part, None), "color", None)
            if isinstance(colour, str) and colour.lower() == INK:
                trace[part].color = NEUTRAL
    for shape in figure.layout.shapes:
        if shape.line.color == INK:
            shape.line.color = NEUTRAL
    return figure
