"""A forward pass for pairs of answers that reads each prompt once and projects to the vocabulary at answers alone.

Belongs here: how a batch of pairs goes through the model. Does not belong here: what is made of the log-probabilities
(`preferences`, TRL).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import torch
from trl.trainer.utils import FusedCausalLMOutput

from trader_pipeline.training.packing import ARCHITECTURES, IGNORED


@dataclass(frozen=True)
class _Packed:
    """Pairs as rows `prompt, chosen answer, rejected answer`, each answer seeing the prompt and itself alone.

    `tokens` and `positions` (pairs, width), `visible` (pairs, width, width). A target's prediction stands in `source`
    (pair, column) and belongs to `place` (row, column before the token) of TRL's batch. Answers' closing tokens are
    predicted, never read.
    """

    tokens: torch.Tensor
    positions: torch.Tensor
    visible: torch.Tensor
    source: tuple[torch.Tensor, torch.Tensor]
    place: tuple[torch.Tensor, torch.Tensor]
    targets: torch.Tensor


def read_prompts_once(model: Any) -> bool:
    """Replace what `model` does when TRL asks for log-probabilities of pairs; the same figures in less time.

    False, and TRL's own pass stays, where a mask of our own cannot be handed down: flash attention, sliding windows,
    and architectures that have not been tested. Calling it again changes nothing.
    """
    original = model.forward
    if getattr(original, "reads_prompts_once", False):
        return True
    if not _takes_masks(model.config):
        return False

    @functools.wraps(original)
    def forward(*args: Any, fused_lm_head: bool = False, labels: Any = None, **kwargs: Any) -> Any:
        if fused_lm_head:
            return _pair_log_probs(original, model, kwargs["input_ids"], labels)
        return original(*args, **({} if labels is None else {"labels": labels}), **kwargs)

    forward.reads_prompts_once = True  # type: ignore[attr-defined]
    model.forward = forward
    return True


def _takes_masks(config: Any) -> bool:
    layers = set(getattr(config, "layer_types", None) or ["full_attention"])
    known = config.model_type in ARCHITECTURES and layers == {"full_attention"}
    return known and config._attn_implementation in ("sdpa", "eager")


def _pair_log_probs(forward: Any, model: Any, ids: torch.Tensor, labels: torch.Tensor) -> FusedCausalLMOutput:
    """Figures of every answer's token, in the shape (2 * pairs, length - 1) that TRL expects; 0 elsewhere."""
    packed = _pack(ids, labels)
    hidden = torch.finfo(model.dtype).min
    mask = torch.zeros(packed.visible.shape, dtype=model.dtype, device=ids.device)
    columns, kept = packed.source[1].unique(return_inverse=True)
    logits = forward(
        input_ids=packed.tokens,
        position_ids=packed.positions,
        attention_mask=mask.masked_fill(~packed.visible, hidden)[:, None],
        use_cache=False,
        logits_to_keep=columns,
    ).logits
    picked = logits[packed.source[0], kept].float()
    log_probabilities = picked.log_softmax(dim=-1)
    own = log_probabilities.gather(-1, packed.targets[:, None])[:, 0]
    empty = own.new_zeros(len(ids), ids.shape[1] - 1)
    with torch.no_grad():  # TRL logs these
        entropy = -(log_probabilities.exp() * log_probabilities).sum(dim=-1)
        first = picked.argmax(dim=-1) == packed.targets
        mean = picked.mean(dim=-1)
    return FusedCausalLMOutput(
        log_probs=empty.index_put(packed.place, own),
        entropy=empty.index_put(packed.place, entropy),
        mean_logits=empty.index_put(packed.place, mean),
        is_top1=empty.bool().index_put(packed.place, first),
    )


def _pack(ids: torch.Tensor, labels: torch.Tensor) -> _Packed:
    pairs = len(ids) // 2
    answer = labels != IGNORED
    sizes = answer.sum(dim=1)
    starts = answer.int().argmax(dim=1)[:pairs].tolist()
    read = [(int(sizes[i]) - 1, int(sizes[pairs + i]) - 1) for i in range(pairs)]
    width = max(start + sum(own) for start, own in zip(starts, read, strict=True))
    tokens = ids.new_zeros(pairs, width)
    positions = torch.zeros_like(tokens)
    visible = torch.ones(width, width, dtype=torch.bool, device=ids.device).tril().repeat(pairs, 1, 1)
    source, place = [], []
    for pair, (start, own) in enumerate(zip(starts, read, strict=True)):
        tokens[pair, :start] = ids[pair, :start]
        positions[pair, :start] = torch.arange(start)
        column = start
        for row, size in zip((pair, pairs + pair), own, strict=True):
            here = slice(column, column + size)
            tokens[pair, here] = ids[row, start : start + size]
            positions[pair, here] = torch.arange(start, start + size)
            visible[pair, here, start:column] = False  # the other answer
            predicting = [start - 1, *range(column, column + size)]
            source += [(pair, at) for at in predicting]
            place += [(row, start - 1 + at) for at in range(size + 1)]
            column += size
    source_of, place_of = torch.tensor(source, device=ids.device), torch.tensor(place, device=ids.device)
    targets = ids[place_of[:, 0], place_of[:, 1] + 1]
    return _Packed(tokens, positions, visible, _two(source_of), _two(place_of), targets)


def _two(pairs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return pairs[:, 0], pairs[:, 1]
