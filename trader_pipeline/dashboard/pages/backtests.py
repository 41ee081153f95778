"""The page Backtests: its form, a run and its progress, what was finished; a result itself is `backtest_result`'s."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd
from dash import Dash, Input, Output, dcc, html, no_update
from dash import State as Held

from trader_pipeline.dashboard import backtest_form as forms
from trader_pipeline.dashboard import backtest_views as views
from trader_pipeline.dashboard import parts
from trader_pipeline.dashboard.backtest_jobs import (
    BacktestJob,
    BacktestJobs,
    BusyError,
    Task,
    jobs_of,
    read_job,
)
from trader_pipeline.dashboard.backtest_result import PATH, show_result
from trader_pipeline.dashboard.page import (
    BadChoiceError,
    Context,
    Page,
    State,
    href,
    read_state,
)
from trader_pipeline.schema.columns import EXIT_STYLES
from trader_pipeline.schema.tables import KLINES

_POLL_MS = 500
_LIVE: dict[str, Any] = {"aria-live": "polite"}
"""Read out when it changes."""
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
    store, jobs = context.tables.store, jobs_of(context.data_root)
    if not forms.held_underlyings(store, context.profile):
        command = f"trader-pipeline run --profile {context.profile.name}"
        return [parts.empty("There are no candles in this data folder to run a backtest on.", command)]
    form = forms.read_form(forms.fill_form(state, store, context.profile), store, context.profile)
    simulated = any(m.simulated for m in context.tables.manifests(KLINES).values())
    shown = [html.Div(_run(state, context, jobs), id="backtest-view")] if "run" in state else []
    return [
        parts.simulated_badge(simulated),
        parts.section("Run a backtest", *_form(form, context)),
        *shown,
        parts.section(
            "Finished backtests", html.Div(_finished(jobs, state.get("run", "")), id="backtest-finished")
        ),
    ]


def _form(form: forms.Form, context: Context) -> Iterator[Any]:
    values, store = form.values, context.tables.store
    windows = [(name, name.replace("_", " ")) for name in forms.closed_windows(store)["regime"]]
    own_dates = values["window"] == forms.DATES
    texts = ({"start": "From (UTC)", "end": "Until, exclusive (UTC)"} if own_dates else {}) | _LABELS
    yield parts.controls(
        _pick(form, "underlying", "Underlying", forms.held_underlyings(store, context.profile)),
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
    yield html.P(parts.button("Run the backtest", "backtest-run", disabled=form.job is None))
    yield html.Div(id="backtest-message", **_LIVE)
    yield parts.note(
        "Every decision by itself, and one book in sequence, by the rule-based teacher. Same inputs, same result."
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


def _finished(jobs: BacktestJobs, shown: str) -> Any:
    """Every result in the data folder; a link has the form in which it was asked for."""
    finished = jobs.finished()
    if not finished:
        return parts.empty("None yet. Choose above and press “Run the backtest”.")
    links = (
        parts.link(job.description, href(PATH, {**_values_of(job), "run": key}), current=key == shown)
        for key, job in finished
    )
    return html.Ul([html.Li(entry) for entry in links])


def _values_of(job: BacktestJob) -> dict[str, str]:
    """The form in which a job was asked for, so that its address shows the same choices."""
    underlying, timeframe = job.market.split("_")
    edges = {n: f"{pd.Timestamp(m):%Y-%m-%dT%H:%M}" for n, m in (("start", job.start), ("end", job.end))}
    numbers = {name: f"{getattr(job.backtest, setting):g}" for name, setting in forms.NUMBERS.items()}
    style = forms.BOTH if len(job.exit_styles) > 1 else job.exit_styles[0]
    return {
        "underlying": underlying, "timeframe": timeframe, "window": forms.DATES, "exit": style, **edges, **numbers
    }  # fmt: skip


def _run(state: State, context: Context, jobs: BacktestJobs) -> list[Any]:
    """The run that the address names: its progress, why it ended, or what it found."""
    key = state["run"]
    try:
        standing = jobs.state(key)
    except ValueError as error:
        raise BadChoiceError(str(error)) from error
    if standing.standing == "done":
        result = views.open_result(jobs.folder(key))
        files = html.Div(_exports(jobs, result), id="exports-view")
        return [*show_result(state, context, result), parts.section("Training files", files)]
    if standing.standing == "absent":
        words = f"There is no backtest {key} in this data folder. Choose above and run it."
        return [parts.section("Result", parts.empty(words))]
    return [parts.section("Result", *_progress(jobs, key, "backtest"))]


def _progress(jobs: BacktestJobs, key: str, task: Task) -> list[Any]:
    """A bar while the process runs, asked for again twice a second; else the sentence it left."""
    state, what = (
        jobs.state(key, task),
        "The backtest" if task == "backtest" else "Writing the training files",
    )
    if state.standing == "running":
        name: dict[str, Any] = {"aria-label": f"{what}: share done"}
        bar = html.Progress(value=f"{state.share:.3f}", max="1", **name)
        return [
            html.P([bar, f" {state.share:.0%}, {state.text}"]),
            dcc.Interval(id=f"{task}-poll", interval=_POLL_MS),
        ]
    if state.standing in ("failed", "dead"):
        return [parts.problem(f"{what} ended before it was done. {state.text}")]
    return []


def _exports(jobs: BacktestJobs, result: views.Result) -> list[Any]:
    """The files that were written, the bar of those being written, or the button."""
    if result.exports:
        rows = [html.Li(html.Code(str(path))) for path in result.exports]
        return [parts.text("Written, each with its manifest beside it:"), html.Ul(rows)]
    if len(result.job.exit_styles) < len(EXIT_STYLES):
        return [parts.note("Training files hold both exit styles: run the backtest with exit style “both”.")]
    progress = _progress(jobs, result.job.key, "exports")
    if any(isinstance(part, dcc.Interval) for part in progress):
        return progress
    return [
        *progress,
        html.P(parts.button("Write the training files", "exports-run")),
        html.Div(id="exports-message", **_LIVE),
        parts.note("Chain level as CSV and JSONL, candidate level as CSV. Nothing is overwritten."),
    ]


def register(app: Dash, context: Context) -> None:
    """Starting a run and watching it: what a URL cannot hold."""
    jobs = jobs_of(context.data_root)

    @app.callback(
        Output("url", "search", allow_duplicate=True), Output("backtest-message", "children"),
        Input("backtest-run", "n_clicks"), Held("url", "search"), prevent_initial_call=True,
    )  # fmt: skip
    def start(clicks: int | None, search: str | None) -> tuple[Any, Any]:
        if not clicks:
            return no_update, no_update
        state, store = read_state(search), context.tables.store
        form = forms.read_form(forms.fill_form(state, store, context.profile), store, context.profile)
        if form.job is None:
            return no_update, parts.problem(" ".join(form.errors.values()))
        try:
            key = jobs.start(form.job)
        except BusyError as error:
            return no_update, parts.problem(error)
        kept = {name: value for name, value in state.items() if name not in _OF_RESULT}
        return href("", kept, run=key), ""

    @app.callback(
        Output("backtest-view", "children"),
        Output("backtest-finished", "children"),
        Input("backtest-poll", "n_intervals"),
        Held("url", "search"),
        prevent_initial_call=True,
    )  # fmt: skip
    def watch(_: int | None, search: str | None) -> tuple[Any, Any]:
        state = read_state(search)
        if "run" not in state:
            return no_update, no_update
        return _run(state, context, jobs), _finished(jobs, state["run"])

    @app.callback(
        Output("exports-view", "children"), Input("exports-run", "n_clicks"), Held("url", "search"),
        prevent_initial_call=True,
    )  # fmt: skip
    def export(clicks: int | None, search: str | None) -> Any:
        if not clicks:
            return no_update
        folder = jobs.folder(read_state(search)["run"])
        try:
            jobs.start(read_job(folder), "exports")
        except BusyError as error:
            return [parts.problem(error), *_exports(jobs, views.open_result(folder))]
        return _exports(jobs, views.open_result(folder))

    @app.callback(
        Output("exports-view", "children", allow_duplicate=True), Input("exports-poll", "n_intervals"),
        Held("url", "search"), prevent_initial_call=True,
    )  # fmt: skip
    def watch_exports(_: int | None, search: str | None) -> Any:
        return _exports(jobs, views.open_result(jobs.folder(read_state(search)["run"])))


PAGE = Page(PATH, "Backtests", layout, register, summary="run one, and see every decision it made")
