"""A sequence-classification head on the base model, trained on the same trade-or-skip records: a yardstick.

Belongs here: the head, its training, and the probabilities that it gives. It shows what writing the answer out costs or
gains, and trades nowhere; so it is neither saved nor loaded. Does not belong here: the comparison itself
(`benchmarks/ablation.py`), the trainer of answers (`completion_trainer`).
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch.nn.functional import cross_entropy
from transformers import (
    BatchEncoding,
    EarlyStoppingCallback,
    PrinterCallback,
    Trainer,
    TrainingArguments,
    set_seed,
)

from trader_pipeline.corpora.records import corpus_hash
from trader_pipeline.corpora.render import SELL_CALL, SKIP, answer_of
from trader_pipeline.training.answer_weights import balanced_weights
from trader_pipeline.training.completion_trainer import LastStepCallback
from trader_pipeline.training.encoding import encode_prompts
from trader_pipeline.training.loss_log import training_log
from trader_pipeline.training.models import ModelError, ModelParams, computing_in, load_base_model
from trader_pipeline.training.params import FinetuneParams
from trader_pipeline.training.progress import ProgressCallback
from trader_pipeline.training.records import (
    CorpusError,
    check_audit,
    check_encodings,
    check_records,
    record_weights,
)
from trader_pipeline.training.trainer_settings import lora_config, training_arguments

if TYPE_CHECKING:
    from trader_pipeline.corpora.audit import AuditReport

KIND = "trade_or_skip"
LABELS = (SELL_CALL, SKIP)
"""The classes, in the order of the probabilities."""


@dataclass(frozen=True)
class Classifier:
    """A trained head on its backbone. Losses are nats per record, so they do not compare with nats per token."""

    model: Any
    tokenizer: Any
    log: pd.DataFrame
    val_loss: float
    tokens_per_second: float
    params: ModelParams

    def probabilities(self, prompts: Sequence[tuple[str, str]], *, batch_size: int = 8) -> np.ndarray:
        """Probability of each of `LABELS` for (system, user) pairs; float64, shape (prompts, 2)."""
        ids = encode_prompts(self.tokenizer, [s for s, _ in prompts], [u for _, u in prompts])
        order = np.argsort([len(i) for i in ids], kind="stable")  # prompts of like length share a batch
        found = np.empty((len(prompts), len(LABELS)))
        self.model.eval()
        with torch.inference_mode(), computing_in(self.params.dtype):
            for start in range(0, len(order), batch_size):
                rows = order[start : start + batch_size]
                batch = padded([ids[i] for i in rows], self.tokenizer.pad_token_id)
                logits = self.model(**batch.to(self.model.device), use_cache=False).logits
                found[rows] = logits.double().softmax(dim=1).cpu().numpy()
        return found


def train_classifier(
    corpus: pd.DataFrame,
    *,
    audit: AuditReport,
    model_params: ModelParams,
    params: FinetuneParams,
    scratch_dir: Path | str | None = None,
) -> Classifier:
    """Train LoRA and a fresh head on the `trade_or_skip` rows with split `train`, stopping early on those with `val`.

    The records, their weights, the seed and all settings are those of `train_adapter`; the head is trained whole, and
    reads the last token of the prompt, after which an answer would be written. Rows of other kinds have no class and
    are left out. Settings that are about written answers (objective, focal loss) must be at their defaults.

    Args:
        corpus: as for `train_adapter`.
        audit: the passed audit of exactly these records.
        scratch_dir: where checkpoints lie until training ends; None: the system's folder for temporary files.

    Raises:
        CorpusError: as for `train_adapter`; no trade-or-skip rows in train or val; another answer than `LABELS`.
        ModelError: the model cannot be used, or has no classification head.
        ValueError: a setting that has no meaning for a head.
    """
    _refuse_settings(params)
    check_records(corpus)
    check_audit(corpus, audit, allow_loose=params.allow_loose_audit)
    rows = _classified(corpus)
    if params.class_weights == "balanced":
        rows = balanced_weights(rows)
    model, tokenizer = load_base_model(model_params)
    check_encodings(rows, tokenizer, max_length=params.max_length)
    set_seed(params.seed)  # the start of the head and of LoRA
    with_head = _with_lora(_with_head(model), params)
    with tempfile.TemporaryDirectory(dir=scratch_dir, prefix="classifier-") as folder:
        trainer = _HeadTrainer(
            model=with_head,
            args=_arguments(params, model_params, model, Path(folder)),
            train_dataset=_examples(rows, "train", tokenizer),
            eval_dataset=_examples(rows, "val", tokenizer),
            data_collator=_Collator(tokenizer.pad_token_id),
            callbacks=[
                EarlyStoppingCallback(params.early_stopping_patience),
                LastStepCallback(),
                ProgressCallback(),
            ],
        )
        trainer.remove_callback(PrinterCallback)  # progress has its own lines
        trainer.train()
    return Classifier(
        model=trainer.model.eval(),
        tokenizer=tokenizer,
        log=training_log(trainer.state.log_history),
        val_loss=float(trainer.state.best_metric),
        tokens_per_second=trainer.tokens / trainer.training_seconds,
        params=model_params,
    )


def padded(ids: Sequence[Sequence[int]], pad_token_id: int) -> Any:
    """Token ids padded on the right to one length, with their attention mask: int64, shape (rows, longest)."""
    width = max(len(row) for row in ids)
    tokens = torch.full((len(ids), width), pad_token_id)
    mask = torch.zeros_like(tokens)
    for place, row in enumerate(ids):
        tokens[place, : len(row)] = torch.tensor(row)
        mask[place, : len(row)] = 1
    return BatchEncoding({"input_ids": tokens, "attention_mask": mask})


class _Collator:
    """Right-padded batches with their classes and the records' weights."""

    def __init__(self, pad_token_id: int) -> None:
        self.pad_token_id = pad_token_id

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            **padded([e["input_ids"] for e in examples], self.pad_token_id),
            "labels": torch.tensor([e["labels"] for e in examples]),
            "weight": torch.tensor([e["weight"] for e in examples], dtype=torch.float32),
        }


class _HeadTrainer(Trainer):
    """Cross-entropy of the class, sum(w * ce) / sum(w) over an optimiser step, and over all validation records."""

    loss_is_scaled_for_ga = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.tokens, self.training_seconds = 0, 0.0
        self._mean_eval_weight = float(np.mean([e["weight"] for e in self.eval_dataset]))

    def _get_num_items_in_batch(self, batch_samples: list[dict[str, Any]], device: torch.device) -> Any:
        return torch.stack([batch["weight"].sum() for batch in batch_samples]).sum().to(device)

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        outputs = model(
            input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], use_cache=False
        )
        losses = cross_entropy(outputs.logits.float(), inputs["labels"], reduction="none")
        loss = (losses * inputs["weight"]).sum() / num_items_in_batch
        return (loss, outputs) if return_outputs else loss

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        super().log({**logs, "num_tokens": self.tokens}, *args, **kwargs)

    def prediction_step(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Weigh each batch, so that the trainer's mean over rows becomes the weighted mean over records."""
        loss, logits, labels = super().prediction_step(model, inputs, *args, **kwargs)
        return loss * inputs["weight"].mean() / self._mean_eval_weight, logits, labels

    def training_step(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        started = time.perf_counter()
        loss = super().training_step(model, inputs, *args, **kwargs)
        self.training_seconds += time.perf_counter() - started
        self.tokens += int(inputs["attention_mask"].sum())
        return loss


def _refuse_settings(params: FinetuneParams) -> None:
    for name in ("objective", "focal_gamma"):
        field = FinetuneParams.model_fields.get(name)
        if field is not None and getattr(params, name) != field.default:
            raise ValueError(
                f"finetune.{name}={getattr(params, name)!r} is about written answers; a classification head is"
                f" trained with {field.default!r}"
            )


def _classified(corpus: pd.DataFrame) -> pd.DataFrame:
    """The rows that have a class, with it in the column `label`."""
    rows = corpus[corpus["kind"] == KIND] if "kind" in corpus.columns else corpus
    for split in ("train", "val"):
        if not (rows["split"] == split).any():
            raise CorpusError(
                f"the corpus {corpus_hash(corpus)[:12]} has no {KIND} records with split {split!r}"
            )
    answers = rows["assistant"].map(answer_of)
    if unknown := sorted(set(answers) - set(LABELS)):
        raise CorpusError(f"{KIND} has the answers {', '.join(LABELS)}; the corpus also has {unknown[0]!r}")
    return rows.assign(label=answers.map(LABELS.index))


def _examples(rows: pd.DataFrame, split: str, tokenizer: Any) -> list[dict[str, Any]]:
    own = rows[rows["split"] == split]
    ids = encode_prompts(tokenizer, own["system"].tolist(), own["user"].tolist())
    return [
        {"input_ids": row, "labels": int(label), "weight": float(weight)}
        for row, label, weight in zip(ids, own["label"], record_weights(own), strict=True)
    ]


def _with_head(causal: Any) -> Any:
    """The classification model of the same family, around the very backbone of the causal one; its head is random.

    Raises:
        ModelError: the family has no classification model, or keeps its head elsewhere.
    """
    from transformers import AutoModelForSequenceClassification

    causal.config.num_labels = len(LABELS)
    try:
        with torch.device("meta"):  # a backbone that is thrown away takes no memory
            model = AutoModelForSequenceClassification.from_config(causal.config)
        shape = model.score.weight.shape
    except (ValueError, AttributeError) as error:
        raise ModelError(
            f"{causal.config.model_type!r} has no classification model with a head named score ({error});"
            " use a Llama-, Qwen- or GPT-2-type model"
        ) from error
    setattr(model, model.base_model_prefix, causal.base_model)
    model.score = torch.nn.Linear(shape[1], shape[0], bias=False)
    torch.nn.init.normal_(model.score.weight, std=getattr(causal.config, "initializer_range", 0.02))
    return model.to(causal.device)


def _with_lora(model: Any, params: FinetuneParams) -> Any:
    """LoRA of the same rank on the same layers; PEFT trains the head whole, beside it."""
    from peft import get_peft_model

    config = lora_config(params)
    config.task_type = "SEQ_CLS"
    return get_peft_model(model, config)


def _arguments(
    params: FinetuneParams, model_params: ModelParams, model: Any, folder: Path
) -> TrainingArguments:
    """The trainer's settings of the adapter; checkpoints are for the best step alone, as nothing is resumed."""
    shared = training_arguments(params, model_params, folder, model_size=model.num_parameters())
    own = {
        "save_only_model": True,
        "save_total_limit": 1,
        "prediction_loss_only": True,
        "label_names": ["labels"],
        "remove_unused_columns": False,
    }
    return TrainingArguments(**{**shared, **own})
