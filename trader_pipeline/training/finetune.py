"""LoRA fine-tuning of a causal language model on chat records: check, wrap, train, save, record.

Belongs here: the one training entry, top to bottom, for both objectives. Does not belong here: what the records say
(`corpora`), how a model is loaded (`models`), how a killed training goes on (`resuming`), what the adapter is worth
(`evaluation`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from trader_pipeline.corpora.folder import SPLITS_FILE
from trader_pipeline.corpora.splits import Boundaries, boundaries_to_json
from trader_pipeline.training.adapter_files import (
    adapter_sha256,
    load_start,
    put_back,
    refuse_foreign,
    replace_folder,
    write_adapter,
    write_manifest,
)
from trader_pipeline.training.checkpoints import last_good
from trader_pipeline.training.launch import is_main_process
from trader_pipeline.training.loss_log import log_rows, training_log
from trader_pipeline.training.memory import memory_given_back
from trader_pipeline.training.models import ModelParams, check_positions, load_base_model
from trader_pipeline.training.params import FinetuneParams
from trader_pipeline.training.processes import from_main_process, wait_for_all
from trader_pipeline.training.provenance import Origin, record_order_hash
from trader_pipeline.training.recording import record_losses, recorded
from trader_pipeline.training.records import (
    chat_records,
    check_audit,
    check_encodings,
    check_records,
    example_requests,
)
from trader_pipeline.training.starts import read_start
from trader_pipeline.training.tracking import TrackedRun, TrackingParams
from trader_pipeline.training.trainer_settings import lora_config, training_arguments
from trader_pipeline.training.work_folder import WorkFolder, work_folder

if TYPE_CHECKING:
    from trader_pipeline.corpora.audit import AuditReport
    from trader_pipeline.training.logged_model import RegisteredVersion


@dataclass(frozen=True)
class AdapterResult:
    """What one training run left behind. Losses in nats per token (dpo: per pair); `val_loss` is the adapter's own.

    `tokens_per_second` is of the steps that this process trained, 0 where it had only to save.
    """

    adapter_dir: Path
    log: pd.DataFrame
    train_loss: float
    val_loss: float
    mlflow_run_id: str | None
    mlflow_run_url: str | None
    adapter_hash: str
    tokens_per_second: float
    registered: RegisteredVersion | None = None


@memory_given_back()
def train_adapter(
    corpus: pd.DataFrame,
    *,
    audit: AuditReport,
    model_params: ModelParams,
    params: FinetuneParams,
    output_dir: Path | str,
    tracking: TrackingParams | None = None,
    run_tags: Mapping[str, str] | None = None,
    work_dir: Path | None = None,
    start_from: Path | None = None,
    fresh: bool = False,
    boundaries: Boundaries | None = None,
    place: Callable[[Path, Path], object] | None = None,
) -> AdapterResult:
    """Fine-tune a LoRA adapter on the corpus' `train` rows, stopping early on its `val` rows; save it in `output_dir`.

    The loss covers the answer and its end of turn, nothing else: checked on every record and, as the trainer built
    it, on the real first batch. `output_dir` appears complete or not at all, and replaces an earlier adapter there; a
    folder or file that is no adapter is refused before training. A link is followed.

    A training that was killed goes on by itself from its last good checkpoint when the same is asked for again (same
    records in the same order, model, settings and adapter to start from), and ends with the same bytes.

    Args:
        corpus: columns split, kind, system, user, assistant, and weight where records do not count alike (else 1);
            rows of other splits are not read. Objective dpo: chosen_answer and rejected_answer instead of assistant.
        audit: the passed audit of exactly these records.
        tracking: where to record the run in MLflow; None records nothing.
        run_tags: tags of the MLflow run, e.g. the Dagster run's id.
        work_dir: where unfinished trainings lie, on the disk of `output_dir`; default `.NAME.training` beside it.
        start_from: folder of an adapter to go on from, whose rank and layers are kept; dpo needs one.
        fresh: discard what an earlier, unfinished training of the same left.
        boundaries: first moments of the corpus' splits, written beside the adapter for its evaluation.
        place: gives the finished folder (first) the name `output_dir` (second), where an earlier adapter there is not
            to be replaced.

    Raises:
        CorpusError: no train or val rows, a hindsight record, a weight that is none, an audit that did not pass or is
            of other records, or a record longer than `max_length`.
        ModelError: the model or the adapter to start from cannot be used, its audit was loose, it has seen what this
            corpus holds out, or the mask is wrong.
        FileExistsError: `output_dir` holds something else than an adapter.
        CheckpointError: a checkpoint or the adapter cannot be written, as on a full disk; earlier ones are kept.
        TrainingInUseError: the same training runs already.
    """
    _check(corpus, params, start_from)
    corpus_hash = check_audit(corpus, audit, allow_loose=params.allow_loose_audit)
    start = None
    if start_from is not None:
        loose = params.allow_loose_audit
        start = read_start(start_from, model_params, allow_loose=loose, boundaries=boundaries)
        params = params.model_copy(update=start.settings)
    origin = Origin(corpus_hash, record_order_hash(corpus), audit, model_params, params, start, boundaries)
    output = Path(output_dir)
    if place is None:
        refuse_foreign(output)
    root = work_dir or output.resolve().with_name(f".{output.resolve().name}.training")
    with (
        work_folder(root, origin.identity, fresh=fresh, first_step=params.first_checkpoint) as work,
        recorded(origin, work, tracking, run_tags) as tracked,
    ):
        if is_main_process():
            put_back(work.adapter, output.resolve())
        trainer = _build_trainer(corpus, origin, work, tracked)
        example = example_requests(corpus)
        return _train_and_save(trainer, origin, work, output, tracked, example, place or replace_folder)


def _check(corpus: pd.DataFrame, params: FinetuneParams, start_from: Path | None) -> None:
    if params.objective == "sft":
        check_records(corpus)
        return
    from trader_pipeline.training.preferences import check_preferences

    if start_from is None:
        raise ValueError(
            "objective dpo goes on from an adapter: name one (--adapter), trained with objective sft"
        )
    check_preferences(corpus)


def _build_trainer(corpus: pd.DataFrame, origin: Origin, work: WorkFolder, tracked: TrackedRun | None) -> Any:
    """The objective's trainer over model and records, all checks of tokens passed."""
    from transformers import EarlyStoppingCallback, PrinterCallback

    from trader_pipeline.training.completion_trainer import LastStepCallback
    from trader_pipeline.training.progress import ProgressCallback
    from trader_pipeline.training.resuming import KeepBestCallback, WarmUpCallback, make_resumable
    from trader_pipeline.training.step_rows import StepRowsCallback

    params = origin.params
    model, tokenizer = load_base_model(origin.model_params, for_training=True)
    check_positions(model, params.max_length)
    if origin.start is not None:
        model = load_start(model, origin.start.folder)
    args = training_arguments(
        params, origin.model_params, work.checkpoints, model_size=model.num_parameters()
    )
    callbacks = [
        EarlyStoppingCallback(params.early_stopping_patience),
        LastStepCallback(),
        KeepBestCallback(),
        WarmUpCallback(),
        ProgressCallback(),
    ]
    if tracked is not None:
        callbacks.append(StepRowsCallback(tracked.log_rows))
    build = _answer_trainer if params.objective == "sft" else _preference_trainer
    trainer = build(corpus, model, tokenizer, params, args, callbacks)
    # A GPU a process: transformers would else split each batch over all GPUs, without its records' weights.
    trainer.args._n_gpu = min(1, trainer.args.n_gpu)
    trainer.remove_callback(PrinterCallback)
    make_resumable(trainer)
    return trainer


def _answer_trainer(
    corpus: pd.DataFrame, model: Any, tokenizer: Any, params: FinetuneParams, args: Any, callbacks: list[Any]
) -> Any:
    from datasets import Dataset, disable_progress_bars
    from peft import PeftModel
    from trl import SFTConfig

    from trader_pipeline.training.answer_weights import balanced_weights
    from trader_pipeline.training.completion_trainer import CompletionTrainer

    check_encodings(corpus, tokenizer, max_length=params.max_length)
    if params.class_weights == "balanced":
        corpus = balanced_weights(corpus)
    disable_progress_bars()  # of the tokenising, which takes moments; training has its own
    return CompletionTrainer(
        model=model,
        args=SFTConfig(**args, max_length=params.max_length),
        train_dataset=Dataset.from_list(chat_records(corpus, "train")),
        eval_dataset=Dataset.from_list(chat_records(corpus, "val")),
        processing_class=tokenizer,
        peft_config=None if isinstance(model, PeftModel) else lora_config(params),
        callbacks=callbacks,
        answers=set(corpus["assistant"]),
        focal_gamma=params.focal_gamma,
        share_prefix=params.share_prefix,
    )


def _preference_trainer(
    corpus: pd.DataFrame, model: Any, tokenizer: Any, params: FinetuneParams, args: Any, callbacks: list[Any]
) -> Any:
    from trader_pipeline.training.preferences import build_preference_trainer, check_preference_encodings

    check_preference_encodings(corpus, tokenizer, max_length=params.max_length)
    return build_preference_trainer(corpus, model, tokenizer, params=params, args=args, callbacks=callbacks)


def _train_and_save(
    trainer: Any,
    origin: Origin,
    work: WorkFolder,
    output: Path,
    tracked: TrackedRun | None,
    example: pd.DataFrame,
    place: Callable[[Path, Path], object],
) -> AdapterResult:
    from trader_pipeline.training.resuming import train_from, writing

    train_from(trainer, from_main_process(last_good(work.checkpoints) if is_main_process() else None))
    wait_for_all()  # the others read the best checkpoint, too, before the main process removes it
    log = training_log(trainer.state.log_history)
    losses = {
        "train_loss": float(log.query("split == 'train'")["loss"].mean()),
        "val_loss": float(trainer.state.best_metric),
    }
    speed = trainer.trained_tokens / trainer.training_seconds if trainer.training_seconds else 0.0
    registered = None
    if is_main_process():
        with writing(work.adapter, kept=work.checkpoints):
            _write(trainer, origin, losses | _steps(trainer, log), work.adapter)
        if tracked is not None:
            figures = losses | ({"mean_tokens_per_second": speed} if speed else {})
            tracked.log_rows(log_rows(trainer.state.log_history))  # a kill took those not yet written
            record_losses(tracked, log, figures)
            registered = tracked.log_model(work.adapter, model_params=origin.model_params, example=example)
            if registered is None:
                tracked.log_folder(work.adapter, "adapter")  # a registered version holds it already
        place(work.adapter, output.resolve())
    wait_for_all()
    return AdapterResult(
        adapter_dir=output,
        log=log,
        **losses,
        mlflow_run_id=None if tracked is None else tracked.run_id,
        mlflow_run_url=None if tracked is None else tracked.url,
        adapter_hash=adapter_sha256(output),
        tokens_per_second=speed,
        registered=registered,
    )


def _write(trainer: Any, origin: Origin, figures: Mapping[str, Any], folder: Path) -> None:
    digest = write_adapter(trainer.model, trainer.processing_class, folder)
    write_manifest(folder, {**origin.manifest, **figures, "adapter_sha256": digest})
    if origin.boundaries is not None:
        (folder / SPLITS_FILE).write_text(boundaries_to_json(origin.boundaries))


def _steps(trainer: Any, log: pd.DataFrame) -> dict[str, Any]:
    return {
        "val_loss_before": float(log.query("split == 'val'")["loss"].iloc[0]),
        "best_step": int(trainer.state.best_global_step),
        "steps": int(trainer.state.global_step),
    }
