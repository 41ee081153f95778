"""Speed of fine-tuning, scoring and token counts here: `python benchmarks/training.py [--records N] [--dtype D]`.

Records are as long as real ones (about 220 tokens) and follow a rule that can be learnt, so losses can be compared.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from trader_pipeline.corpora.audit import AuditReport
from trader_pipeline.corpora.records import corpus_hash
from trader_pipeline.evaluation.scoring import score_answers
from trader_pipeline.training.finetune import FinetuneParams, train_adapter
from trader_pipeline.training.lengths import length_figures, token_lengths
from trader_pipeline.training.models import (
    ModelParams,
    encode_prompt,
    load_adapter,
    load_base_model,
    load_tokenizer,
    resolved_dtype,
)

SYSTEM = (
    "You decide on covered calls for a holder of one coin. Answer with exactly one of the allowed answers."
)


def candidate_line(index: int, delta: float, rng: np.random.Generator) -> str:
    strike, dte = int(rng.integers(40, 120)) * 1000, rng.uniform(3, 30)
    return (
        f"[{index}] BTC-27DEC24-{strike}-C — Strike: {strike}, DTE: {dte:.1f}, Delta: {delta:.2f}, "
        f"IV: {rng.uniform(0.4, 0.9):.2f}, Yield: {rng.uniform(0.2, 3):.2f}%"
    )


def prompt_and_answer(rng: np.random.Generator, candidates: int) -> tuple[str, str]:
    """The rule: sell the highest delta; a single candidate is sold above 0.3."""
    deltas = rng.uniform(0.1, 0.6, candidates)
    names = ("Trend 1d", "Trend 7d", "Trend 30d", "Realised vol 30d", "Drawdown")
    market = "\n".join(f"{name}: {rng.normal(0, 9):+.1f}%" for name in names)
    lines = "\n".join(candidate_line(i + 1, delta, rng) for i, delta in enumerate(deltas))
    if candidates == 1:
        ask, answer = "Reply with SELL_CALL or SKIP.", "SELL_CALL" if deltas[0] > 0.3 else "SKIP"
    else:
        ask, answer = "Reply with the index of one candidate or NO_TRADE.", str(int(deltas.argmax()) + 1)
    return f"Underlying: BTC, spot 64210 USD\n{market}\n{lines}\n{ask}", answer


def learnable_corpus(records: int, candidates: int) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = []
    for i in range(records):
        user, answer = prompt_and_answer(rng, candidates)
        split = "val" if i % 8 == 7 else "train"
        rows.append(
            {"kind": "trade_or_skip", "split": split, "system": SYSTEM, "user": user, "assistant": answer}
        )
    return pd.DataFrame(rows)


def print_length_speed(records: int, model_params: ModelParams) -> None:
    started = time.perf_counter()
    tokenizer = load_tokenizer(model_params)
    loaded = time.perf_counter()
    print(f"load the tokenizer alone: {loaded - started:.1f} s")
    corpus = learnable_corpus(records, 2)
    started = time.perf_counter()
    lengths = token_lengths(corpus, tokenizer)
    wall = time.perf_counter() - started
    print(
        f"token counts: {records} records in {wall:.2f} s, {lengths.sum() / wall / 1e6:.1f} million tokens/s"
    )
    print(length_figures(lengths, max_length=1024))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=96)
    parser.add_argument("--candidates", type=int, default=2)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--learning-rate", type=float, default=2e-4)
    parser.add_argument("--cache-dir", type=Path, default=None)
    parser.add_argument("--lengths", type=int, default=0, help="only count the tokens of that many records")
    options = parser.parse_args()
    model_params = ModelParams(dtype=options.dtype, cache_dir=options.cache_dir)
    if options.lengths:
        print_length_speed(options.lengths, model_params)
        return
    started = time.perf_counter()
    base, tokenizer = load_base_model(model_params)
    print(f"load: {time.perf_counter() - started:.1f} s, computing in {resolved_dtype(options.dtype)}")
    corpus = learnable_corpus(options.records, options.candidates)
    length = np.mean([len(encode_prompt(tokenizer, SYSTEM, user)) for user in corpus["user"]])
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        params = FinetuneParams(learning_rate=options.learning_rate)
        # No true audit: the rule to be learnt is a shortcut, and would be found.
        audit = AuditReport(corpus_hash(corpus), len(corpus))
        result = train_adapter(
            corpus,
            audit=audit,
            model_params=model_params,
            params=params,
            output_dir=Path(folder) / "adapter",
        )
        wall = time.perf_counter() - started
        print(
            f"train: {len(corpus)} records of {length:.0f} tokens in {wall:.0f} s, "
            f"{result.tokens_per_second:.0f} tokens/s"
        )
        print(result.log.query("split == 'val'").to_string(index=False))
        adapted, _ = load_adapter(Path(folder) / "adapter", model_params)
    for name, model in (("base", base), ("adapter", adapted)):
        for candidates, answers in ((2, ["SELL_CALL", "SKIP"]), (9, [*map(str, range(1, 10)), "NO_TRADE"])):
            users = learnable_corpus(8, candidates)["user"]
            started = time.perf_counter()
            score_answers(
                model,
                tokenizer,
                [(SYSTEM, user) for user in users],
                [answers] * len(users),
                dtype=options.dtype,
            )
            speed = len(users) / (time.perf_counter() - started)
            tokens = np.mean([len(encode_prompt(tokenizer, SYSTEM, user)) for user in users])
            print(
                f"score, {name}: prompts of {tokens:.0f} tokens, {len(answers)} answers: {speed:.1f} decisions/s"
            )


if __name__ == "__main__":
    main()
