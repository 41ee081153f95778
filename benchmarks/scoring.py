"""Speed of decisions, scored and written: `python benchmarks/scoring.py [--prompts N] [--rounds N] [--adapter FOLDER]`.

An adapter of SmolLM2 answers prompts of simulated candles in three ways, in turn: `generate()` as people write it
(PEFT, float32, a prompt at a time), `generate()` at its best here (adapter folded in, bfloat16, batched), and scoring.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks._results import clock, interleaved, ratios, record, rounded, spread, table
from trader_pipeline.backtest import BacktestParams, run_backtest
from trader_pipeline.corpora.audit import AuditReport
from trader_pipeline.corpora.records import corpus_hash
from trader_pipeline.corpora.render import (
    SELL_CALL,
    SKIP,
    RenderParams,
    prompt_rows_of,
    prompt_steps,
    render_pick,
    render_trade_or_skip,
)
from trader_pipeline.corpora.steps import LabelledStep
from trader_pipeline.datasets import build_candidate_dataset
from trader_pipeline.evaluation.free_text import generate_answers
from trader_pipeline.evaluation.parsing import parse_answer
from trader_pipeline.evaluation.scoring import score_answers
from trader_pipeline.klines import SampleParams, simulate_klines
from trader_pipeline.options import OptionParams
from trader_pipeline.schema import Market
from trader_pipeline.schema.columns import NO_TRADE

LONGEST = 16
TRAINED_ON = 24
Asked = tuple[list[tuple[str, str]], list[list[str]], list[str]]
"""Prompts (system, user), their allowed answers, and the teacher's."""


def simulated_steps(candidates: int) -> list[LabelledStep]:
    """Decisions of a simulated year with so many calls on offer each."""
    candles = simulate_klines(SampleParams(years=1))["BTC"]
    market = Market("BTC", "1h")
    start = candles["open_time"].iloc[0].ceil("D") + pd.Timedelta(days=45)
    result = run_backtest(
        klines=candles,
        fine_klines=candles,
        market=market,
        start=start,
        end=start + pd.Timedelta(days=200),
        option_params=OptionParams(),
        params=BacktestParams(max_candidates=candidates),
    )
    dataset = build_candidate_dataset(result.steps, result.candidates, candles, step=market.step)
    dataset = dataset[dataset["exit_style"] == "hold_to_expiry"]
    return [s for s in prompt_steps(dataset) if len(s.step.candidates) == candidates]


def pick(steps: list[LabelledStep], wanted: int) -> Asked:
    """The first orders of each step's calls, two a step, as a policy asks."""
    rows = prompt_rows_of([s.step for s in steps[: -(-wanted // 2)]])
    chosen = {(s.step.underlying, s.step.decision_time): s.chosen for s in steps}
    prompts, allowed, labels = [], [], []
    for shuffle in range(2):
        asked = render_pick(rows, RenderParams(), shuffle=shuffle)
        prompts += zip(asked.system.to_pylist(), asked.user.to_pylist(), strict=True)
        allowed += asked.answers.to_pylist()
        keys = zip(asked.underlying.to_pylist(), asked.decision_time.to_pylist(), strict=True)
        for (underlying, moment), listed in zip(keys, asked.instruments.to_pylist(), strict=True):
            label = chosen[underlying, pd.Timestamp(moment)]
            labels.append(str(listed.index(label) + 1) if label in listed else NO_TRADE)
    return prompts[:wanted], allowed[:wanted], labels[:wanted]


def trade_or_skip(steps: list[LabelledStep], wanted: int) -> Asked:
    """One prompt a call, the calls of a moment behind each other."""
    rows = prompt_rows_of([s.step for s in steps[:wanted]]).slice(0, wanted)
    asked = render_trade_or_skip(rows, RenderParams())
    prompts = list(zip(asked.system.to_pylist(), asked.user.to_pylist(), strict=True))
    sold = {s.chosen for s in steps}
    labels = [SELL_CALL if name in sold else SKIP for name in rows["instrument"].to_pylist()]
    return prompts, [[SELL_CALL, SKIP]] * len(prompts), labels


def train(asked: list[Asked], folder: Path, model_params: Any) -> Path:
    """An adapter that has learnt to answer and to stop, which is all that speed asks of it."""
    from trader_pipeline.training.finetune import FinetuneParams, train_adapter

    rows = [
        {
            "kind": "trade_or_skip",
            "split": "val" if number % 8 == 7 else "train",
            "system": system,
            "user": user,
            "assistant": label,
        }
        for prompts, _, labels in asked
        for number, ((system, user), label) in enumerate(zip(prompts, labels, strict=True))
    ]
    corpus = pd.DataFrame(rows)
    train_adapter(
        corpus,
        audit=AuditReport(
            corpus_hash(corpus), len(corpus)
        ),  # no true audit: nothing is concluded from answers
        model_params=model_params,
        params=FinetuneParams(learning_rate=5e-4, max_length=2048),
        output_dir=folder / "adapter",
    )
    return folder / "adapter"


def generate_as_written(model: Any, tokenizer: Any, prompts: list[tuple[str, str]]) -> list[str]:
    """One prompt after the other, as a model card shows it."""
    texts = []
    for system, user in prompts:
        messages = [{"role": "system", "content": system}, {"role": "user", "content": user}]
        inputs = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        ).to(model.device)
        written = model.generate(**inputs, do_sample=False, max_new_tokens=LONGEST)
        texts.append(tokenizer.decode(written[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
    return texts


def measured(name: str, asked: Asked, models: dict[str, Any], rounds: int) -> list[str]:
    """One row: seconds of each way over the same prompts, ratios, and how often the answers are the same."""
    prompts, allowed, _ = asked
    tokenizer, answers = models["tokenizer"], {}
    ways: dict[str, Callable[[], list[str | None]]] = {
        "written": lambda: [
            parse_answer(text, own).answer
            for text, own in zip(
                generate_as_written(models["peft"], tokenizer, prompts), allowed, strict=True
            )
        ],
        "batched": lambda: [
            a.parsed.answer
            for a in generate_answers(models["folded"], tokenizer, prompts, allowed, max_new_tokens=LONGEST)
        ],
        "scored": lambda: [
            own[int(np.argmax(values))]
            for own, values in zip(
                allowed, score_answers(models["folded"], tokenizer, prompts, allowed), strict=True
            )
        ],
    }
    tasks = {way: lambda way=way: answers.__setitem__(way, ways[way]()) for way in ways}
    times = interleaved(tasks, rounds)
    each = {way: [t / len(prompts) for t in seconds] for way, seconds in times.items()}
    alike = {
        way: np.mean([a == b for a, b in zip(answers[way], answers["scored"], strict=True)])
        for way in ("written", "batched")
    }
    best = rounded(min(times["written"]) / min(times["scored"]))
    return [
        name, *(clock(each[way]) for way in ways), spread(ratios(times["written"], times["scored"])) + " x",
        f"{best} x", spread(ratios(times["batched"], times["scored"])) + " x",
        f"{alike['written']:.0%}, {alike['batched']:.0%}",
    ]  # fmt: skip


@click.command(help=__doc__)
@click.option("--prompts", default=24, show_default=True, help="decisions of each kind")
@click.option("--rounds", default=3, show_default=True)
@click.option("--adapter", type=click.Path(exists=True, path_type=Path), help="use this one, do not train")
@click.option(
    "--cache-dir", type=click.Path(path_type=Path), default=None, help="keeps the model dequantised"
)
def main(prompts: int, rounds: int, adapter: Path | None, cache_dir: Path | None) -> None:
    import torch
    from peft import PeftModel

    from trader_pipeline.training.models import ModelParams, load_adapter, load_base_model, resolved_dtype

    model_params = ModelParams(cache_dir=cache_dir)
    small, large = simulated_steps(6), simulated_steps(9)
    jobs = {
        "trade or skip, 2 answers": trade_or_skip(small, prompts),
        "pick, 7 answers": pick(small, prompts),
        "pick, 10 answers": pick(large, prompts),
    }
    with tempfile.TemporaryDirectory() as folder:
        later = small[prompts:]
        lessons = [trade_or_skip(later, TRAINED_ON), pick(later, TRAINED_ON)]
        adapter = adapter or train(lessons, Path(folder), model_params)
        folded, tokenizer = load_adapter(adapter, model_params)
        plain, _ = load_base_model(model_params)
        models = {
            "peft": PeftModel.from_pretrained(plain, str(adapter)).eval(),
            "folded": folded,
            "tokenizer": tokenizer,
        }
        rows = [measured(name, asked, models, rounds) for name, asked in jobs.items()]
    head = (
        "decision", "generate() as written", "generate(), folded, batched", "scored", "as written / scored",
        "of the fastest", "batched / scored", "same answer as scored",
    )  # fmt: skip
    text = f"""SmolLM2-135M with an adapter of rank 16, {prompts} prompts of simulated candles a kind, {rounds} rounds
in turn, {torch.get_num_threads()} threads, torch {torch.__version__}. As written: PEFT's adapter beside float32
weights, a prompt at a time, greedy, at most {LONGEST} tokens, stopping at the end of turn. Folded and batched: by 8,
products in {resolved_dtype("auto")}, as scoring has them. Times are of one decision, that is of one prompt.

{table(head, rows)}"""
    record("Decisions scored and written", text)


if __name__ == "__main__":
    main()
