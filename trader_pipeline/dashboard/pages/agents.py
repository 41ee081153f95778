"""The page Agents: what language models decided on candles and why, what it made, and grids of them compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from dash import html
from dash.development.base_component import Component

from trader_pipeline.agents.grid_report import sentences
from trader_pipeline.dashboard import parts
from trader_pipeline.dashboard.agent_grid import grid_table, same_settings
from trader_pipeline.dashboard.agent_overview import (
    FORMATS,
    SIMULATED,
    candles_word,
    default_name,
    finished_inside,
    is_worked_on,
    overview,
    span_words,
    state_words,
)
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
from trader_pipeline.dashboard.hints import agent_command, grid_command, run_command
from trader_pipeline.dashboard.page import BadChoiceError, Context, Page, State, chosen, href, number
from trader_pipeline.dashboard.sections import guarded_parts

PATH = "/agents"
_SIZE = 25
_FEW_DAYS = 30
_RESETS = ("page", "point", "window", "sort")


def layout(state: State, context: Context) -> list[Any]:
    """All runs and grids first, then one of them: the one that the URL names, else the newest that is finished."""
    held = agent_folders(context.data_root)
    if not held:
        return _nothing_yet(context)
    name = chosen(state, "name", list(held), default_name(held))
    pick = parts.controls(parts.choice("name", "Run or grid", list(held), name, resets=_RESETS))
    folder = held[name]
    state = {**state, "name": name}  # what is linked from here stays what it is when another one finishes
    shown = _guarded(_grid if is_grid(folder) else _run, state, folder)
    if "point" in state:
        return [pick, *shown]
    return [_overview(held), html.H2(name, id="chosen"), pick, *shown]


def _guarded(show: Callable[[State, Path], list[Any]], state: State, folder: Path) -> list[Any]:
    """A run or grid; of damaged files the sentence and their folder, so that all others can still be chosen."""
    shown = guarded_parts(str(folder), lambda: show(state, folder))
    if shown and getattr(shown[0], "className", "") == "problem":
        shown.append(parts.note(f"Its files in {folder} are damaged or of an older version: make it anew."))
    return shown


def _nothing_yet(context: Context) -> list[Any]:
    words = f"No agent has run yet: {context.data_root / 'agents'} holds no run and no grid."
    one, many = agent_command(context), grid_command(context)
    if one is None or many is None:
        then = "Nor are there candles for one; once they are made, trader-pipeline agents run starts it."
        return [parts.empty(f"{words} {then}", run_command(context))]
    slow = parts.note(
        "The model on this machine takes 3 to 10 seconds a decision. To compare prompts, which takes some minutes:"
    )
    return [parts.empty(words, one), slow, html.Pre(html.Code(many))]


def _overview(held: dict[str, Path]) -> Component:
    table = parts.data_table(
        overview(held), caption="Every run and grid; of a grid its best agent over the test window", formats=FORMATS,
        links={"name": lambda row: href(PATH, {"name": row["name"]}) + "#chosen"},
    )  # fmt: skip
    return parts.section("Runs and grids", table)


def _grid(state: State, folder: Path) -> list[Any]:
    """The grid's table and verdict, or one of its points where the URL names it."""
    if "point" in state:
        return _point(state, folder)
    found = read_grid(folder)
    if found is None:
        return _unfinished(state, folder)
    table, report = found
    simulated = (
        bool(report["simulated"]) if "simulated" in report else _any_simulated(finished_inside(folder))
    )
    tried = f"{report['points_finished']} of {report['points']} points were finished. Chosen by {report['chosen_by']}."
    same = "; ".join(
        f"{name.replace('_', ' ')} {parts.shown_value(value)}" for name, value in same_settings(table).items()
    )
    return [
        parts.simulated_badge(simulated, "of this grid"),
        parts.section("Verdict", *[parts.text(line) for line in sentences(report)], parts.note(_MEANING)),
        parts.section(
            "Points", parts.note(f"{tried}{f' The same in all: {same}.' if same else ''}"), parts.note(_YEARLY),
            grid_table(state, table, PATH),
        ),
    ]  # fmt: skip


def _unfinished(state: State, folder: Path) -> list[Any]:
    """How far a grid is, who works on it, and the runs of it that are there."""
    done, total = grid_progress(folder)
    doing = (
        "It is being worked on: load this page again to see how far it is."
        if is_worked_on(folder)
        else "Nobody works on it: give the command that began it again, and it goes on from here."
    )
    words = f"This grid is not finished: {done} of {total} runs are. {doing}"
    runs = finished_inside(folder)
    if runs.empty:
        return [parts.empty(words)]
    links = {
        "point": lambda row: (
            href(PATH, {"name": state["name"]}, point=row["point"], window=row["over"]) + "#content"
        )
    }
    caption = "Runs that are finished; none is the best before all are"
    return [
        parts.simulated_badge(_any_simulated(runs), "of this grid"),
        parts.empty(words),
        parts.section("Finished runs", parts.data_table(runs, caption=caption, formats=FORMATS, links=links)),
    ]


def _any_simulated(runs: pd.DataFrame) -> bool:
    return "candles" in runs and bool(runs["candles"].eq(SIMULATED).any())


_MEANING = (
    "The best of many tries looks good by chance: the deflated Sharpe ratio takes their number into account, and the"
    " test window took no part in the choice. An interval that holds 0 is no edge."
)


_YEARLY = "Sharpe ratios are a year's, so of a few days they mean little."


def _point(state: State, folder: Path) -> list[Any]:
    point, window = number(state, "point", 0, minimum=0), chosen(state, "window", list(WINDOWS))
    place = point_folder(folder, point, window)
    if place is None:
        raise BadChoiceError(f"point {point} is none of this grid's; its table lists them")
    back = parts.link("All points of the grid", href(PATH, {"name": state.get("name", folder.name)}))
    pick = parts.controls(parts.choice("window", f"Point {point} over the window", list(WINDOWS), window))
    return [parts.note(back), pick, *_guarded(_run, state, place)]


def _run(state: State, folder: Path) -> list[Any]:
    run = read_run(folder)
    if run is None:
        words = (
            f"This run is {state_words(folder)}: its summary is written last. Where it was stopped, give the command"
            " that began it again: it goes on from the kept answers."
        )
        return [parts.empty(words)]
    return [
        parts.simulated_badge(bool(run.summary.get("simulated")), "of this run"),
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
        f"{told['model']} with the prompt {told['prompt']}, shown at most {told['window_size']} candles, from"
        f" {span_words(own['start'], own['end'])} UTC, {told['initial_balance']:,.0f} USD at the start. It decides at"
        f" the close of each candle; orders fill at the next open. {_origin(own)}"
    )


def _origin(own: Mapping[str, Any]) -> str:
    hashed = own.get("candles_sha256")  # runs of older versions have none
    told = f"; SHA-256 of those of the window {hashed[:16]}" if hashed else ""
    return f"On {candles_word(own)} candles of {own['market']}{told}."


def _days_told(own: Mapping[str, Any]) -> str:
    """Of how long a window a yearly figure is, with a warning where that is short."""
    days = (pd.Timestamp(own["end"]) - pd.Timestamp(own["start"])) / pd.Timedelta(days=1)
    return f"; of {days:g} {'day' if days == 1 else 'days'} it means little" if days < _FEW_DAYS else ""


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
            (
                "Sharpe ratio a year",
                f"{m['sharpe']:.2f}",
                f"HODL {m['hodl_sharpe']:.2f}{_days_told(run.summary)}",
            ),
            (
                "Largest fall",
                f"{100 * abs(m['max_drawdown']):.1f} %",
                f"HODL {100 * abs(m['hodl_max_drawdown']):.1f} %",
            ),
            ("Trades", f"{m['trades']:,}", f"{m['clipped']:,} clipped, fees {m['fees_usd']:,.2f} USD"),
            ("Faults", f"{sum(run.summary['faults'].values()):,}", f"of {cost['decisions']:,} decisions"),
            ("Cost", price, f"{unknown}{tokens:,} tokens of all answers"),
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
