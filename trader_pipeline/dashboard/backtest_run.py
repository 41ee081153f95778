"""What the page Backtests shows of its processes: a run's progress or end, what else runs, training files, the list.

Belongs here: from a state of `backtest_jobs` to parts, read anew at every view. Does not belong here: what a finished
run found (`backtest_result`), the form and the callbacks (`pages.backtests`).
"""

from __future__ import annotations

import logging
from typing import Any

import pandas as pd
from dash import dcc, html

from trader_pipeline import __version__
from trader_pipeline.dashboard import backtest_form as forms
from trader_pipeline.dashboard import backtest_views as views
from trader_pipeline.dashboard import parts
from trader_pipeline.dashboard.backtest_jobs import (
    BacktestJob,
    BacktestJobs,
    Entry,
    Task,
    UnreadableError,
    read_job,
)
from trader_pipeline.dashboard.backtest_result import PATH, show_result
from trader_pipeline.dashboard.page import BadChoiceError, Context, State, href
from trader_pipeline.schema.columns import EXIT_STYLES

LIVE: dict[str, Any] = {"aria-live": "polite"}
"""Read out when it changes."""
_POLL_MS = 500
_WORDS: dict[Task, str] = {"backtest": "The backtest", "exports": "Writing the training files"}
_LOG = logging.getLogger(__name__)


def show_run(state: State, context: Context, jobs: BacktestJobs) -> list[Any]:
    """The run that the address names: its progress, why it ended, or what it found; nothing where it names none."""
    key = state.get("run", "")
    if not key:
        return []
    try:
        standing = jobs.state(key).standing
    except ValueError as error:
        raise BadChoiceError(str(error)) from error
    if standing == "done":
        return _result(state, context, jobs, key)
    if standing == "absent":
        words = f"There is no backtest {key} in this data folder. Choose above and run it."
        return [parts.section("Result", parts.empty(words))]
    return [parts.section("Result", *_progress(jobs, key, "backtest"))]


def _result(state: State, context: Context, jobs: BacktestJobs, key: str) -> list[Any]:
    """A finished run; what cannot be read of it is a sentence, and the form above it stands."""
    folder = jobs.folder(key)
    try:
        result = views.open_result(folder)
        files = html.Div(show_exports(jobs, result), id="exports-view")
        shown = [*show_result(state, context, result), parts.section("Training files", files)]
    except BadChoiceError:
        raise
    except UnreadableError as error:
        return [parts.section("Result", parts.problem(error))]
    except Exception as error:  # noqa: BLE001 - a file of the result is gone or broken, in whatever way
        _LOG.exception("the backtest in %s cannot be shown", folder)
        words = f"{type(error).__name__}: {error}. Delete the folder {folder} and run the backtest again."
        return [parts.section("Result", parts.problem(words))]
    return [parts.simulated_badge(result.job.simulated), *_older(result.job), *shown]


def _older(job: BacktestJob) -> list[Any]:
    """A remark on a result that another version of the code made."""
    if job.version == __version__:
        return []
    made = f"by version {job.version}" if job.version else "before versions were kept"
    return [
        parts.note(f"This result was made {made}; this is version {__version__}. Run it again to compare.")
    ]


def show_running(state: State, jobs: BacktestJobs) -> list[Any]:
    """What runs in this data folder, where it is not what the address shows."""
    running = jobs.running()
    if running is None or running[0] == state.get("run"):
        return []
    key, task = running
    words = "It runs by itself: another backtest can be started once it is done."
    entry = next((e for e in jobs.finished() if e.key == key), None) or _beginning(jobs, key)
    where = parts.link(entry.job.description if entry.job else key, _address(entry))
    progress = _progress(jobs, key, task, poll="now-poll")
    return [parts.section("Running now", html.P([f"{_WORDS[task]}: ", where]), *progress, parts.note(words))]


def _beginning(jobs: BacktestJobs, key: str) -> Entry:
    try:
        return Entry(key, read_job(jobs.working(key, "backtest")))
    except UnreadableError as error:
        return Entry(key, None, str(error))


def _progress(jobs: BacktestJobs, key: str, task: Task, *, poll: str = "") -> list[Any]:
    """A bar while the process runs, asked for again twice a second; else the sentence it left."""
    state = jobs.state(key, task)
    if state.standing == "running" or (poll and state.standing == "done"):
        name: dict[str, Any] = {"aria-label": f"{_WORDS[task]}: share done"}
        bar = html.Progress(value=f"{state.share:.3f}", max="1", **name)
        return [
            html.P([bar, f" {state.share:.0%}, {state.text or 'done'}"]),
            dcc.Interval(id=poll or f"{task}-poll", interval=_POLL_MS),
        ]
    if state.standing == "refused":
        return [parts.problem(state.text)]
    if state.standing in ("failed", "dead"):
        return [parts.problem(f"{_WORDS[task]} ended before it was done. {state.text}")]
    return []


def show_exports(jobs: BacktestJobs, result: views.Result) -> list[Any]:
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
        parts.note("Chain level as CSV and JSONL, candidate level as CSV. Nothing is overwritten."),
    ]


def show_finished(jobs: BacktestJobs, shown: str) -> Any:
    """Every result in the data folder; a link has the form in which it was asked for."""
    finished = jobs.finished()
    if not finished:
        return parts.empty("None yet. Choose above and press “Run the backtest”.")
    return html.Ul([html.Li(_line(entry, shown)) for entry in finished])


def _line(entry: Entry, shown: str) -> Any:
    if entry.job is None:
        return [f"{entry.key}: ", html.Span(entry.problem, className="error")]
    older = "" if entry.job.version == __version__ else f", by version {entry.job.version or 'unknown'}"
    return parts.link(
        f"{entry.job.description}{older}", f"{_address(entry)}#result", current=entry.key == shown
    )


def _address(entry: Entry) -> str:
    return href(PATH, {**(_values_of(entry.job) if entry.job else {}), "run": entry.key})


def _values_of(job: BacktestJob) -> dict[str, str]:
    """The form in which a job was asked for, so that its address shows the same choices."""
    underlying, timeframe = job.market.split("_")
    edges = {n: f"{pd.Timestamp(m):%Y-%m-%dT%H:%M}" for n, m in (("start", job.start), ("end", job.end))}
    numbers = {name: f"{getattr(job.backtest, setting):g}" for name, setting in forms.NUMBERS.items()}
    style = forms.BOTH if len(job.exit_styles) > 1 else job.exit_styles[0]
    return {
        "underlying": underlying, "timeframe": timeframe, "window": forms.DATES, "exit": style, **edges, **numbers
    }  # fmt: skip
