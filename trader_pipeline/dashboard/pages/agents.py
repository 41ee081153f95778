"""The page Agents: what language models decided on candles and why, what it made, and grids of them compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from dash import html
from dash.development.base_component import Component

from trader_pipeline.agents.grid_report import sentences
from trader_pipeline.dashboard import parts
from trader_pipeline.dashboard.agent_views import (
    MOST_MARKS,
    WINDOWS,
    RunFiles,
    actions_figure,
    agent_folders,
    faults_frame,
    grid_progress,
    holds_frame,
    is_grid,
    point_folder,
    read_grid,
    read_run,
    value_figure,
)
from trader_pipeline.dashboard.page import BadChoiceError, Context, Page, State, chosen, href, number

PATH = "/agents"
_SIZE = 25
_COMMAND = "trader-pipeline agents run --klines FOLDER --market BTC_1h --start 2024-01-01 --end 2024-02-01 --out {out}"
_RESETS = ("page", "point", "window", "sort")
_FIGURES = ("sharpe", "accumulated_return", "excess_return", "max_drawdown", "trades", "faults", "cost_usd")
_PERCENT = ("accumulated_return", "max_drawdown", "excess_return")


def layout(state: State, context: Context) -> list[Any]:
    held = agent_folders(context.data_root)
    if not held:
        place = context.data_root / "agents"
        return [
            parts.empty(
                f"No agent has run yet: {place} holds no run and no grid.",
                _COMMAND.format(out=place / "first"),
            )
        ]
    name = chosen(state, "name", list(held))
    pick = parts.controls(parts.choice("name", "Run or grid", list(held), name, resets=_RESETS))
    folder = held[name]
    return [pick, *(_grid(state, folder) if is_grid(folder) else _run(state, folder))]


def _grid(state: State, folder: Path) -> list[Any]:
    """The grid's table and verdict, or one of its points where the URL names it."""
    if "point" in state:
        return _point(state, folder)
    found = read_grid(folder)
    if found is None:
        done, total = grid_progress(folder)
        words = f"This grid is not finished: {done} of {total} runs are. The same command goes on with it."
        return [parts.empty(words, "trader-pipeline agents grid --help")]
    table, report = found
    tried = f"{report['points_finished']} of {report['points']} points were finished."
    return [
        parts.simulated_badge(bool(report.get("simulated"))),
        parts.section("Verdict", *[parts.text(line) for line in sentences(report)], parts.note(_MEANING)),
        parts.section(
            "Points", parts.note(f"{tried} Chosen by {report['chosen_by']}."), _grid_table(state, table)
        ),
    ]


_MEANING = (
    "The best of many tries looks good by chance: the deflated Sharpe ratio takes their number into account, and the"
    " test window took no part in the choice. An interval that holds 0 is no edge."
)


def _grid_table(state: State, table: pd.DataFrame) -> Component:
    settings = ["point", "prompt", "model", "window_size", "initial_balance"]
    shown = table[[*settings, *(f"{window}_{name}" for name in _FIGURES for window in WINDOWS)]].copy()
    columns = list(shown.columns)
    percent = [name for name in columns if name.endswith(_PERCENT)]
    shown[percent] *= 100
    if "sort" in state:
        sort = chosen(state, "sort", [f"{sign}{name}" for name in columns for sign in ("", "-")])
        shown = shown.sort_values(sort.removeprefix("-"), ascending=not sort.startswith("-"), kind="stable")
    formats = dict.fromkeys([*percent, *(f"{w}_sharpe" for w in WINDOWS)], "+.2f")
    formats |= {f"{w}_cost_usd": ".4f" for w in WINDOWS}
    links = {"point": _link_to(state, "validation"), **{f"{w}_sharpe": _link_to(state, w) for w in WINDOWS}}
    return parts.data_table(
        shown, caption="Every point; its number or a Sharpe ratio leads to the run behind it",
        state=state, path=PATH, titles={name: _title(name) for name in columns}, formats=formats, links=links,
        sortable=columns,
    )  # fmt: skip


def _link_to(state: State, window: str) -> Any:
    def address(row: Any) -> str:
        return (
            ""
            if pd.isna(row[f"{window}_sharpe"])
            else href(PATH, state, point=row["point"], window=window, page=None)
        )

    return address


def _title(name: str) -> str:
    window, _, figure = name.partition("_")
    if window not in WINDOWS:
        return name.replace("_", " ")
    unit = ", %" if name.endswith(_PERCENT) else ""
    names = {
        "sharpe": "Sharpe",
        "accumulated_return": "return",
        "excess_return": "minus HODL",
        "cost_usd": "cost, USD",
    }
    return f"{names.get(figure, figure.replace('_', ' '))}{unit}, {window}"


def _point(state: State, folder: Path) -> list[Any]:
    point, window = number(state, "point", 0, minimum=0), chosen(state, "window", list(WINDOWS))
    place = point_folder(folder, point, window)
    if place is None:
        raise BadChoiceError(f"point {point} is none of this grid's; its table lists them")
    back = parts.link("All points of the grid", href(PATH, {"name": state.get("name", folder.name)}))
    pick = parts.controls(parts.choice("window", f"Point {point} over the window", list(WINDOWS), window))
    return [parts.note(back), pick, *_run(state, place)]


def _run(state: State, folder: Path) -> list[Any]:
    run = read_run(folder)
    if run is None:
        words = "This run is not finished: its summary is written last. The same command goes on from the kept answers."
        return [parts.empty(words, "trader-pipeline agents run --help")]
    return [
        parts.simulated_badge(bool(run.summary["simulated"])),
        parts.text(_about(run)),
        _tiles(run),
        parts.section("Decisions on the candles", _actions(run)),
        parts.section("Against holding the coins", _value(run)),
        parts.section("Questions and answers", *_answers(run)),
        parts.section("Every decision", _decisions(state, run)),
    ]


def _about(run: RunFiles) -> str:
    own, told = run.summary, run.summary["params"]
    return (
        f"{told['model']} with the prompt {told['prompt']}, shown at most {told['window_size']} candles of"
        f" {own['market']}, from {own['start'][:16].replace('T', ' ')} to {own['end'][:16].replace('T', ' ')} UTC,"
        f" {told['initial_balance']:,.0f} USD at the start. It decides at the close of each candle; orders fill at"
        " the next open."
    )


def _tiles(run: RunFiles) -> Component:
    m, cost = run.summary["metrics"], run.summary["cost"]
    price = "–" if cost["cost_usd"] is None else f"{cost['cost_usd']:.4f} USD"
    unknown = "price not known; " if cost["cost_usd"] is None else ""
    tokens = cost["prompt_tokens"] + cost["completion_tokens"]
    return parts.tiles(
        [
            (
                "Return",
                f"{100 * m['accumulated_return']:+.2f} %",
                f"HODL {100 * m['hodl_accumulated_return']:+.2f} %",
            ),
            ("Minus HODL", f"{100 * m['excess_return']:+.2f} %", "of the start"),
            ("Sharpe ratio", f"{m['sharpe']:.2f}", f"HODL {m['hodl_sharpe']:.2f}"),
            (
                "Largest fall",
                f"{100 * m['max_drawdown']:.1f} %",
                f"HODL {100 * m['hodl_max_drawdown']:.1f} %",
            ),
            ("Trades", f"{m['trades']:,}", f"{m['clipped']:,} clipped, fees {m['fees_usd']:,.2f} USD"),
            ("Faults", f"{sum(run.summary['faults'].values()):,}", f"of {cost['decisions']:,} decisions"),
            ("Cost", price, f"{unknown}{tokens:,} tokens, {cost['cached']:,} answers from the cache"),
        ]
    )


def _actions(run: RunFiles) -> Component:
    counts = run.decisions["action"].value_counts()
    said = ", ".join(f"{counts.get(name, 0):,} {name}" for name in ("buy", "sell", "hold"))
    thin = f" Of each kind at most {MOST_MARKS:,} are drawn." if len(run.decisions) > MOST_MARKS else ""
    described = (
        f"{len(run.decisions):,} decisions: {said}. Triangles up are buys, down are sells, at the price of their fill;"
        f" circles traded nothing, crosses had no answer. The reasoning shows on hover, and in the table below.{thin}"
    )
    return parts.figure(actions_figure(run), title="Actions", described=described, height=460)


def _value(run: RunFiles) -> Component:
    m = run.summary["metrics"]
    verdict = "ahead of" if m["excess_return"] > 0 else "behind" if m["excess_return"] < 0 else "level with"
    described = (
        f"The agent ended {verdict} holding by {100 * abs(m['excess_return']):.2f} % of the start. HODL spends all cash"
        " at the first open, with its fee. One run says nothing of chance: a grid with a test window does."
    )
    return parts.figure(value_figure(run), title="Value of the book", described=described, height=340)


def _answers(run: RunFiles) -> list[Component]:
    return [
        parts.note(
            "A question without an answer counts as hold. A hold may also be meant, or have nothing to trade."
        ),
        parts.data_table(faults_frame(run.summary), caption="Faults by kind"),
        parts.data_table(holds_frame(run.summary), caption="Holds by reason"),
    ]


def _decisions(state: State, run: RunFiles) -> Component:
    columns = [
        "decision_time", "action", "amount_asked", "amount_filled", "order", "fill_price", "fault", "attempts",
        "reasoning",
    ]  # fmt: skip
    sort = chosen(state, "sort", ["decision_time", "-decision_time"], "decision_time")
    ordered = run.decisions.sort_values("decision_time", ascending=sort[0] != "-", kind="stable")
    pages = parts.page_count(len(ordered), _SIZE)
    page = number(state, "page", 1, maximum=pages)
    table = parts.data_table(
        ordered[columns].iloc[_SIZE * (page - 1) : _SIZE * page],
        caption=f"{len(ordered):,} decisions; amounts are USD of a buy and coins of a sell",
        state=state, path=PATH, page=page, pages=pages, sortable=["decision_time"],
        titles={name: name.replace("_", " ") for name in columns},
    )  # fmt: skip
    return html.Div(table, className="wrapping")


PAGE = Page(PATH, "Agents", layout, summary="what language models decided on candles, and what it made")
