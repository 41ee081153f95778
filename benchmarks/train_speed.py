"""Speed of fine-tuning beside stock TRL: `make bench-train`, or `python benchmarks/train_speed.py [--steps N]`.

Both train a LoRA adapter of rank 16 on all linear layers, on the same records, labels, seed, learning rate and number
of steps, in processes of their own, in turn. Stock is `SFTTrainer` with `SFTConfig` as it comes. Both adapters are then
loaded anew and their validation loss is computed in float32 by the same plain forward pass.

Tokens are real ones, padding left out; seconds are those of the optimiser steps, without loading and validation. A
shared beginning counts once for each record that has it, as it does for stock.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks._results import ratios, record, rounded, spread, table

BATCH = 4
SHAPE = "shape-1.5b"
# Dense bfloat16 peaks from the makers' data sheets, in TFLOP/s; a device's name holds the key.
PEAKS = {"H200": 989.0, "H100": 989.0, "A100": 312.0, "L40S": 362.0, "L4": 121.0, "4090": 165.0}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=24, help=f"optimiser steps of {BATCH} records")
    parser.add_argument("--records", type=int, default=96, help="training records; steps go round them")
    parser.add_argument("--validation-records", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--learning-rate", type=float, default=2e-4)
    parser.add_argument(
        "--model", default="smollm2-135m-instruct", help=f"as in settings, or {SHAPE}: random weights"
    )
    parser.add_argument("--cache-dir", default="data/models", help="where SmolLM2's weights are kept")
    parser.add_argument("--stock-dtype", default="bfloat16", choices=("bfloat16", "float32"))
    parser.add_argument("--child", choices=("stock", "ours"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.steps * BATCH % options.records:
        parser.error(
            f"--steps {options.steps} of {BATCH} records must go whole times round --records {options.records}"
        )
    if options.child:
        print(json.dumps(_trained(options)))
    else:
        _compare(options)


def _compare(options: argparse.Namespace) -> None:
    runs: dict[str, list[dict[str, Any]]] = {"stock": [], "ours": []}
    for number in range(options.rounds):
        for way in runs:
            runs[way].append(_child(way))
            figures = ", ".join(f"{name} {value}" for name, value in runs[way][-1].items())
            print(f"round {number + 1}, {way}: {figures}", flush=True)
    speeds = {way: [run["tokens_per_second"] for run in runs[way]] for way in runs}
    losses = {way: runs[way][0]["validation_loss"] for way in runs}
    faster = ratios(speeds["ours"], speeds["stock"])
    rows = [
        [
            way,
            spread(speeds[way]),
            f"{losses[way]:.4f}",
            rounded(max(run["peak_gb"] for run in runs[way])),
            runs[way][0].get("utilisation", "-"),
        ]
        for way in runs
    ]
    head = ["", "tokens/s", "validation loss (float32)", "peak memory, GB", "model FLOP utilisation"]
    first = runs["ours"][0]
    off = losses["ours"] / losses["stock"] - 1
    record(
        f"Fine-tuning beside stock TRL, {options.model}",
        f"{options.steps} steps of {BATCH} records, {first['mean_length']:.0f} tokens on average, {first['device']},"
        f" {options.threads} threads; stock multiplies in {options.stock_dtype}.\n\n{table(head, rows)}\n\n"
        f"Ours is {spread(faster)} times as fast; its validation loss is {off:+.2%} off stock's"
        f" (before training: {first['loss_before']:.4f}).",
    )


def _child(way: str) -> dict[str, Any]:
    command = [sys.executable, __file__, *sys.argv[1:], "--child", way]
    threads = sys.argv[sys.argv.index("--threads") + 1] if "--threads" in sys.argv else "2"
    done = subprocess.run(
        command, env={**os.environ, "OMP_NUM_THREADS": threads}, stdout=subprocess.PIPE, check=True, text=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def _trained(options: argparse.Namespace) -> dict[str, Any]:
    import torch
    from transformers import set_seed

    torch.set_num_threads(options.threads)
    set_seed(0)
    model, tokenizer = _model(options)
    base = model.state_dict() if options.model == SHAPE else None
    train, val = _encoded(options, tokenizer)
    before = _plain_loss(model, val)
    with tempfile.TemporaryDirectory() as folder:
        trainer, clock = _trainer(options, model, tokenizer, train, val, folder)
        trainer.train()
        peak = _peak_gb()
        trainer.save_model(f"{folder}/adapter")
        parameters = sum(
            p.numel() for n, p in model.named_parameters() if "lora" not in n and "embed" not in n
        )
        del trainer, model
        after = _plain_loss(_reloaded(options, folder, base), val)
    tokens = sum(len(row["input_ids"]) for row in train) * options.steps * BATCH // options.records
    speed = tokens / clock.seconds
    return {
        "tokens_per_second": round(speed, 1),
        "tokens_per_core_second": round(tokens / clock.cpu, 1),
        "validation_loss": after,
        "loss_before": before,
        "peak_gb": round(peak, 2),
        "mean_length": tokens / options.steps / BATCH,
        "device": _device(),
        **_utilisation(speed, parameters),
    }


def _model(options: argparse.Namespace) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModelForCausalLM, Qwen2Config

    from trader_pipeline.training.models import ModelParams, load_base_model, load_tokenizer

    cache = Path(options.cache_dir)
    if options.model != SHAPE:
        return load_base_model(ModelParams(model_name=options.model, cache_dir=cache))
    if not torch.cuda.is_available():
        raise SystemExit(f"{SHAPE} needs a GPU; leave --model out to measure SmolLM2 here")
    tokenizer = load_tokenizer(ModelParams(cache_dir=cache))
    config = Qwen2Config(
        vocab_size=151936,
        hidden_size=1536,
        intermediate_size=8960,
        num_hidden_layers=28,
        num_attention_heads=12,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return AutoModelForCausalLM.from_config(config).to("cuda"), tokenizer


def _encoded(
    options: argparse.Namespace, tokenizer: Any
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Train and validation rows as token ids: the same labels for both, the answer and its end of turn."""
    import numpy as np

    from benchmarks.training import SYSTEM, prompt_and_answer
    from trader_pipeline.training.models import encode_answer, encode_prompt

    rng = np.random.default_rng(0)
    rows = []
    for number in range(options.records + options.validation_records):
        user, answer = prompt_and_answer(rng, 3 + number % 2)
        prompt, end = encode_prompt(tokenizer, SYSTEM, user), encode_answer(tokenizer, answer)
        rows.append({"input_ids": prompt + end, "labels": [-100] * len(prompt) + end, "weight": 1.0})
    return rows[: options.records], rows[options.records :]


def _trainer(
    options: argparse.Namespace, model: Any, tokenizer: Any, train: Any, val: Any, folder: str
) -> tuple[Any, Any]:
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer

    from trader_pipeline.training.completion_trainer import CompletionTrainer

    same = {
        "output_dir": f"{folder}/checkpoints",
        "max_steps": options.steps,
        "per_device_train_batch_size": BATCH,
        "learning_rate": options.learning_rate,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 2,
        "seed": 0,
        "report_to": [],
        "save_strategy": "no",
        "use_cpu": not torch.cuda.is_available(),
        "disable_tqdm": True,
    }
    if options.child == "ours":
        own = {"bf16": True, "gradient_checkpointing": False}
    else:
        own = {} if options.stock_dtype == "bfloat16" else {"bf16": False}
    clock = _clock()
    trainer = (CompletionTrainer if options.child == "ours" else SFTTrainer)(
        model=model,
        args=SFTConfig(**same, **own),
        train_dataset=Dataset.from_list(train),
        eval_dataset=Dataset.from_list(val),
        processing_class=tokenizer,
        peft_config=LoraConfig(task_type="CAUSAL_LM", r=16, lora_alpha=32, target_modules="all-linear"),
        callbacks=[clock],
    )
    return trainer, clock


def _clock() -> Any:
    from transformers import TrainerCallback

    class StepClock(TrainerCallback):
        """Seconds of the optimiser steps, from the first forward pass of each to its end; of all cores in `cpu`."""

        seconds = cpu = 0.0

        def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
            self.began, self.cpu_began = time.perf_counter(), time.process_time()

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            _wait()
            self.seconds += time.perf_counter() - self.began
            self.cpu += time.process_time() - self.cpu_began

    return StepClock()


def _reloaded(options: argparse.Namespace, folder: str, base: Any) -> Any:
    """A fresh base model in float32 with the saved adapter, as PEFT reads it."""
    from peft import PeftModel

    model, _ = _model(options)
    if base is not None:
        model.load_state_dict(
            {name.replace("base_layer.", ""): w for name, w in base.items() if "lora" not in name}
        )
    return PeftModel.from_pretrained(model, f"{folder}/adapter")


def _plain_loss(model: Any, rows: list[dict[str, Any]]) -> float:
    """Mean cross-entropy over all labels, one record at a time, in float32."""
    import torch

    model.float().eval()
    total, labels = 0.0, 0
    for row in rows:
        ids = torch.tensor([row["input_ids"]], device=model.device)
        count = sum(label != -100 for label in row["labels"])
        with torch.inference_mode():
            logits = model(input_ids=ids, logits_to_keep=count + 1).logits[0, :-1]
        total += torch.nn.functional.cross_entropy(logits, ids[0, -count:], reduction="sum").item()
        labels += count
    return total / labels


def _wait() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _peak_gb() -> float:
    """On a GPU of its memory, else of the process; loading and the validation before training are part of it."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def _device() -> str:
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else "CPU"


def _utilisation(tokens_per_second: float, parameters: int) -> dict[str, str]:
    """LoRA multiplies each token with each weight twice: forward, and back to the token; 4 operations a weight."""
    peak = next((value for name, value in PEAKS.items() if name in _device()), None)
    if peak is None:
        return {}
    return {"utilisation": f"{tokens_per_second * 4 * parameters / (peak * 1e12):.1%}"}


if __name__ == "__main__":
    main()
