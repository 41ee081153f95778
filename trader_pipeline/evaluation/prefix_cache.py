"""Keys and values of what prompts share, computed once, and forward passes that go on from there.

Belongs here: finding shared beginnings, the cache of their keys and values, how a pass is made fast. Does not belong
here: answers and their scores (`scoring`).

Exact up to rounding: under a causal mask no token sees what follows it, so every prompt would have computed the same
keys and values for its beginning.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from transformers import DynamicCache
from transformers.pytorch_utils import Conv1D

from trader_pipeline.training.models import Precision, computing_in

WORTH_A_PASS = 16
"""From so many tokens on, a shared beginning is read by itself: a pass costs about as much as that many tokens."""


@dataclass(frozen=True)
class Past:
    """Beginnings that have been read, one a row.

    layers: keys and values per layer, each (rows, heads, width, size). present: (rows, width), False where a row is
    padding. lengths: (rows,), tokens of each row.
    """

    layers: list[tuple[torch.Tensor, torch.Tensor]]
    present: torch.Tensor
    lengths: torch.Tensor

    @staticmethod
    def empty() -> Past:
        """One row without tokens."""
        return Past([], torch.ones((1, 0), dtype=torch.bool), torch.zeros(1, dtype=torch.long))

    def take(self, rows: Sequence[int]) -> Past:
        """These rows in this order; a single row is seen several times, not copied."""
        index = torch.tensor(rows)
        if len(self.lengths) == 1:
            layers = [
                (k.expand(len(rows), -1, -1, -1), v.expand(len(rows), -1, -1, -1)) for k, v in self.layers
            ]
        else:
            layers = [(k[index.to(k.device)], v[index.to(v.device)]) for k, v in self.layers]
        return Past(layers, self.present[index], self.lengths[index])


@dataclass(frozen=True)
class Stem:
    """Prompts (their numbers) whose first `length` tokens are the same."""

    members: list[int]
    length: int


def common_length(prompts: Sequence[list[int]]) -> int:
    """How many tokens all prompts start with alike, or 0 where those are not worth a pass.

    Each prompt keeps its last token: the answer is predicted from it.
    """
    first, last = min(prompts), max(prompts)
    alike = min(_alike(first, last), min(map(len, prompts)) - 1)
    return alike if len(prompts) > 1 and alike >= WORTH_A_PASS else 0


def stems(prompts: Sequence[list[int]], *, after: int, budget: int) -> Iterator[list[Stem]]:
    """Prompts grouped by what they share beyond token `after`, in batches of at most `budget` such tokens.

    Neighbours in the order of their tokens stay together as long as that saves tokens. What is shared by one prompt
    alone, or by few tokens, is no stem: its length is `after`.
    """
    batch: list[Stem] = []
    for stem in _groups(prompts, after):
        if batch and sum(s.length - after for s in [*batch, stem]) > budget:
            yield batch
            batch = []
        batch.append(stem)
    yield batch


def _groups(prompts: Sequence[list[int]], after: int) -> Iterator[Stem]:
    order = sorted(range(len(prompts)), key=prompts.__getitem__)
    members, length = order[:1], len(prompts[order[0]]) - 1
    for before, number in pairwise(order):
        alike = min(length, _alike(prompts[before], prompts[number]), len(prompts[number]) - 1)
        saved = (len(members) - 1) * (length - after)
        if alike - after >= WORTH_A_PASS and len(members) * (alike - after) >= saved:
            members, length = [*members, number], alike
        else:
            yield Stem(members, length if len(members) > 1 else after)
            members, length = [number], len(prompts[number]) - 1
    yield Stem(members, length if len(members) > 1 else after)


def _alike(one: Sequence[int], other: Sequence[int]) -> int:
    return next(
        (i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )


def read(model: Any, past: Past, rows: Sequence[list[int]], *, owners: Sequence[int], pad: int) -> Past:
    """The past with `rows[i]` behind its row `owners[i]`."""
    past = past.take(owners)
    lengths = torch.tensor([len(row) for row in rows])
    width = int(lengths.max())
    if not width:
        return past
    tokens = torch.tensor([row + [pad] * (width - len(row)) for row in rows])
    positions = past.lengths[:, None] + torch.arange(width)
    causal = torch.ones(width, width).tril().bool().expand(len(rows), -1, -1)
    cache = forward(model, past, tokens, positions, causal, logits_to_keep=1, use_cache=True).past_key_values
    present = torch.cat([past.present, torch.arange(width) < lengths[:, None]], dim=1)
    return Past([(layer.keys, layer.values) for layer in cache.layers], present, past.lengths + lengths)


def forward(
    model: Any,
    past: Past,
    tokens: torch.Tensor,
    positions: torch.Tensor,
    visible: torch.Tensor,
    **kwargs: Any,
) -> Any:
    """A forward pass behind `past`: tokens and positions (rows, n); visible (rows, n, n), who sees whom among them."""
    behind = past.present[:, None, :].expand(-1, tokens.shape[1], -1)
    seen = torch.cat([behind, visible], dim=-1)
    mask = torch.zeros(seen.shape, dtype=model.dtype).masked_fill(~seen, torch.finfo(model.dtype).min)
    return model(
        input_ids=tokens.to(model.device),
        position_ids=positions.to(model.device),
        attention_mask=mask[:, None].to(model.device),
        past_key_values=DynamicCache(past.layers) if past.layers or kwargs.get("use_cache") else None,
        **{"use_cache": False, **kwargs},
    )


def check_length(model: Any, tokens: int, *, what: str) -> None:
    """Refuse a text that the model has no positions for: types differ in what they do behind the last, none is right.

    Args:
        tokens: of the prompt and what is read or written behind it.
        what: that is, as the error names it.

    Raises:
        ValueError: names both lengths.
    """
    most = getattr(getattr(model, "config", None), "max_position_embeddings", None)
    if most is not None and tokens > most:
        raise ValueError(f"{tokens} tokens with {what}, the model reads {most}; shorten the prompt")


@contextmanager
def computing_fast(model: Any, dtype: Precision) -> Iterator[None]:
    """`computing_in`, with every weight cast once instead of in every pass: the same products, bit by bit."""
    with computing_in(dtype):
        device = model.device.type
        casts = torch.is_autocast_enabled(device)
        products = [m for m in model.modules() if casts and isinstance(m, (nn.Linear, Conv1D))]
        kept = {m: m.weight for m in products if m.weight.dtype == torch.float32}
        try:
            for module, weight in kept.items():  # a new parameter: the embedding may share the old one
                cast = weight.detach().to(torch.get_autocast_dtype(device))
                module.weight = nn.Parameter(cast, requires_grad=False)
            yield
        finally:
            for module, weight in kept.items():
                module.weight = weight
