"""Stage 7: the LoRA adapter, recorded in MLflow."""

import dagster as dg
import pandas as pd

from trader_pipeline.defs.corpora import read_audit
from trader_pipeline.defs.materialise import materialised, table_asset
from trader_pipeline.defs.plots import losses_plot
from trader_pipeline.defs.resources import PipelineResource
from trader_pipeline.schema.tables import MIXED_CORPUS, TRAINING_LOG

ADAPTER = "lora_adapter"


@dg.asset(
    **table_asset(
        TRAINING_LOG, name=ADAPTER, settings=("model", "finetune"), checks=("validation_loss_fell",)
    )
    | {
        "description": "The LoRA adapter, trained on mixed_corpus, recorded in MLflow; its table is the loss per step."
    }
)
def lora_adapter(
    context: dg.AssetExecutionContext, pipeline: PipelineResource, mixed_corpus: pd.DataFrame
) -> dg.MaterializeResult:
    from trader_pipeline.training.finetune import train_adapter  # loads torch

    result = train_adapter(
        mixed_corpus,
        audit=read_audit(pipeline, MIXED_CORPUS),
        model_params=pipeline.model_params,
        params=pipeline.profile.finetune,
        output_dir=pipeline.adapter_dir,
        tracking=pipeline.tracking,
        run_tags={
            "dagster/run_id": context.run_id,
            "profile": pipeline.profile.name,
            "simulated": str(pipeline.is_simulated(MIXED_CORPUS)).lower(),
        },
    )
    validation = result.log[result.log["split"] == "val"]["loss"]
    findings = (
        []
        if result.val_loss < validation.iloc[0]
        else [
            f"validation loss was {validation.iloc[0]:.4f} at the start and never less in {result.log['step'].max()}"
            " steps; raise finetune.max_steps, or lower finetune.learning_rate"
        ]
    )
    return materialised(
        result.log,
        TRAINING_LOG,
        name=ADAPTER,
        findings={"validation_loss_fell": findings},
        metadata={
            "adapter": dg.MetadataValue.path(str(result.adapter_dir)),
            "adapter_sha256": result.adapter_hash,
            "train_loss": result.train_loss,
            "val_loss": result.val_loss,
            "tokens_per_second": result.tokens_per_second,
            "mlflow_run": dg.MetadataValue.url(result.mlflow_run_url or ""),
            "mlflow_run_id": result.mlflow_run_id or "",
            "plot": losses_plot(result.log),
        },
    )
