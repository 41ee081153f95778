"""An adapter of the tiny model without training: as training leaves it, its weights drawn from a seed."""

import torch
from peft import LoraConfig, get_peft_model

from trader_pipeline.training.adapter_files import write_adapter, write_manifest
from trader_pipeline.training.models import ModelParams, load_base_model

TINY = ModelParams(model_name="tiny", dtype="float32")


def drawn_adapter(folder, *, model_params=TINY, manifest_model=None):
    """Write the adapter into `folder`; `manifest_model`: another base model for its manifest to name."""
    model, tokenizer = load_base_model(model_params)
    torch.manual_seed(3)
    config = LoraConfig(
        task_type="CAUSAL_LM", r=4, target_modules="all-linear", init_lora_weights=False
    )  # not the zeros that training starts from
    digest = write_adapter(get_peft_model(model, config), tokenizer, folder)
    write_manifest(
        folder,
        {
            "corpus_hash": "c" * 64,
            "adapter_sha256": digest,
            "model": manifest_model or model_params.model_dump(mode="json"),
            "params": {"objective": "sft"},
        },
    )
    return folder
