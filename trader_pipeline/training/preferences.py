"""DPO on pairs of answers: the second objective, which goes on from an adapter and is held to it.

Belongs here: what is asked of a corpus of pairs, TRL's DPOTrainer where it spends its time differently, and the check
of the masks on a real batch. Does not belong here: how pairs are drawn (`corpora.preferences`), single answers
(`completion_trainer`), saving, resuming and recording (`finetune`).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from datasets import Dataset, disable_progress_bars
from torch.utils.data import DataLoader
from trl import DPOConfig, DPOTrainer

from trader_pipeline.corpora.render import contains_hindsight
from trader_pipeline.training.completion_trainer import IGNORED, check_mask
from trader_pipeline.training.lora_linear import round_once
from trader_pipeline.training.models import ModelError
from trader_pipeline.training.pair_forward import read_prompts_once
from trader_pipeline.training.params import FinetuneParams
from trader_pipeline.training.processes import say
from trader_pipeline.training.records import (
    CorpusError,
    chat_preferences,
    check_encodings,
    record_weights,
    trained_rows,
)

REFERENCE = "ref"
"""TRL's name for the frozen copy of the adapter that training goes on from."""
_ANSWERS = ("chosen_answer", "rejected_answer")
_TEXT = ("kind", "split", "system", "user", *_ANSWERS)


class PreferenceTrainer(DPOTrainer):
    """TRL's DPO on pairs, without the newline after an answer, each prompt read once, the reference asked once.

    TRL copies the adapter that it is given as `ref`; that copy scores every pair before the first step
    (`precompute_ref_log_probs`) and is then dropped. So training runs one model with one adapter, and checkpoints hold
    that one. `evaluate` takes no other records than those given here: the reference for them is gone.
    """

    def __init__(self, *args: Any, pairs: set[tuple[str, str]], **kwargs: Any) -> None:
        """`pairs`: every (chosen, rejected) of the corpus; the first batch trained on is checked against them."""
        super().__init__(*args, **kwargs)
        self._unchecked_pairs: set[tuple[str, str]] | None = pairs
        self.training_seconds = 0.0
        self.model.delete_adapter(REFERENCE)

    def _prepare_dataset(self, dataset: Any, processing_class: Any, *args: Any, **kwargs: Any) -> Any:
        prepared = super()._prepare_dataset(dataset, processing_class, *args, **kwargs)
        end = processing_class.eos_token_id

        def cut_after_end_of_turn(record: dict[str, Any]) -> dict[str, Any]:
            cut = {name: _until_last(record[name], end) for name in ("chosen_ids", "rejected_ids")}
            return {**cut, "length": len(record["prompt_ids"]) + sum(map(len, cut.values()))}

        return prepared.map(cut_after_end_of_turn, desc="Cutting after the end of turn")

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        if "length" not in self._signature_columns:  # else it is dropped, and batches cannot be grouped by it
            self._signature_columns.append("length")

    def _precompute_ref_logps(self, dataset: Dataset, name: str, batch_size: int) -> Dataset:
        """As TRL's, but for its cache file: processes cannot share one for records in memory."""
        if REFERENCE not in self.model.peft_config:
            raise ModelError(
                "the reference is the adapter that training goes on from, and its copy is gone (or never was): TRL"
                " would take the bare model. Build another trainer for other records"
            )
        read_prompts_once(self.model.get_base_model())
        say(f"reference: scoring {len(dataset)} pairs ({name})")
        loader = DataLoader(
            dataset, batch_size=self.args.per_device_eval_batch_size, collate_fn=self.data_collator
        )
        scores = [
            self.accelerator.gather_for_metrics(self.compute_ref_log_probs(self.model, batch))
            for batch in self.accelerator.prepare(loader)
        ]
        for side, parts in zip(("chosen", "rejected"), zip(*scores, strict=True), strict=True):
            dataset = dataset.add_column(f"ref_{side}_logps", torch.cat(parts).cpu().numpy())
        return dataset

    def training_step(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Check the first batch's masks; time forward and backward passes alone."""
        if self._unchecked_pairs is not None:
            check_pairs(inputs, self.processing_class, self._unchecked_pairs)
            self._unchecked_pairs = None
        started = time.perf_counter()
        loss = super().training_step(model, inputs, *args, **kwargs)
        self.training_seconds += time.perf_counter() - started
        return loss

    @property
    def trained_tokens(self) -> int:
        """Tokens of prompts and answers in training so far, a prompt counted with each of its two answers."""
        return int(self._total_train_tokens)


def build_preference_trainer(
    corpus: pd.DataFrame,
    model: Any,
    tokenizer: Any,
    *,
    params: FinetuneParams,
    args: Mapping[str, Any],
    callbacks: Sequence[Any] = (),
) -> PreferenceTrainer:
    """A trainer over the corpus' pairs, the reference's log-probabilities already taken.

    Where `max_steps` reads fewer pairs than there are, as many are drawn by the seed, and none is scored in vain.

    Args:
        corpus: rows that passed `check_preferences` and `check_preference_encodings`.
        model: a PeftModel with the adapter to go on from, loaded trainable under PEFT's default name.
        args: fields of TrainingArguments.

    Raises:
        ModelError: the model has no adapter to go on from.
    """
    adapters = list(getattr(model, "peft_config", {}))
    if adapters != ["default"]:
        raise ModelError(
            f"objective dpo goes on from one adapter named default, the model has {adapters or 'none'}; train one with"
            " objective sft first and give its folder"
        )
    disable_progress_bars()  # of the tokenising, which takes moments
    config = DPOConfig(**{**args, "max_length": None}, beta=params.beta, precompute_ref_log_probs=True)
    round_once(model)
    rows = trained_rows(corpus)
    return PreferenceTrainer(
        model=model,
        args=config,
        train_dataset=_read_rows(Dataset.from_list(chat_preferences(corpus, "train")), config),
        eval_dataset=Dataset.from_list(chat_preferences(corpus, "val")),
        processing_class=tokenizer,
        callbacks=list(callbacks),
        pairs=set(zip(rows["chosen_answer"], rows["rejected_answer"], strict=True)),
    )


def check_preferences(corpus: pd.DataFrame) -> None:
    """Refuse pairs without train or val rows, with hindsight lines, an empty answer, equal answers, or weights.

    Raises:
        CorpusError: names the record.
    """
    missing = [column for column in _TEXT if column not in corpus.columns]
    if missing:
        raise CorpusError(
            f"objective dpo trains on pairs of answers, and the corpus lacks the columns {missing}; build one with"
            " 'trader-pipeline corpus build --kind preference', or set finetune.objective to sft"
        )
    for split in ("train", "val"):
        if not (corpus["split"] == split).any():
            raise CorpusError(f"the corpus has no {split!r} pairs; both train and val are needed")
    rows = trained_rows(corpus)
    for (label, row), weight in zip(rows.iterrows(), record_weights(rows), strict=True):
        if fault := _fault_of(row, weight):
            raise CorpusError(f"pair {row.get('record_id', label)} ({row['split']}) {fault}")


def check_preference_encodings(corpus: pd.DataFrame, tokenizer: Any, *, max_length: int) -> None:
    """Prompt and either answer fit, and encode as scoring does; as `records.check_encodings`, for both answers.

    Raises:
        CorpusError: names the record.
    """
    for name in _ANSWERS:
        check_encodings(corpus.assign(assistant=corpus[name]), tokenizer, max_length=max_length)


def check_pairs(batch: Mapping[str, Any], tokenizer: Any, pairs: set[tuple[str, str]]) -> None:
    """The batch's first half are chosen, its second half rejected answers, each trained with its end of turn alone.

    Raises:
        ModelError: another mask, two prompts in one pair, or answers that are no pair of the corpus; the message prints
            the tokens, trained ones marked.
    """
    labels = batch["input_ids"].masked_fill(batch["completion_mask"] == 0, IGNORED)
    check_mask({**batch, "labels": labels}, tokenizer, {answer for pair in pairs for answer in pair})
    chosen, rejected = (range(half, half + len(labels) // 2) for half in (0, len(labels) // 2))
    for pair in zip(chosen, rejected, strict=True):
        prompts = [_decoded(batch, row, tokenizer, completion=False) for row in pair]
        answers = tuple(_decoded(batch, row, tokenizer, completion=True) for row in pair)
        if (
            prompts[0] != prompts[1]
            or tuple(a.removesuffix(tokenizer.eos_token) for a in answers) not in pairs
        ):
            raise ModelError(
                f"pair {pair[0]} of the batch is none of the corpus: chosen {answers[0]!r}, rejected {answers[1]!r};"
                f" prompts:\n{prompts[0]!r}\n{prompts[1]!r}"
            )


def _fault_of(row: pd.Series, weight: float) -> str:
    if row["kind"] != "preference":
        return f"is of kind {row['kind']}; objective dpo trains on preferences alone"
    if contains_hindsight(row["user"]):
        return "holds hindsight lines; build the corpus with them off to train"
    if not all(row[name].strip() for name in _ANSWERS):
        return "has an empty answer"
    if row["chosen_answer"] == row["rejected_answer"]:
        return f"has the same answer twice: {row['chosen_answer']!r}"
    if not np.isclose(weight, 1):
        return f"has weight {weight:g}; DPO counts every pair alike: drop the weights, or the pair"
    return ""


def _read_rows(dataset: Dataset, config: DPOConfig) -> Dataset:
    per_step = config.train_batch_size * config.gradient_accumulation_steps * config.world_size
    if not 0 < config.max_steps * per_step < len(dataset):
        return dataset
    return dataset.shuffle(seed=config.seed).select(range(config.max_steps * per_step))


def _until_last(ids: list[int], end: int) -> list[int]:
    return ids[: len(ids) - ids[::-1].index(end)]


def _decoded(batch: Mapping[str, Any], row: int, tokenizer: Any, *, completion: bool) -> str:
    wanted = (batch["attention_mask"][row] == 1) & (batch["completion_mask"][row] == int(completion))
    ids: torch.Tensor = batch["input_ids"][row][wanted]
    return str(tokenizer.decode(ids, clean_up_tokenization_spaces=False))
