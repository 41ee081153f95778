"""LoRA fine-tuning of a causal language model on chat records: check, wrap, train, save, record.

Belongs here: the one training entry and its settings, named as TRL and PEFT name them. Does not belong here: what the
records say (`corpora`), how a model is loaded (`models`), what the adapter is worth (`evaluation`).
"""

import ctypes
import gc
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from trader_pipeline.schema import validate
from trader_pipeline.schema.tables import TRAINING_LOG
from trader_pipeline.store import file_sha256
from trader_pipeline.training.models import ModelParams, load_base_model, resolved_dtype
from trader_pipeline.training.records import chat_records, check_encodings, check_records, corpus_hash
from trader_pipeline.training.tracking import TrackedRun, TrackingParams, track_run


class FinetuneParams(BaseModel):
    """Settings of one fine-tuning run; the names are those of TRL's SFTConfig and PEFT's LoraConfig."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    learning_rate: float = Field(default=1e-4, gt=0, description="peak learning rate")
    lr_scheduler_type: Literal["cosine", "linear", "constant_with_warmup"] = Field(
        default="cosine", description="course of the learning rate after warm-up"
    )
    warmup_steps: int = Field(
        default=5, ge=0, description="optimiser steps over which the learning rate rises from 0"
    )
    num_train_epochs: float = Field(
        default=1.0, gt=0, description="passes over the training records; max_steps overrules it"
    )
    max_steps: int = Field(default=-1, description="optimiser steps; -1: as many as num_train_epochs makes")
    per_device_train_batch_size: int = Field(default=4, ge=1, description="records per forward pass")
    per_device_eval_batch_size: int = Field(
        default=8, ge=1, description="records per forward pass in validation"
    )
    gradient_accumulation_steps: int = Field(default=2, ge=1, description="forward passes per optimiser step")
    max_length: int = Field(
        default=1024, ge=8, description="longest record in tokens; a longer one is refused, never cut"
    )
    max_grad_norm: float = Field(
        default=1.0, gt=0, description="gradient norm above which the gradient is scaled down"
    )
    weight_decay: float = Field(default=0.0, ge=0, description="AdamW weight decay")
    eval_steps: int = Field(
        default=10, ge=1, description="optimiser steps between validations (and checkpoints)"
    )
    early_stopping_patience: int = Field(
        default=3, ge=1, description="validations without improvement before stopping"
    )
    r: int = Field(default=16, ge=1, description="LoRA rank")
    lora_alpha: int = Field(
        default=32, ge=1, description="LoRA scale: the update is multiplied by lora_alpha / r"
    )
    lora_dropout: float = Field(default=0.0, ge=0, lt=1, description="dropout before the LoRA matrices")
    target_modules: tuple[str, ...] | Literal["all-linear"] = Field(
        default="all-linear", description="layers that get a LoRA update"
    )
    seed: int = Field(default=0, ge=0, description="seed of LoRA's start, of the record order and of dropout")


@dataclass(frozen=True)
class AdapterResult:
    """What one training run left behind. Losses in nats per token; `val_loss` is the best, the adapter's own."""

    adapter_dir: Path
    log: pd.DataFrame
    train_loss: float
    val_loss: float
    mlflow_run_id: str | None
    mlflow_run_url: str | None
    adapter_hash: str
    tokens_per_second: float


@contextmanager
def _memory_given_back() -> Iterator[None]:
    """Return what training took: else the process keeps some GB in pieces, and whatever comes next adds to them."""
    try:
        yield
    finally:
        gc.collect()
        if sys.platform == "linux":
            with suppress(OSError, AttributeError):  # another C library than glibc has no such call
                ctypes.CDLL("libc.so.6").malloc_trim(0)


@_memory_given_back()
def train_adapter(
    corpus: pd.DataFrame,
    *,
    model_params: ModelParams,
    params: FinetuneParams,
    output_dir: Path | str,
    tracking: TrackingParams | None = None,
    run_tags: Mapping[str, str] | None = None,
) -> AdapterResult:
    """Fine-tune a LoRA adapter on the corpus' `train` rows, stopping early on its `val` rows; save it in `output_dir`.

    The loss covers the answer and its end of turn, nothing else: checked on every record and, as the trainer built
    it, on the real first batch. `output_dir` appears complete or not at all, and replaces an earlier adapter there.

    Args:
        corpus: columns split, kind, system, user, assistant; rows of other splits are not read.
        tracking: where to record the run in MLflow; None records nothing.
        run_tags: tags of the MLflow run, e.g. the Dagster run's id.

    Raises:
        CorpusError: no train or val rows, a hindsight record, or a record longer than `max_length`.
        ModelError: the model cannot be used, or the mask is wrong.
    """
    check_records(corpus)
    data_hash = corpus_hash(corpus)
    run = (
        nullcontext(None)
        if tracking is None
        else track_run(
            tracking,
            run_name=f"lora-{model_params.model_name}",
            tags={"corpus_hash": data_hash, **(run_tags or {})},
        )
    )
    with run as tracked:
        model, tokenizer = load_base_model(model_params)
        check_encodings(corpus, tokenizer, max_length=params.max_length)
        if tracked is not None:
            tracked.log_params({**model_params.model_dump(), **params.model_dump(), "corpus_hash": data_hash})
            tracked.log_corpus(data_hash)
        destination = Path(output_dir)
        destination.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=destination.parent, prefix=f".{destination.name}-") as scratch:
            bf16 = resolved_dtype(model_params.dtype) == "bfloat16"
            args = _sft_config(params, Path(scratch) / "checkpoints", bf16=bf16)
            trainer = _build_trainer(corpus, model, tokenizer, params, args, tracked)
            return _train_and_save(
                trainer, tokenizer, data_hash, model_params, params, destination, Path(scratch), tracked
            )


def _train_and_save(
    trainer: Any,
    tokenizer: Any,
    data_hash: str,
    model_params: ModelParams,
    params: FinetuneParams,
    destination: Path,
    scratch: Path,
    tracked: TrackedRun | None,
) -> AdapterResult:
    output = trainer.train()
    log = _training_log(trainer.state.log_history)
    train_loss = float(output.training_loss)
    val_loss = float(trainer.state.best_metric)
    folder = scratch / "adapter"
    adapter_hash = _write_adapter(trainer.model, tokenizer, folder)
    manifest = {
        "corpus_hash": data_hash,
        "model": model_params.model_dump(),
        "dtype": resolved_dtype(model_params.dtype),
        "params": params.model_dump(),
        "train_loss": train_loss,
        "val_loss": val_loss,
        "val_loss_before": float(log.query("split == 'val'")["loss"].iloc[0]),
        "best_step": int(trainer.state.best_global_step),
        "steps": int(trainer.state.global_step),
        "adapter_sha256": adapter_hash,
    }
    (folder / "adapter_manifest.json").write_text(json.dumps(manifest, indent=2, sort_keys=True) + "\n")
    speed = trainer.trained_tokens / trainer.training_seconds
    if tracked is not None:
        tracked.log_loss_curve(log)
        tracked.log_summary(
            {"best_val_loss": val_loss, "mean_train_loss": train_loss, "tokens_per_second": speed}
        )
        tracked.log_folder(folder, "adapter")
    _replace_folder(folder, destination)
    return AdapterResult(
        adapter_dir=destination,
        log=log,
        train_loss=train_loss,
        val_loss=val_loss,
        mlflow_run_id=None if tracked is None else tracked.run_id,
        mlflow_run_url=None if tracked is None else tracked.url,
        adapter_hash=adapter_hash,
        tokens_per_second=speed,
    )


def _build_trainer(
    corpus: pd.DataFrame,
    model: Any,
    tokenizer: Any,
    params: FinetuneParams,
    args: Any,
    tracked: TrackedRun | None,
) -> Any:
    from datasets import Dataset, disable_progress_bars
    from transformers import EarlyStoppingCallback

    from trader_pipeline.training.completion_trainer import (
        CompletionTrainer,
        LastStepCallback,
        LogRowCallback,
    )

    disable_progress_bars()  # of the tokenising, which takes moments; training has its own
    callbacks: list[Any] = [EarlyStoppingCallback(params.early_stopping_patience), LastStepCallback()]
    if tracked is not None:
        callbacks.append(LogRowCallback(lambda entry: tracked.log_rows(_log_rows([entry]))))
    return CompletionTrainer(
        model=model,
        args=args,
        train_dataset=Dataset.from_list(chat_records(corpus, "train")),
        eval_dataset=Dataset.from_list(chat_records(corpus, "val")),
        processing_class=tokenizer,
        peft_config=_lora_config(params),
        callbacks=callbacks,
        answers=set(corpus["assistant"]),
    )


def _lora_config(params: FinetuneParams) -> Any:
    from peft import LoraConfig

    modules = params.target_modules
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=params.r,
        lora_alpha=params.lora_alpha,
        lora_dropout=params.lora_dropout,
        target_modules=modules if isinstance(modules, str) else list(modules),
    )


def _sft_config(params: FinetuneParams, folder: Path, *, bf16: bool) -> Any:
    import torch
    from trl import SFTConfig

    lora = {"r", "lora_alpha", "lora_dropout", "target_modules", "early_stopping_patience"}
    return SFTConfig(
        **params.model_dump(exclude=lora),
        output_dir=str(folder),
        train_sampling_strategy="group_by_length",
        logging_steps=1,
        eval_strategy="steps",
        eval_on_start=True,
        save_strategy="steps",
        save_steps=params.eval_steps,
        save_only_model=True,
        save_total_limit=1,
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
        greater_is_better=False,
        gradient_checkpointing=False,
        use_cpu=not torch.cuda.is_available(),
        bf16=bf16,  # matrix products alone: the weights stay float32
        report_to=[],
        disable_tqdm=not sys.stderr.isatty(),  # a bar on a terminal, a line a step in a log
        push_to_hub=False,
        dataloader_pin_memory=False,
    )


def _training_log(history: list[dict[str, Any]]) -> pd.DataFrame:
    """The trainer's history as a TRAINING_LOG frame."""
    log = pd.DataFrame(_log_rows(history), columns=TRAINING_LOG.column_names)
    log = log.astype({"loss": "float64", "learning_rate": "float64"}).sort_values(
        ["split", "step"], ignore_index=True
    )
    validate(log, TRAINING_LOG, source="the trainer's log")
    return log


def _log_rows(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """TRAINING_LOG rows of those entries that hold a loss; the learning rate is null for validation."""
    rows = []
    for entry in history:
        for split, key in (("train", "loss"), ("val", "eval_loss")):
            if key in entry:
                rate = entry.get("learning_rate", np.nan)
                rows.append(
                    {"split": split, "step": entry["step"], "loss": entry[key], "learning_rate": rate}
                )
    return rows


def _write_adapter(model: Any, tokenizer: Any, folder: Path) -> str:
    """Adapter and tokenizer as safetensors and JSON, the same bytes for the same run; returns the weights' SHA-256."""
    model.save_pretrained(folder, safe_serialization=True)
    (folder / "README.md").unlink(missing_ok=True)  # PEFT's empty model card
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text())
    # PEFT keeps the modules as a set, and notes the folder that the base model came from on this machine.
    config["target_modules"] = sorted(config["target_modules"])
    config["base_model_name_or_path"] = None
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    tokenizer.save_pretrained(folder)
    return file_sha256(folder / "adapter_model.safetensors")


def _replace_folder(source: Path, destination: Path) -> None:
    """Move `source` to `destination`; an earlier folder there stays whole until the new one takes its name."""
    old = source.with_name("replaced")
    if destination.exists():
        os.replace(destination, old)
    os.replace(source, destination)
    shutil.rmtree(old, ignore_errors=True)
