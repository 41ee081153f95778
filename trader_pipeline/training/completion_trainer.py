"""TRL's SFTTrainer where it spends its time differently: same data format, callbacks and checkpoints, less work.

Belongs here: what differs from the stock trainer, weights of records among it, and the check of the loss mask on a real
batch.
"""

import time
from collections.abc import Callable
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from transformers import TrainerCallback
from trl import SFTTrainer
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from trader_pipeline.training.models import ModelError

IGNORED = -100


class WeightedCollator(DataCollatorForLanguageModeling):
    """TRL's padded batches, with each record's weight beside them: `weight`, float32, one entry a row."""

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        batch = super().torch_call(examples)
        batch["weight"] = torch.tensor([example["weight"] for example in examples], dtype=torch.float32)
        return batch


class CompletionTrainer(SFTTrainer):
    """Trains on the answer and its end of turn alone; projects to the vocabulary only where a label is.

    The loss is sum(w * ce) / sum(w * n) over the records of an optimiser step: w the record's weight, ce the summed
    cross-entropy of its n labels. Equal weights drop out. The validation loss is the same over all validation records.

    The stock trainer knows no weights, projects every position off GPUs, and trains whatever the chat template writes
    after the end of turn (a newline), which no generated answer ever needs.
    """

    def __init__(
        self, *args: Any, processing_class: Any, answers: set[str] | None = None, **kwargs: Any
    ) -> None:
        """`answers`: every answer of the corpus; the mask of the first batch trained on is checked against them."""
        collator = WeightedCollator(pad_token_id=processing_class.pad_token_id)
        super().__init__(*args, processing_class=processing_class, data_collator=collator, **kwargs)
        self._unchecked_answers = answers
        self.training_seconds = 0.0
        rows = self.eval_dataset
        counts = [sum(label != IGNORED for label in labels) for labels in rows["labels"]]
        weighted = sum(n * w for n, w in zip(counts, rows["weight"], strict=True))
        self._eval_labels_per_row = weighted / len(rows)

    def _prepare_dataset(self, dataset: Any, processing_class: Any, *args: Any, **kwargs: Any) -> Any:
        prepared = super()._prepare_dataset(dataset, processing_class, *args, **kwargs)
        end = processing_class.eos_token_id

        def cut_after_end_of_turn(record: dict[str, Any]) -> dict[str, Any]:
            length = len(record["labels"]) - record["labels"][::-1].index(end)
            return {"input_ids": record["input_ids"][:length], "labels": record["labels"][:length]}

        return prepared.map(cut_after_end_of_turn, desc="Cutting after the end of turn")

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        if "weight" not in self._signature_columns:  # columns outside the signature never reach the collator
            self._signature_columns.append("weight")

    def _get_num_items_in_batch(self, batch_samples: list[dict[str, Any]], device: torch.device) -> Any:
        """What the losses of one optimiser step's batches are divided by: their weighted labels together."""
        return torch.stack([weighted_labels(batch) for batch in batch_samples]).sum().to(device)

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Weighted mean cross-entropy over the batch's labels; with equal weights the stock trainer's up to rounding.

        Batches are padded on the right, so under a causal mask no label can see padding: no attention mask is needed.
        """
        following = inputs["labels"][:, 1:]
        labelled = (following != IGNORED).any(dim=0).nonzero().squeeze(1)
        outputs = model(input_ids=inputs["input_ids"], use_cache=False, logits_to_keep=labelled)
        targets = following[:, labelled]
        losses = cross_entropy(  # 0 where ignored
            outputs.logits.float().flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="none"
        ).view_as(targets)
        total = (losses.sum(dim=1) * inputs["weight"]).sum()
        count = weighted_labels(inputs) if num_items_in_batch is None else num_items_in_batch
        if self.model.training:
            self._total_train_tokens += int(inputs["attention_mask"].sum())
        return (total / count, outputs) if return_outputs else total / count

    def prediction_step(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Weigh each batch by its labels, so that the trainer's mean over rows becomes the mean over labels."""
        loss, logits, labels = super().prediction_step(model, inputs, *args, **kwargs)
        labels_per_row = weighted_labels(inputs) / len(inputs["labels"])
        return loss * labels_per_row / self._eval_labels_per_row, logits, labels

    def training_step(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Check the first batch's mask; time forward and backward passes alone, without validation and checkpoints."""
        if self._unchecked_answers is not None:
            check_mask(inputs, self.processing_class, self._unchecked_answers)
            self._unchecked_answers = None
        started = time.perf_counter()
        loss = super().training_step(model, inputs, *args, **kwargs)
        self.training_seconds += time.perf_counter() - started
        return loss

    @property
    def trained_tokens(self) -> int:
        """Tokens read in training so far, padding left out."""
        return self._total_train_tokens


class LastStepCallback(TrainerCallback):
    """Validate and keep a checkpoint after the last step too, so that every run has a best checkpoint."""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step >= state.max_steps:
            control.should_evaluate = control.should_save = True


class LogRowCallback(TrainerCallback):
    """Hand each new entry of the trainer's history to `receive`, as it happens."""

    def __init__(self, receive: Callable[[dict[str, Any]], None]) -> None:
        self.receive = receive

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.receive(state.log_history[-1])


def weighted_labels(batch: dict[str, Any]) -> torch.Tensor:
    """Labels that are predicted from what stands before them, each counted with its record's weight; a scalar."""
    return ((batch["labels"][:, 1:] != IGNORED).sum(dim=1) * batch["weight"]).sum()


def check_mask(batch: dict[str, Any], tokenizer: Any, answers: set[str]) -> None:
    """Every row's labels must be one run: an answer of the corpus and its end of turn, at the end of the row's text.

    Raises:
        ModelError: any other mask; the message prints the row token by token, trained ones marked.
    """
    for row, (ids, labels) in enumerate(zip(batch["input_ids"], batch["labels"], strict=True)):
        where = (labels != IGNORED).nonzero().flatten()
        length = int(batch["attention_mask"][row].sum())
        one_run = (
            len(where) > 1 and int(where[-1]) == length - 1 and int(where[-1] - where[0]) == len(where) - 1
        )
        trained = ids[where]
        right = (
            one_run
            and torch.equal(trained, labels[where])
            and int(trained[-1]) == tokenizer.eos_token_id
            and tokenizer.decode(trained[:-1], clean_up_tokenization_spaces=False) in answers
        )
        if not right:
            text = _marked(ids, labels, tokenizer)
            raise ModelError(f"the loss mask of row {row} is wrong; trained tokens are marked:\n{text}")


def _marked(ids: torch.Tensor, labels: torch.Tensor, tokenizer: Any) -> str:
    pieces = [
        (tokenizer.decode([int(i)]), int(label) != IGNORED) for i, label in zip(ids, labels, strict=True)
    ]
    return " ".join(f">>{piece!r}<<" if trained else repr(piece) for piece, trained in pieces)
