"""TRL's SFTTrainer where it spends its time differently: same data format, callbacks and checkpoints, less work.

Belongs here: what differs from the stock trainer, weights of records among it, and the check of the loss mask on a real
batch.
"""

import time
from collections.abc import Callable
from typing import Any

import torch
from peft import PeftModel
from torch.nn.functional import cross_entropy
from transformers import TrainerCallback
from trl import SFTTrainer
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from trader_pipeline.training import packed_attention
from trader_pipeline.training.lora_linear import round_once
from trader_pipeline.training.models import ModelError
from trader_pipeline.training.packing import IGNORED, pack_batch, packs


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
    after the end of turn (a newline), which no generated answer ever needs. How the time is saved, and that nothing
    else changes, is in docs/training-speed.md.
    """

    def __init__(
        self,
        *args: Any,
        processing_class: Any,
        answers: set[str] | None = None,
        focal_gamma: float = 0.0,
        share_prefix: bool = True,
        **kwargs: Any,
    ) -> None:
        """
        Args:
            answers: every answer of the corpus; the mask of the first batch trained on is checked against them.
            focal_gamma: training scales each label's cross-entropy by (1 - p) ** gamma, p being the label's probability
                (focal loss, Lin et al. 2017: gradients flow through the factor too). Validation stays plain.
            share_prefix: the beginning that all records of a batch share is computed once, where rows are packed.
        """
        collator = WeightedCollator(pad_token_id=processing_class.pad_token_id)
        super().__init__(*args, processing_class=processing_class, data_collator=collator, **kwargs)
        self._unchecked_answers = answers
        self.focal_gamma, self.share_prefix = focal_gamma, share_prefix
        self.training_seconds = 0.0
        rows = self.eval_dataset
        counts = [sum(label != IGNORED for label in labels) for labels in rows["labels"]]
        weighted = sum(n * w for n, w in zip(counts, rows["weight"], strict=True))
        self._eval_labels_per_row = weighted / len(rows)
        round_once(self.model)
        base = self.model.get_base_model() if isinstance(self.model, PeftModel) else self.model
        self.packed = packs(base)
        if self.packed:
            base.set_attn_implementation(packed_attention.NAME)
            # No padding to save, and a step of records of one length alone is a step of one kind alone.
            self.args.train_sampling_strategy = "random"

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
        """What the losses of one optimiser step's batches are divided by: their weighted labels, of all processes."""
        count = torch.stack([weighted_labels(batch) for batch in batch_samples]).sum().to(device)
        return self.accelerator.gather(count).sum() if self._shares_count else count

    @property
    def _shares_count(self) -> bool:
        return self.args.average_tokens_across_devices and self.accelerator.num_processes > 1

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Weighted mean cross-entropy over the batch's labels; with equal weights the stock trainer's."""
        outputs, logits, targets, record = self._label_logits(model, inputs)
        losses = cross_entropy(logits.float(), targets, reduction="none")
        if self.focal_gamma and self.model.training:
            # Where p is 1 the factor's slope has no bound for gamma < 1; a loss that small needs none.
            losses = losses * (-torch.expm1(-losses)).clamp_min(1e-6) ** self.focal_gamma
        total = (losses * inputs["weight"][record]).sum()
        loss = total / (weighted_labels(inputs) if num_items_in_batch is None else num_items_in_batch)
        if num_items_in_batch is not None and self._shares_count:
            loss = (
                loss * self.accelerator.num_processes
            )  # the gradients' mean over the processes divides by it
        if self.model.training:
            self._count_tokens(inputs)
        return (loss, outputs) if return_outputs else loss

    def _label_logits(
        self, model: Any, inputs: dict[str, Any]
    ) -> tuple[Any, torch.Tensor, torch.Tensor, torch.Tensor]:
        """The model's outputs; per label its logits (labels, vocabulary), the label, and its row in the batch."""
        if self.packed:
            row = pack_batch(inputs, share_prefix=self.share_prefix)
            outputs = model(**row.model_inputs(), use_cache=False)
            return outputs, outputs.logits[0], row.targets, row.record
        # Batches are padded on the right, so under a causal mask no label can see padding: no attention mask is needed.
        following = inputs["labels"][:, 1:]
        columns = (following != IGNORED).any(dim=0).nonzero().squeeze(1)
        outputs = model(input_ids=inputs["input_ids"], use_cache=False, logits_to_keep=columns)
        targets = following[:, columns]
        record, column = (targets != IGNORED).nonzero(as_tuple=True)
        return outputs, outputs.logits[record, column], targets[record, column], record

    def _count_tokens(self, inputs: dict[str, Any]) -> None:
        tokens = inputs["attention_mask"].sum()
        self._total_train_tokens += int(self.accelerator.gather(tokens).sum())
        self._metrics["train"]["num_tokens"] = [self._total_train_tokens]  # TRL's name, logged with the loss

    def prediction_step(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Weigh each batch by its labels, so that the trainer's mean over rows becomes the mean over labels."""
        inputs = self._without_repeats(inputs)
        loss, logits, labels = super().prediction_step(model, inputs, *args, **kwargs)
        labels_per_row = weighted_labels(inputs) / len(inputs["labels"])
        return loss * labels_per_row / self._eval_labels_per_row, logits, labels

    def _without_repeats(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Rows that count: accelerate fills the last batches of several processes up with rows seen before.

        The trainer keeps the losses of as many rows as there are: a process left with none computes one for nothing.
        """
        state, size = self.accelerator.gradient_state, len(inputs["labels"])
        if self.accelerator.num_processes == 1 or not state.end_of_dataloader or state.remainder <= 0:
            return inputs
        rows = min(size, max(1, state.remainder - self.accelerator.process_index * size))
        return {name: values[:rows] for name, values in inputs.items()}

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
