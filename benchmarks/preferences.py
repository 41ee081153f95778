"""Speed of DPO here against TRL's own trainer: `python benchmarks/preferences.py [--pairs N] [--rounds R]`.

Both train the same pairs on from the same adapter, in the same steps and precision, in turns. Ours is timed with the
scoring of its reference; stock asks its reference in every step. Pairs share a prompt of 4 candidates, as real ones do.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import pandas as pd
import torch
from datasets import Dataset
from peft import get_peft_model
from trl import DPOConfig, DPOTrainer

from trader_pipeline.training.adapter_files import load_start, write_adapter
from trader_pipeline.training.models import ModelParams, load_base_model
from trader_pipeline.training.params import FinetuneParams
from trader_pipeline.training.preferences import build_preference_trainer
from trader_pipeline.training.records import chat_preferences
from trader_pipeline.training.trainer_settings import lora_config, training_arguments


def pair_corpus(pairs: int) -> pd.DataFrame:
    rows = []
    for i in range(pairs + 4):
        lines = [
            f"[{k}] BTC-27DEC24-{60 + 5 * k + i % 7}000-C - Strike: {60 + 5 * k + i % 7}000, DTE: {7 + k}.{i % 10}, "
            f"Delta: 0.{50 - 8 * k + i % 5}, IV: 0.6{k}, Premium yield: 0.{90 - 9 * k}%"
            for k in range(1, 5)
        ]
        user = "\n".join(
            [f"Underlying: BTC, spot {64210 + i} USD", *lines, "Reply with the index or NO_TRADE."]
        )
        answers = ("2", "NO_TRADE") if i % 2 else ("NO_TRADE", "4")
        split = "train" if i < pairs else "val"
        rows.append((f"r{i}", split, "preference", "You decide on covered calls.", user, *answers))
    names = ["record_id", "split", "kind", "system", "user", "chosen_answer", "rejected_answer"]
    return pd.DataFrame(rows, columns=names)


def train_ours(corpus: pd.DataFrame, start: Path, model_params: ModelParams, args: dict) -> float:
    model, tokenizer = load_base_model(model_params)
    started = time.perf_counter()
    trainer = build_preference_trainer(
        corpus, load_start(model, start), tokenizer, params=FinetuneParams(objective="dpo"), args=args
    )
    trainer.train()
    return report("ours", trainer, started)


def train_stock(corpus: pd.DataFrame, start: Path, model_params: ModelParams, args: dict) -> float:
    model, tokenizer = load_base_model(model_params)
    started = time.perf_counter()
    trainer = DPOTrainer(
        model=load_start(model, start),
        args=DPOConfig(**{**args, "train_sampling_strategy": "random"}, max_length=None, beta=0.1),
        train_dataset=Dataset.from_list(chat_preferences(corpus, "train")),
        processing_class=tokenizer,
    )
    trainer.train()
    return report("stock", trainer, started)


def report(name: str, trainer: DPOTrainer, started: float) -> float:
    seconds = time.perf_counter() - started
    speed = len(trainer.train_dataset) / seconds
    losses = [round(entry["loss"], 4) for entry in trainer.state.log_history if "loss" in entry]
    print(f"{name}: {seconds:.1f} s, {speed:.2f} pairs/s, losses {losses}", flush=True)
    return speed


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--cache-dir", type=Path, default=Path("data/models"))
    parser.add_argument("--pairs", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args()
    model_params = ModelParams(model_name=given.model, cache_dir=given.cache_dir)
    params = FinetuneParams(
        objective="dpo", learning_rate=1e-5, max_steps=given.pairs // 4, gradient_accumulation_steps=1
    )
    corpus = pair_corpus(given.pairs)
    with tempfile.TemporaryDirectory() as folder:
        model, tokenizer = load_base_model(model_params)
        torch.manual_seed(0)
        model = get_peft_model(model, lora_config(params))
        write_adapter(model, tokenizer, Path(folder) / "start")
        args = training_arguments(params, model_params, Path(folder) / "checkpoints")
        args |= {"eval_strategy": "no", "eval_on_start": False, "save_strategy": "no"}
        args |= {"load_best_model_at_end": False}
        speeds: dict[str, list[float]] = {"ours": [], "stock": []}
        for _ in range(given.rounds):
            for name, train in (("ours", train_ours), ("stock", train_stock)):
                speeds[name].append(train(corpus, Path(folder) / "start", model_params, dict(args)))
    ours, stock = (statistics.median(speeds[name]) for name in ("ours", "stock"))
    print(f"ours {ours:.2f}, stock {stock:.2f} pairs/s: {ours / stock:.1f} times")


if __name__ == "__main__":
    main()
