"""Stage 7: the LoRA adapter, recorded in MLflow, and what training cost the model of its other abilities."""

import shutil
from typing import TYPE_CHECKING, Any

import dagster as dg
import pandas as pd

from trader_pipeline.defs.corpora import read_audit
from trader_pipeline.defs.materialise import markdown_table, materialised, table_asset
from trader_pipeline.defs.plots import forgetting_plot, losses_plot
from trader_pipeline.defs.resources import PipelineResource
from trader_pipeline.schema import Table
from trader_pipeline.schema.tables import FORGETTING, MIXED_CORPUS, TRAINING_LOG

if TYPE_CHECKING:
    from trader_pipeline.evaluation.forgetting import Forgetting
    from trader_pipeline.training.finetune import AdapterResult

ADAPTER = "lora_adapter"
_BUDGET_CHECK = "forgetting_within_budget"
_FIGURES = ("loss", "loss_change_pct", "change_low_pct", "change_high_pct", "exact_share", "budget_pct")


@dg.asset(
    **table_asset(
        TRAINING_LOG,
        name=ADAPTER,
        settings=("model", "finetune"),
        checks=("validation_loss_fell",),
        warnings=(_BUDGET_CHECK,),
    )
    | {
        "description": "The LoRA adapter, trained on mixed_corpus, recorded in MLflow; its table is the loss per step."
    }
)
def lora_adapter(
    context: dg.AssetExecutionContext,
    pipeline: PipelineResource,
    mixed_corpus: pd.DataFrame,
    stable_corpus: pd.DataFrame,
) -> dg.MaterializeResult:
    from trader_pipeline.evaluation.forgetting import held_out_instructions, measure_forgetting
    from trader_pipeline.training.finetune import train_adapter  # loads torch

    instructions = held_out_instructions(
        stable_corpus, mixed_corpus
    )  # before the work that needs them after it
    result = train_adapter(
        mixed_corpus,
        audit=read_audit(pipeline, MIXED_CORPUS),
        model_params=pipeline.model_params,
        params=pipeline.profile.finetune,
        output_dir=pipeline.adapter_dir,
        tracking=pipeline.tracking,
        run_tags=run_tags(pipeline, MIXED_CORPUS, context.run_id),
    )
    forgotten = measure_forgetting(
        adapter_dir=result.adapter_dir,
        model_params=pipeline.model_params,
        instructions=instructions,
        params=pipeline.profile.forgetting,
    )
    return materialised(
        result.log,
        TRAINING_LOG,
        name=ADAPTER,
        findings={"validation_loss_fell": loss_findings(result)},
        metadata={
            **training_metadata(result),
            **_class_weights(pipeline, mixed_corpus),
            "forgetting": dg.MetadataValue.md(markdown_table(forgotten.table)),
        },
        check_results=[_budget_check(forgotten)],
    )


@dg.asset(**table_asset(FORGETTING, settings=("model", "forgetting")))
def forgetting(
    pipeline: PipelineResource,
    lora_adapter: pd.DataFrame,
    mixed_corpus: pd.DataFrame,
    stable_corpus: pd.DataFrame,
) -> dg.MaterializeResult:
    from trader_pipeline.evaluation.forgetting import held_out_instructions, measure_forgetting
    from trader_pipeline.training.unmixed import train_without_stable  # loads torch

    profile, scratch = pipeline.profile, pipeline.folder("training") / ".unmixed"
    unmixed = None
    if profile.forgetting.compare_unmixed:
        unmixed = train_without_stable(
            mixed_corpus,
            audit_params=profile.audit,
            model_params=pipeline.model_params,
            params=profile.finetune,
            output_dir=scratch / "adapter",
        )
    forgotten = measure_forgetting(
        adapter_dir=pipeline.adapter_dir,
        model_params=pipeline.model_params,
        instructions=held_out_instructions(stable_corpus, mixed_corpus),
        params=profile.forgetting,
        unmixed_dir=unmixed,
    )
    shutil.rmtree(scratch, ignore_errors=True)
    table = forgotten.table
    return materialised(
        table,
        FORGETTING,
        metadata={
            "forgetting": dg.MetadataValue.md(markdown_table(table)),
            "plot": forgetting_plot(table),
        },
    )


def run_tags(pipeline: PipelineResource, corpus: Table, run_id: str) -> dict[str, str]:
    """Tags of the MLflow run that lead back to the Dagster run."""
    return {
        "dagster/run_id": run_id,
        "dagster/run_url": pipeline.dagster_run_url(run_id),
        "profile": pipeline.profile.name,
        "simulated": str(pipeline.is_simulated(corpus)).lower(),
    }


def loss_findings(result: "AdapterResult") -> list[str]:
    """What the check `validation_loss_fell` finds."""
    from trader_pipeline.training.loss_log import loss_fell

    validation = result.log[result.log["split"] == "val"]["loss"]
    if loss_fell(validation.iloc[0], result.val_loss):
        return []
    return [
        f"validation loss was {validation.iloc[0]:.4f} at the start and never less in {result.log['step'].max()}"
        " steps; raise finetune.max_steps, or lower finetune.learning_rate"
    ]


def training_metadata(result: "AdapterResult", *, objective: str = "sft") -> dict[str, Any]:
    """What a training left: its folder, losses (dpo: per pair) and speed, and where MLflow shows it."""
    metadata = {
        "adapter": dg.MetadataValue.path(str(result.adapter_dir)),
        "adapter_sha256": result.adapter_hash,
        "train_loss": result.train_loss,
        "val_loss": result.val_loss,
        "tokens_per_second": result.tokens_per_second,
        "mlflow_run": dg.MetadataValue.url(result.mlflow_run_url or ""),
        "mlflow_run_id": result.mlflow_run_id or "",
        "plot": losses_plot(result.log, objective=objective),
    }
    if result.registered is not None:
        name, version, url = result.registered
        metadata |= {"registered_model": f"{name} version {version}", "model_page": dg.MetadataValue.url(url)}
    return metadata


def _class_weights(pipeline: PipelineResource, corpus: pd.DataFrame) -> dict[str, dg.MarkdownMetadataValue]:
    """What each answer counts in training; nothing where the setting leaves the weights as they are."""
    from trader_pipeline.training.answer_weights import answer_weight_table, balanced_weights

    if pipeline.profile.finetune.class_weights == "none":
        return {}
    table = answer_weight_table(corpus, balanced_weights(corpus))
    return {"class_weights": dg.MetadataValue.md(markdown_table(table))}


def _budget_check(forgotten: "Forgetting") -> dg.AssetCheckResult:
    """A warning, with its figures whether or not it passes: an adapter over budget is judged all the same."""
    row = forgotten.adapter
    return dg.AssetCheckResult(
        asset_key=ADAPTER,
        check_name=_BUDGET_CHECK,
        passed=forgotten.within_budget,
        severity=dg.AssetCheckSeverity.WARN,
        description=forgotten.sentence,
        metadata={
            **{name: float(row[name]) for name in _FIGURES},
            "table": dg.MetadataValue.md(markdown_table(forgotten.table)),
        },
    )
