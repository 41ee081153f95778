"""LoRA fine-tuning of a causal language model on chat records: check, wrap, train, save, record.

Belongs here: the one training entry and its settings, named as TRL and PEFT name them. Does not belong here: what the
records say (`corpora`), how a model is loaded (`models`), what the adapter is worth (`evaluation`).
"""

from __future__ import annotations

import ctypes
import gc
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from trader_pipeline.training.adapter_files import replace_folder, write_adapter, write_manifest
from trader_pipeline.training.loss_log import log_rows, training_log
from trader_pipeline.training.models import ModelParams, load_base_model, resolved_dtype
from trader_pipeline.training.params import FinetuneParams
from trader_pipeline.training.records import chat_records, check_audit, check_encodings, check_records
from trader_pipeline.training.tracking import TrackedRun, TrackingParams, track_run

if TYPE_CHECKING:
    from trader_pipeline.corpora.audit import AuditReport


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


@dataclass(frozen=True)
class _Origin:
    """What an adapter comes from, for its manifest and MLflow."""

    corpus_hash: str
    audit: AuditReport
    model_params: ModelParams
    params: FinetuneParams

    @property
    def parameters(self) -> dict[str, Any]:
        own = {
            "corpus_hash": self.corpus_hash,
            "audit_hash": self.audit.corpus_hash,
            "audit_passed": self.audit.passed,
        }
        return {**self.model_params.model_dump(), **self.params.model_dump(), **own}

    @property
    def manifest(self) -> dict[str, Any]:
        audit = self.audit
        return {
            "corpus_hash": self.corpus_hash,
            "audit": {
                "corpus_hash": audit.corpus_hash,
                "passed": audit.passed,
                "figures": dict(audit.figures),
                "bounds": dict(audit.bounds),
                "loosened": list(audit.loosened),
                "unchecked": list(audit.unchecked),
            },
            "model": self.model_params.model_dump(),
            "dtype": resolved_dtype(self.model_params.dtype),
            "params": self.params.model_dump(),
        }


@_memory_given_back()
def train_adapter(
    corpus: pd.DataFrame,
    *,
    audit: AuditReport,
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
        corpus: columns split, kind, system, user, assistant, and weight where records do not count alike (else 1);
            rows of other splits are not read.
        audit: the passed audit of exactly these records.
        tracking: where to record the run in MLflow; None records nothing.
        run_tags: tags of the MLflow run, e.g. the Dagster run's id.

    Raises:
        CorpusError: no train or val rows, a hindsight record, a weight that is none, an audit that did not pass or is
            of other records, or a record longer than `max_length`.
        ModelError: the model cannot be used, or the mask is wrong.
    """
    check_records(corpus)
    origin = _Origin(
        check_audit(corpus, audit, allow_loose=params.allow_loose_audit), audit, model_params, params
    )
    with _tracked(origin, tracking, run_tags) as tracked:
        model, tokenizer = load_base_model(model_params)
        check_encodings(corpus, tokenizer, max_length=params.max_length)
        if tracked is not None:
            tracked.log_params(origin.parameters)
            tracked.log_corpus(origin.corpus_hash)
            tracked.log_summary({f"audit/{name}": figure for name, figure in audit.figures.items()})
        destination = Path(output_dir)
        destination.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=destination.parent, prefix=f".{destination.name}-") as scratch:
            bf16 = resolved_dtype(model_params.dtype) == "bfloat16"
            args = _sft_config(params, Path(scratch) / "checkpoints", bf16=bf16)
            trainer = _build_trainer(corpus, model, tokenizer, params, args, tracked)
            return _train_and_save(trainer, tokenizer, origin, destination, Path(scratch), tracked)


def _tracked(
    origin: _Origin, tracking: TrackingParams | None, run_tags: Mapping[str, str] | None
) -> AbstractContextManager[TrackedRun | None]:
    if tracking is None:
        return nullcontext(None)
    return track_run(
        tracking,
        run_name=f"lora-{origin.model_params.model_name}",
        tags={"corpus_hash": origin.corpus_hash, **(run_tags or {})},
    )


def _train_and_save(
    trainer: Any,
    tokenizer: Any,
    origin: _Origin,
    destination: Path,
    scratch: Path,
    tracked: TrackedRun | None,
) -> AdapterResult:
    output = trainer.train()
    log = training_log(trainer.state.log_history)
    losses = {"train_loss": float(output.training_loss), "val_loss": float(trainer.state.best_metric)}
    folder = scratch / "adapter"
    adapter_hash = write_adapter(trainer.model, tokenizer, folder)
    manifest = {
        **origin.manifest,
        **losses,
        "val_loss_before": float(log.query("split == 'val'")["loss"].iloc[0]),
        "best_step": int(trainer.state.best_global_step),
        "steps": int(trainer.state.global_step),
        "adapter_sha256": adapter_hash,
    }
    write_manifest(folder, manifest)
    speed = trainer.trained_tokens / trainer.training_seconds
    if tracked is not None:
        tracked.log_loss_curve(log)
        tracked.log_summary(
            {
                "best_val_loss": losses["val_loss"],
                "mean_train_loss": losses["train_loss"],
                "tokens_per_second": speed,
            }
        )
        tracked.log_folder(folder, "adapter")
    replace_folder(folder, destination)
    return AdapterResult(
        adapter_dir=destination,
        log=log,
        **losses,
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
        callbacks.append(LogRowCallback(lambda entry: tracked.log_rows(log_rows([entry]))))
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

    lora = {
        "r",
        "lora_alpha",
        "lora_dropout",
        "target_modules",
        "early_stopping_patience",
        "allow_loose_audit",
    }
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
