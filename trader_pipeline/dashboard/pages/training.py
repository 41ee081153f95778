"""The page Training: loss curves, settings and speed, MLflow's runs, and what was forgotten."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
from dash import Dash, html
from dash.development.base_component import Component

from trader_pipeline.dashboard import parts
from trader_pipeline.dashboard.deferred import fill_later, later, shown_or_problem
from trader_pipeline.dashboard.hints import run_command
from trader_pipeline.dashboard.page import BadChoiceError, Context, Page, State, href
from trader_pipeline.dashboard.training_views import (
    TrainingRun,
    forgetting_figure,
    latest_runs,
    loss_figure,
    rate_figure,
    run_losses,
    runs_frame,
)
from trader_pipeline.evaluation.forgetting import forgetting_sentences, within_budget
from trader_pipeline.schema.tables import FORGETTING, TRAINING_LOG
from trader_pipeline.training.tracking_address import TrackingError

PATH = "/training"
_MANIFEST = "adapter_manifest.json"
_MOST_STEPS = 100_000


def layout(state: State, context: Context) -> list[Any]:
    manifests = [m for table in (TRAINING_LOG, FORGETTING) for m in context.tables.manifests(table).values()]
    return [
        parts.simulated_badge(any(m.simulated for m in manifests)),
        shown_or_problem("adapter", lambda _: html.Div(_adapter(context)), state, context),
        shown_or_problem("forgetting", lambda _: html.Div(_forgetting(context)), state, context),
        later("training-runs", state, words="Asking MLflow for its runs."),
    ]


def _adapter(context: Context) -> list[Component]:
    if not context.tables.exists(TRAINING_LOG):
        command = run_command(context)
        return [parts.empty("No adapter has been trained in this data folder.", command)]
    log = context.tables.page(TRAINING_LOG, limit=_MOST_STEPS)
    chart = parts.figure(
        loss_figure(log),
        title="Loss",
        described=f"Loss of the answer tokens alone, in nats per token. {_ends(log)}",
    )
    more = html.Details([html.Summary("Learning rate"), _rate_chart(log)])
    return [parts.section("The adapter of this data folder", *_facts(context), chart, more)]


def _rate_chart(log: pd.DataFrame) -> Component:
    described = "Learning rate at each optimiser step: warm-up, then the schedule of the settings."
    return parts.figure(rate_figure(log), title="Learning rate", described=described, height=260)


def _ends(log: pd.DataFrame) -> str:
    """First, best and last loss of each split, in a sentence."""
    words = []
    for split, name in (("train", "Training"), ("val", "Validation")):
        own = log[log["split"] == split].sort_values("step")["loss"]
        if len(own):
            words.append(
                f"{name}: {own.iloc[0]:.4f} at first, {own.min():.4f} at best, {own.iloc[-1]:.4f} at last."
            )
    return " ".join(words)


def _facts(context: Context) -> list[Component]:
    """Tiles and settings from the adapter's own manifest, where it is."""
    path = context.data_root / "training" / "lora_adapter" / _MANIFEST
    if not path.is_file():
        return [parts.note(f"The adapter itself is not here: there is no {path}.")]
    try:
        return _facts_of(json.loads(path.read_text()))
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        words = f"{path} cannot be read as an adapter's manifest ({type(error).__name__}: {error})."
        return [parts.problem(f"{words} Delete its folder and train again.")]


def _facts_of(known: dict[str, Any]) -> list[Component]:
    tiles = [
        (
            "Base model",
            str(known["model"]["model_name"]),
            f"weights in {known.get('dtype', 'unknown precision')}",
        ),
        ("Steps", f"{known['steps']:,}", f"kept: step {known['best_step']:,}"),
        ("Validation loss", f"{known['val_loss']:.4f}", f"before: {known['val_loss_before']:.4f}"),
        ("Corpus", str(known["corpus_hash"])[:8], "begin of its content hash"),
    ]
    settings = pd.DataFrame(
        [(name, _plain(value)) for name, value in {**known["model"], **known["params"]}.items()],
        columns=["setting", "value"],
    )
    table = parts.data_table(settings, caption="Settings that the adapter was trained with")
    return [parts.tiles(tiles), html.Details([html.Summary("Settings"), table])]


def _plain(value: Any) -> str:
    return "–" if value is None else str(value)


def _forgetting(context: Context) -> list[Component]:
    if not context.tables.exists(FORGETTING):
        command = run_command(context)
        return [
            parts.section("Forgetting", parts.empty("What the model forgot has not been measured.", command))
        ]
    rows = context.tables.page(FORGETTING)
    compared = rows[rows["loss_change_pct"].notna()]
    ends = zip(rows["change_low_pct"], rows["change_high_pct"], strict=True)
    shown = rows[["model", "step", "instructions", "loss", "loss_change_pct"]].assign(
        interval=["–" if pd.isna(low) else f"{low:+.2f} .. {high:+.2f}" for low, high in ends],
        exact_share=100 * rows["exact_share"],
        budget_pct=rows["budget_pct"],
        verdict=within_budget(rows)
        .map({True: "within", False: "OVER"})
        .where(rows["loss_change_pct"].notna(), "–"),
    )
    formats = {"loss": ".4f", "exact_share": ".1f", "loss_change_pct": "+.2f"}
    titles = {"loss_change_pct": "change, %", "interval": "interval, %", "loss": "loss, nats per token"}
    titles |= {"exact_share": "exact answers, %", "budget_pct": "budget, %", "step": "steps"}
    table = parts.data_table(
        shown, caption="Loss on general instructions that no training read", titles=titles, formats=formats
    )
    charts = [_forgetting_chart(compared)] if len(compared) else []
    sentences = [parts.text(f"{line[0].upper()}{line[1:]}.") for line in forgetting_sentences(rows)]
    return [parts.section("Forgetting", *sentences, *charts, table)]


def _forgetting_chart(compared: pd.DataFrame) -> Component:
    return parts.figure(
        forgetting_figure(compared),
        title="Change of the loss",
        described="Change against the base model with its bootstrap interval. Right of the broken line: over budget.",
        height=150 + 50 * len(compared),
    )


def _runs(state: State, context: Context) -> Any:
    """The runs of the experiment and the losses of one of them; what keeps MLflow from answering, as a sentence."""
    experiment = state.get("experiment") or f"trader-pipeline-{context.profile.name}"
    try:
        runs = latest_runs(context.tracking_uri, experiment)
        field = parts.text_field("experiment", "MLflow experiment", experiment, resets=("run", "against"))
        if not runs:
            known = f"MLflow knows no run of the experiment {experiment}."
            return parts.section(
                "Runs in MLflow", parts.controls(field), parts.empty(known, run_command(context))
            )
        run, against = _chosen_run(state, "run", runs) or runs[0], _chosen_run(state, "against", runs)
        return parts.section("Runs in MLflow", *_run_parts(state, context, runs, run, against, field))
    except TrackingError as error:
        return parts.section("Runs in MLflow", parts.empty(f"{str(error)[0].upper()}{str(error)[1:]}."))
    except BadChoiceError as error:
        back = html.P(parts.link("Show the newest run", href(PATH)))
        return parts.section("Runs in MLflow", parts.problem(error), back)


def _chosen_run(state: State, name: str, runs: list[TrainingRun]) -> TrainingRun | None:
    wanted = state.get(name)
    if not wanted:
        return None
    found = [run for run in runs if run.run_id.startswith(wanted)]
    if not found:
        known = ", ".join(run.run_id[:8] for run in runs[:5])
        raise BadChoiceError(
            f"{name} {wanted!r} is none of the newest {len(runs)} runs; choose one of {known}"
        )
    return found[0]


def _run_parts(
    state: State,
    context: Context,
    runs: list[TrainingRun],
    run: TrainingRun,
    against: TrainingRun | None,
    field: Component,
) -> list[Any]:
    frame = runs_frame(runs)
    links = {"run": lambda row: href(PATH, state, run=row["id"]) + "#runs-in-mlflow"}
    options = [(r.run_id[:8], f"{r.name} {r.run_id[:8]}") for r in runs]
    others = [("", "none"), *(o for o in options if o[0] != run.run_id[:8])]
    second = parts.choice("against", "Beside", others, against.run_id[:8] if against else "", resets=())
    losses = run_losses(context.tracking_uri, run.run_id)
    other = run_losses(context.tracking_uri, against.run_id) if against else None
    return [
        parts.controls(
            field, parts.choice("run", "Run", options, run.run_id[:8], resets=("against",)), second
        ),
        html.P(_links(run, context)),
        _run_chart(run, losses, other, against),
        html.Details([html.Summary("Settings of this run"), _params_table(run)]),
        parts.data_table(frame, caption=f"The newest runs: {len(frame)}", links=links),
    ]


def _run_chart(
    run: TrainingRun, losses: pd.DataFrame, other: pd.DataFrame | None, against: TrainingRun | None
) -> Component:
    if losses.empty:
        return parts.empty(f"Run {run.name} has logged no loss: its state is {run.status}.")
    speed = run.metrics.get("mean_tokens_per_second", run.metrics.get("tokens_per_second"))
    words = f"Run {run.name} ({run.status}). {_ends(losses)}"
    if speed is not None:
        words += f" {speed:,.0f} tokens per second."
    name = "" if against is None else f"{against.name} {against.run_id[:8]}"
    return parts.figure(
        loss_figure(losses, other, other=name), title=f"Losses of {run.name}", described=words
    )


def _params_table(run: TrainingRun) -> Component:
    frame = pd.DataFrame(sorted(run.params.items()), columns=["setting", "value"])
    return parts.data_table(frame, caption=f"Settings of {run.name}, as MLflow has them")


def _links(run: TrainingRun, context: Context) -> list[Any]:
    found: list[Any] = [parts.link("This run in MLflow", f"{context.mlflow_ui}{run.page}")]
    if run_id := run.tags.get("dagster/run_id"):
        found += [" · ", parts.link("The Dagster run behind it", f"{context.dagster_ui}/runs/{run_id}")]
    return [*found, " · both open once ", html.Code("trader-pipeline ui"), " runs."]


def register(app: Dash, context: Context) -> None:
    fill_later(app, "training-runs", lambda state: _runs(state, context), context)


PAGE = Page(
    PATH, "Training", layout, register, summary="loss curves, settings, runs in MLflow, what was forgotten"
)
