"""Trainers and whole training runs of the tiny model, with settings under which it learns in seconds."""

import pandas as pd
from datasets import Dataset
from trl import SFTConfig

from trader_pipeline.training.completion_trainer import CompletionTrainer
from trader_pipeline.training.finetune import AdapterResult, FinetuneParams, train_adapter
from trader_pipeline.training.models import ModelParams, load_base_model
from trader_pipeline.training.records import chat_records
from trader_pipeline.training.trainer_settings import lora_config, training_arguments
from trader_pipeline_tests.training.corpus_factory import passed_audit

TINY = ModelParams(model_name="tiny", dtype="float32")
PARAMS = FinetuneParams(learning_rate=5e-3, max_steps=10, eval_steps=4, warmup_steps=2, r=4, lora_alpha=8)


def tiny_trainer(corpus, folder, kind=CompletionTrainer, **changes):
    """A trainer of `kind` over the corpus, not yet run, and its tokenizer; `changes` to PARAMS."""
    params = PARAMS.model_copy(update=changes)
    model, tokenizer = load_base_model(TINY)
    trainer = kind(
        model=model,
        args=SFTConfig(**training_arguments(params, TINY, folder), max_length=params.max_length),
        train_dataset=Dataset.from_list(chat_records(corpus, "train")),
        eval_dataset=Dataset.from_list(chat_records(corpus, "val")),
        processing_class=tokenizer,
        peft_config=lora_config(params),
    )
    return trainer, tokenizer


def whole_batch(trainer):
    """All training records in one batch: lengths differ, so there is padding."""
    return trainer.data_collator(list(trainer.train_dataset))


def train_tiny(
    corpus: pd.DataFrame, folder, *, audit=None, model_params=TINY, start_from=None, fresh=False, **changes
) -> AdapterResult:
    """One run of a single step (`changes` to PARAMS) into `folder`/adapter, on a corpus whose audit passed."""
    return train_adapter(
        corpus,
        audit=audit or passed_audit(corpus),
        model_params=model_params,
        params=PARAMS.model_copy(update={"max_steps": 1, **changes}),
        output_dir=folder / "adapter",
        start_from=start_from,
        fresh=fresh,
    )
