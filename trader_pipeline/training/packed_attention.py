"""Attention over records that stand in one row without padding, behind a beginning that they share.

Belongs here: the attention that models call for packed rows. Does not belong here: how rows are packed (`packing`).

The layout travels as the attention mask, which every model hands down to its attention: int64, shape (1, 1, 1, n + 1),
the length of the shared beginning and then that of each record's own part, in the row's order.
"""

from typing import Any

import torch
from torch.nn.functional import dropout as drop
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

NAME = "packed_rows"
# Queries per matrix product. Keys that no query of the block may see are left out; smaller blocks leave out more of
# them, at more calls.
BLOCK = 192


def packed_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention of each record to the shared beginning and to itself; rows that are not packed go to SDPA.

    Shapes as transformers has them: query (1, heads, tokens, size), key and value (1, key heads, tokens, size); the
    result is (1, tokens, heads, size). In bfloat16 under autocast, scores included, as eager attention has it.
    """
    if attention_mask is None or attention_mask.dtype != torch.int64:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **kwargs
        )
    layout = attention_mask.flatten().tolist()
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    groups = query.shape[1] // key.shape[1]
    # Query heads that share a key head stand together: one larger product instead of several, and no copies of keys.
    queries, keys, values = (
        _computed(query[0] * scale).unflatten(0, (-1, groups)),
        _computed(key[0]),
        _computed(value[0]),
    )
    queries_of, keys_of, values_of = (t.split(layout, dim=-2) for t in (queries, keys, values))
    future = torch.full((BLOCK, BLOCK), -torch.inf, dtype=queries.dtype, device=queries.device).triu(1)
    results = []
    for record, own in enumerate(queries_of):
        shared = [0, record] if record else [0]
        seen, carried = (torch.cat([t[i] for i in shared], dim=-2) for t in (keys_of, values_of))
        results.append(_causal(own, seen, carried, future, dropout))
    return torch.cat(results, dim=-2).flatten(0, 1).transpose(0, 1)[None], None


def _causal(
    queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, future: torch.Tensor, dropout: float
) -> torch.Tensor:
    """Queries (key heads, group, n, size) that stand at the end of keys and values (key heads, m, size)."""
    before = keys.shape[1] - queries.shape[2]
    results = []
    for start in range(0, queries.shape[2], BLOCK):
        block = queries[:, :, start : start + BLOCK]
        size = block.shape[2]
        last = before + start + size
        scores = torch.bmm(block.flatten(1, 2), keys[:, :last].transpose(1, 2)).unflatten(1, (-1, size))
        scores[..., last - size :] += future[:size, :size]
        weights = scores.softmax(dim=-1)
        if dropout:
            weights = drop(weights, dropout)
        results.append(torch.bmm(weights.flatten(1, 2), values[:, :last]).unflatten(1, (-1, size)))
    return torch.cat(results, dim=2) if results else queries


def _computed(tensor: torch.Tensor) -> torch.Tensor:
    """In autocast's precision, once for all products."""
    device = tensor.device.type
    return tensor.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else tensor


AttentionInterface.register(NAME, packed_attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
