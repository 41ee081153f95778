"""The page Backtests: its form, and the callbacks that start and watch; what runs and ran is `backtest_run`'s."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from dash import Dash, Input, Output, dcc, html, no_update
from dash import State as Held

from trader_pipeline.dashboard import backtest_form as forms
from trader_pipeline.dashboard import backtest_run as runs
from trader_pipeline.dashboard import backtest_views as views
from trader_pipeline.dashboard import parts
from trader_pipeline.dashboard.backtest_jobs import BusyError, UnreadableError, jobs_of, read_job
from trader_pipeline.dashboard.backtest_result import PATH
from trader_pipeline.dashboard.damage_views import damage_told
from trader_pipeline.dashboard.hints import run_command
from trader_pipeline.dashboard.page import Context, Page, State, href, read_state
from trader_pipeline.schema.columns import EXIT_STYLES
from trader_pipeline.schema.tables import KLINE_GAPS, KLINES, REGIME_WINDOWS, VOLATILITY_INDEX

_BESIDE = {"maxWidth": "24rem", "alignSelf": "flex-start"}
_OF_RESULT = ("run", "task", "step", "mode", "style", "steps-page", "chains-page")
"""Parameters that speak of the result that is shown: another form drops them."""
_LABELS = {
    "every": "Hours between decisions",
    "threshold": "Sell from score (0-10)",
    "profit": "Take profit (share)",
    "rolls": "Most rolls",
    "costs": "Costs (times)",
}


def layout(state: State, context: Context) -> list[Any]:
    """The form, the run that the address names, and all that were finished."""
    tables, jobs = context.tables, jobs_of(context.data_root)
    damage = damage_told(context, KLINES, KLINE_GAPS, REGIME_WINDOWS, VOLATILITY_INDEX)
    if not forms.held_underlyings(tables, context.profile):
        command = run_command(context)
        return damage or [
            parts.empty("There are no candles in this data folder to run a backtest on.", command)
        ]
    form = forms.read_form(forms.fill_form(state, tables, context.profile), tables, context.profile)
    finished = html.Div(runs.show_finished(jobs, state.get("run", "")), id="backtest-finished")
    return [
        *damage,
        parts.section("Run a backtest", *_form(form, context)),
        html.Div(runs.show_running(state, jobs), id="backtest-now"),
        html.Div(runs.show_run(state, context, jobs), id="backtest-view"),
        parts.section("Finished backtests", finished),
    ]


def _form(form: forms.Form, context: Context) -> Iterator[Any]:
    values, tables = form.values, context.tables
    windows = [(name, name.replace("_", " ")) for name in forms.closed_windows(tables)["regime"]]
    own_dates = values["window"] == forms.DATES
    texts = ({"start": "From (UTC)", "end": "Until, exclusive (UTC)"} if own_dates else {}) | _LABELS
    yield parts.controls(
        _pick(form, "underlying", "Underlying", forms.held_underlyings(tables, context.profile)),
        _pick(form, "timeframe", "Timeframe of decisions", forms.held_timeframes(context.profile)),
        _pick(form, "window", "Window", [*windows, (forms.DATES, "dates of my own")]),
        _pick(form, "exit", "Exit style", [(forms.BOTH, "both"), *EXIT_STYLES]),
        *(
            _with_error(form, n, parts.text_field(n, label, values[n], resets=_OF_RESULT))
            for n, label in texts.items()
        ),
    )
    if not own_dates:
        words = f"{values['start']} until {values['end']} (exclusive). The window is dated in hindsight."
        yield _with_error(form, "start", _with_error(form, "end", parts.note(words)))
    else:
        yield parts.note("Without a date the window is all that the candles allow on that side.")
    yield html.P(parts.button("Run the backtest", "backtest-run"))
    wrong = [] if form.job else [parts.note("Mend what is marked above, then press again.")]
    yield html.Div(wrong, id="backtest-message", **runs.LIVE)
    simulated = any(m.simulated for m in context.tables.manifests(KLINES).values())
    yield parts.note(
        "Every decision by itself, and one book in sequence, by the rule-based teacher. Same inputs, same result."
        f" The candles in this data folder are {'simulated' if simulated else 'real'}."
    )


def _pick(form: forms.Form, name: str, label: str, options: Sequence[parts.Option]) -> Any:
    """A drop-down; a value that is not among its options stays in sight, so that the sentence beside it makes sense."""
    value = form.values[name]
    known = [o if isinstance(o, str) else o[0] for o in options]
    options = options if value in known else [*options, value]
    return _with_error(form, name, parts.choice(name, label, options, value, resets=_OF_RESULT))


def _with_error(form: forms.Form, name: str, entry: Any) -> Any:
    if name not in form.errors:
        return entry
    return html.Div([entry, html.P(form.errors[name], className="error", role="alert")], style=_BESIDE)


def register(app: Dash, context: Context) -> None:
    """Starting a run and watching it: what a URL cannot hold."""
    jobs = jobs_of(context.data_root)

    # Beside the page's own place: what is laid out anew while a start is under way loses the answer to it.
    app.layout.children.append(dcc.Store(id="backtest-press"))

    @app.callback(
        Output("url", "search", allow_duplicate=True),
        Input("backtest-press", "data"),
        prevent_initial_call=True,
    )
    def start(press: dict[str, Any] | None) -> Any:
        """Begin what the pressed form says; the view of its address tells how that went."""
        state, tables = read_state((press or {}).get("search")), context.tables
        form = forms.read_form(forms.fill_form(state, tables, context.profile), tables, context.profile)
        if not press or form.job is None:
            return no_update
        with suppress(BusyError):
            jobs.start_or_say(form.job)
        kept = {name: value for name, value in state.items() if name not in _OF_RESULT}
        return href("", kept, run=form.job.key)

    @app.callback(
        Output("backtest-view", "children"), Output("backtest-finished", "children"),
        Input("backtest-poll", "n_intervals"), Held("url", "search"), prevent_initial_call=True,
    )  # fmt: skip
    def watch(_: int | None, search: str | None) -> tuple[Any, Any]:
        state = read_state(search)
        return runs.show_run(state, context, jobs), runs.show_finished(jobs, state.get("run", ""))

    @app.callback(
        Output("backtest-now", "children"), Output("backtest-finished", "children", allow_duplicate=True),
        Input("now-poll", "n_intervals"), Held("url", "search"), prevent_initial_call=True,
    )  # fmt: skip
    def watch_other(_: int | None, search: str | None) -> tuple[Any, Any]:
        state = read_state(search)
        return runs.show_running(state, jobs), runs.show_finished(jobs, state.get("run", ""))

    @app.callback(
        Output("exports-view", "children"), Input("exports-run", "n_clicks"), Held("url", "search"),
        prevent_initial_call=True,
    )  # fmt: skip
    def export(clicks: int | None, search: str | None) -> Any:
        key = read_state(search).get("run")
        if not clicks or not key:
            return no_update
        try:
            jobs.start_or_say(read_job(jobs.folder(key)), "exports")
        except (BusyError, UnreadableError) as error:
            return [parts.problem(error), *_exports(key)]
        return _exports(key)

    @app.callback(
        Output("exports-view", "children", allow_duplicate=True), Input("exports-poll", "n_intervals"),
        Held("url", "search"), prevent_initial_call=True,
    )  # fmt: skip
    def watch_exports(_: int | None, search: str | None) -> Any:
        key = read_state(search).get("run")
        return _exports(key) if key else no_update

    def _exports(key: str) -> list[Any]:
        try:
            return runs.show_exports(jobs, views.open_result(jobs.folder(key)))
        except UnreadableError as error:
            return [parts.problem(error)]


PAGE = Page(PATH, "Backtests", layout, register, summary="run one, and see every decision it made")
