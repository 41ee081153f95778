"""The second objective: the adapter trained on by DPO, on request. `trader-pipeline run` leaves it alone.

Nothing is made from it. Its loss per step is in its metadata and in MLflow; the table of losses is the first adapter's.
"""

import dagster as dg
import pandas as pd

from trader_pipeline.defs.corpora import read_audit
from trader_pipeline.defs.materialise import check_specs
from trader_pipeline.defs.resources import PipelineResource
from trader_pipeline.defs.training import loss_findings, run_tags, training_metadata
from trader_pipeline.schema.tables import PREFERENCE_CORPUS

PREFERENCE_ADAPTER = "preference_adapter"
_LOSS_FELL = "validation_loss_fell"
_RATE_SHARE = 0.1
"""Of finetune.learning_rate: pairs push two answers apart, and at the rate of single answers they push too far."""


@dg.asset(
    name=PREFERENCE_ADAPTER,
    group_name="training",
    description="A second adapter: DPO on the pairs of preference_corpus goes on from lora_adapter, at a tenth of"
    " finetune.learning_rate. 'trader-pipeline run' leaves it out; materialise it here.",
    kinds={"safetensors"},
    deps=["lora_adapter"],
    check_specs=check_specs(PREFERENCE_ADAPTER, (_LOSS_FELL,)),
)
def preference_adapter(
    context: dg.AssetExecutionContext, pipeline: PipelineResource, preference_corpus: pd.DataFrame
) -> dg.MaterializeResult:
    from trader_pipeline.training.finetune import train_adapter  # loads torch

    settings = pipeline.profile.finetune
    own = {"objective": "dpo", "learning_rate": _RATE_SHARE * settings.learning_rate}
    unweighed = {"class_weights": "none", "focal_gamma": 0.0}
    result = train_adapter(
        preference_corpus,
        audit=read_audit(pipeline, PREFERENCE_CORPUS),
        model_params=pipeline.model_params,
        params=settings.model_copy(update=own | unweighed),
        output_dir=pipeline.adapter_dir.with_name(PREFERENCE_ADAPTER),
        tracking=pipeline.tracking,
        run_tags=run_tags(pipeline, PREFERENCE_CORPUS, context.run_id),
        start_from=pipeline.adapter_dir,
    )
    findings = loss_findings(result)
    return dg.MaterializeResult(
        data_version=dg.DataVersion(result.adapter_hash),
        metadata={
            **training_metadata(result, objective="dpo"),
            "simulated": dg.MetadataValue.bool(pipeline.is_simulated(PREFERENCE_CORPUS)),
            "started_from": dg.MetadataValue.path(str(pipeline.adapter_dir)),
        },
        check_results=[
            dg.AssetCheckResult(
                check_name=_LOSS_FELL,
                passed=not findings,
                description=findings[0] if findings else "nothing found",
            )
        ],
    )
