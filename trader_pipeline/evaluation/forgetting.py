"""What fine-tuning cost the model: loss and exact answers on stable instructions that no training read.

Belongs here: choosing those instructions, and the measure before and after. Does not belong here: how an adapter is
trained, with or without the stable mix (`training`), or what the figures look like (`report`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from trader_pipeline.evaluation.params import ForgettingParams
from trader_pipeline.schema import validate
from trader_pipeline.schema.tables import FORGETTING
from trader_pipeline.training.encoding import encode_answers, encode_prompts
from trader_pipeline.training.models import ModelError, ModelParams, Precision, computing_in, load_base_model

BASE, ADAPTER, UNMIXED = "base model", "adapter", "adapter without the stable mix"
_IGNORED = -100


@dataclass(frozen=True)
class AnswerLosses:
    """One entry an instruction: summed cross-entropy (nats), tokens of the answer and end of turn, exact or not."""

    sums: np.ndarray
    tokens: np.ndarray
    exact: np.ndarray

    @property
    def loss(self) -> float:
        """Mean cross-entropy in nats per token, as training counts it."""
        return float(self.sums.sum() / self.tokens.sum())


@dataclass(frozen=True)
class Forgetting:
    """A frame of FORGETTING: the base model first, then each adapter against it."""

    table: pd.DataFrame

    @property
    def adapter(self) -> pd.Series:
        """The adapter's row."""
        return self.table[self.table["model"] == ADAPTER].iloc[0]

    @property
    def sentence(self) -> str:
        """What the adapter cost, in one line."""
        return forgetting_sentences(self.table)[0]

    @property
    def within_budget(self) -> bool:
        """Whether the adapter's loss rose by no more than the budget."""
        return bool(within_budget(self.table)[self.table["model"] == ADAPTER].all())


def within_budget(table: pd.DataFrame) -> pd.Series:
    """For each row of FORGETTING whether its loss rose by at most the budget; the base model's own is within."""
    return (table["loss_change_pct"] > table["budget_pct"]).eq(False)


def forgetting_sentences(table: pd.DataFrame) -> list[str]:
    """A line for each adapter of FORGETTING: what became of loss and exact answers, and the budget's verdict."""
    rows = table.assign(within=within_budget(table)).to_dict("records")
    exact = {row["model"]: f"{100 * row['exact_share']:.1f} %" for row in rows}
    losses = {row["model"]: f"{row['loss']:.4f}" for row in rows}
    return [
        f"{row['model']}: loss on {row['instructions']} held-out stable instructions {losses[BASE]} ->"
        f" {losses[row['model']]} nats per token, {row['loss_change_pct']:+.2f} % (interval"
        f" {row['change_low_pct']:+.2f} .. {row['change_high_pct']:+.2f}), {'within' if row['within'] else 'OVER'} the"
        f" budget of {row['budget_pct']:+g} %; exact answers {exact[BASE]} -> {exact[row['model']]}"
        for row in rows
        if row["model"] != BASE
    ]


def held_out_instructions(stable: pd.DataFrame, trained_on: pd.DataFrame) -> pd.DataFrame:
    """Stable records of splits val and test whose prompt stands nowhere in the corpus that is trained on.

    The mix takes stable records of split val for early stopping, so those are read too; the ones it left, and all of
    split test, are not.

    Raises:
        ValueError: there are fewer than two.
    """
    unseen = stable["split"].isin(["val", "test"]) & ~stable["user"].isin(trained_on["user"])
    if unseen.sum() < 2:
        raise ValueError(
            f"{unseen.sum()} of the {len(stable)} stable records is held out, and 2 are needed; give more of them, so"
            " that some fall into split test"
        )
    return stable[unseen].sort_values("record_id", ignore_index=True)


def measure_forgetting(
    *,
    adapter_dir: Path | str,
    model_params: ModelParams,
    instructions: pd.DataFrame,
    params: ForgettingParams,
    unmixed_dir: Path | str | None = None,
) -> Forgetting:
    """Loss and exact answers of the base model and of the adapter on the same instructions.

    The base model is loaded once; each adapter is switched on and off in it, which equals the folded one of
    `load_adapter` up to rounding. The interval is of the change of the loss: instructions are drawn with repeats, the
    same ones before and after.

    Args:
        instructions: columns system, user, assistant; held out from training.
        unmixed_dir: an adapter trained without the stable mix, for comparison.

    Raises:
        ModelError: no adapter there, or the model cannot be used.
    """
    folders = {ADAPTER: Path(adapter_dir)}
    if unmixed_dir is not None:
        folders[UNMIXED] = Path(unmixed_dir)
    chosen = _sample(instructions, params)
    measured = {
        name: answer_losses(model, tokenizer, chosen, batch_size=params.batch_size, dtype=model_params.dtype)
        for name, model, tokenizer in _each_model(folders, model_params)
    }
    steps = {name: _kept_step(folder) for name, folder in folders.items()}
    return Forgetting(_table(measured, steps, params))


def answer_losses(
    model: Any, tokenizer: Any, instructions: pd.DataFrame, *, batch_size: int, dtype: Precision = "auto"
) -> AnswerLosses:
    """Cross-entropy of each answer and its end of turn, given the prompt, and whether every token is the likeliest.

    Where it is, greedy decoding gives exactly this answer and stops: token by token it stands where this pass stands.
    """
    systems, users, texts = (instructions[name].tolist() for name in ("system", "user", "assistant"))
    prompts = encode_prompts(tokenizer, systems, users)
    pairs = list(zip(prompts, encode_answers(tokenizer, texts), strict=True))
    by_length = sorted(range(len(pairs)), key=lambda i: (len(pairs[i][0]) + len(pairs[i][1]), i))
    sums, exact = np.empty(len(pairs)), np.empty(len(pairs), dtype=bool)
    model.eval()
    for start in range(0, len(by_length), batch_size):
        rows = by_length[start : start + batch_size]
        with computing_in(dtype):
            sums[rows], exact[rows] = _batch_losses(model, tokenizer.pad_token_id, [pairs[i] for i in rows])
    return AnswerLosses(sums, np.array([len(answer) for _, answer in pairs]), exact)


def change_interval(
    before: AnswerLosses, after: AnswerLosses, params: ForgettingParams
) -> tuple[float, float]:
    """Percentile interval of the relative change of the loss in percent; each resample is the same for both."""
    count = len(before.sums)
    drawn = np.random.default_rng(params.seed).multinomial(
        count, np.full(count, 1 / count), size=params.bootstrap_samples
    )
    changes = 100 * (drawn @ after.sums / (drawn @ before.sums) - 1)  # the tokens are the same and cancel
    tail = (1 - params.confidence) / 2
    low, high = np.quantile(changes, [tail, 1 - tail])
    return float(low), float(high)


def _sample(instructions: pd.DataFrame, params: ForgettingParams) -> pd.DataFrame:
    if len(instructions) <= params.max_instructions:
        return instructions
    return instructions.sample(params.max_instructions, random_state=params.seed).sort_index()


def _each_model(folders: Mapping[str, Path], model_params: ModelParams) -> Iterator[tuple[str, Any, Any]]:
    """Base model and adapters one after the other: the same weights in memory, other ones switched on."""
    from peft import PeftModel

    for folder in folders.values():
        if not (folder / "adapter_model.safetensors").is_file():
            raise ModelError(
                f"{folder} holds no adapter_model.safetensors; train one with 'trader-pipeline train'"
            )
    model, tokenizer = load_base_model(model_params)
    yield BASE, model, tokenizer
    adapted: Any = None
    for name, folder in folders.items():
        key = name.replace(" ", "_")
        if adapted is None:
            adapted = PeftModel.from_pretrained(model, str(folder), adapter_name=key, use_safetensors=True)
        else:
            adapted.load_adapter(str(folder), adapter_name=key, use_safetensors=True)
        adapted.set_adapter(key)
        yield name, adapted, tokenizer


def _kept_step(folder: Path) -> float:
    """The optimiser step whose weights were kept; NaN where the adapter has no manifest."""
    path = folder / "adapter_manifest.json"
    return float(json.loads(path.read_text()).get("best_step", np.nan)) if path.is_file() else np.nan


def _batch_losses(
    model: Any, pad_token_id: int, pairs: list[tuple[list[int], list[int]]]
) -> tuple[np.ndarray, np.ndarray]:
    """Summed cross-entropy and exactness of each (prompt, answer) pair, read in one forward pass."""
    import torch
    from torch.nn.functional import cross_entropy

    width = max(len(prompt) + len(answer) for prompt, answer in pairs)
    tokens = torch.full((len(pairs), width), pad_token_id)
    targets = torch.full((len(pairs), width - 1), _IGNORED)
    for row, (prompt, answer) in enumerate(pairs):
        end = len(prompt) + len(answer)
        tokens[row, :end] = torch.tensor(prompt + answer)
        targets[row, len(prompt) - 1 : end - 1] = torch.tensor(answer)
    labelled = (targets != _IGNORED).any(dim=0).nonzero().squeeze(1)
    # Padding stands on the right: under a causal mask no label sees it, so no attention mask is needed.
    with torch.inference_mode():
        logits = model(
            input_ids=tokens.to(model.device), use_cache=False, logits_to_keep=labelled.to(model.device)
        ).logits.float()
    targets = targets[:, labelled].to(logits.device)
    losses = cross_entropy(
        logits.flatten(0, 1), targets.flatten(), ignore_index=_IGNORED, reduction="none"
    ).view_as(targets)
    exact = ((logits.argmax(dim=-1) == targets) | (targets == _IGNORED)).all(dim=1)
    return losses.double().sum(dim=1).cpu().numpy(), exact.cpu().numpy()


def _table(
    measured: Mapping[str, AnswerLosses], steps: Mapping[str, float], params: ForgettingParams
) -> pd.DataFrame:
    base = measured[BASE]
    rows = []
    for name, own in measured.items():
        change, interval = 100 * (own.loss / base.loss - 1), change_interval(base, own, params)
        figures = (np.nan, np.nan, np.nan) if name == BASE else (change, *interval)
        counts = (len(own.sums), int(own.tokens.sum()))
        rows.append(
            (name, steps.get(name, np.nan), *counts, own.loss, *figures, own.exact.mean(), params.budget_pct)
        )
    table = pd.DataFrame(rows, columns=FORGETTING.column_names).astype({"step": "Int64"})
    validate(table, FORGETTING, source="the measure of forgetting")
    return table
