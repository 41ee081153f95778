"""A padded batch as one row without padding, in which the beginning that all its records share stands once.

Belongs here: the order of tokens in a packed row, and which models can read it. Does not belong here: attention over
it (`packed_attention`), the loss (`completion_trainer`).

Exact, not an approximation: under a causal mask no token of a beginning sees what follows it, so each record would have
computed the same keys and values for it. Their gradients add up, as the records' own would.
"""

from dataclasses import dataclass
from typing import Any

import torch

from trader_pipeline.training.packed_attention import NAME

# Models whose attention hands its mask down unread and takes positions; tested one by one.
ARCHITECTURES = ("gpt2", "llama", "qwen2", "qwen3")
IGNORED = -100


@dataclass(frozen=True)
class PackedRow:
    """One row of `tokens` tokens, and where the loss is.

    input_ids, position_ids: (1, tokens). layout: (1, 1, 1, records + 1), the shared length and each record's own.
    predicting: (labels,), the place in the row of the token before each label. targets: (labels,), the labels.
    record: (labels,), the batch's row that the label is of.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    layout: torch.Tensor
    predicting: torch.Tensor
    targets: torch.Tensor
    record: torch.Tensor

    def model_inputs(self) -> dict[str, torch.Tensor]:
        """What a causal language model is called with."""
        return {
            "input_ids": self.input_ids,
            "position_ids": self.position_ids,
            "attention_mask": self.layout,
            "logits_to_keep": self.predicting,
        }


def pack_batch(batch: dict[str, torch.Tensor], *, share_prefix: bool = True) -> PackedRow:
    """`batch`: input_ids, labels and attention_mask, (records, length), padded on the right.

    Each record keeps at least one token of its own, so two equal records are both there.
    """
    ids, labels = batch["input_ids"], batch["labels"]
    lengths = batch["attention_mask"].sum(dim=1)
    shared = _shared_length(ids, int(lengths.min()) - 1) if share_prefix else 0
    positions = torch.arange(ids.shape[1], device=ids.device)
    own = (positions >= shared) & (positions < lengths[:, None])
    # Where token j of record i stands: below `shared` at j itself, else behind the records before it.
    first = shared + (lengths - shared).cumsum(0) - lengths
    place = torch.where(positions < shared, positions, first[:, None] + positions)
    record, column = (labels[:, 1:] != IGNORED).nonzero(as_tuple=True)
    return PackedRow(
        input_ids=torch.cat([ids[0, :shared], ids[own]])[None],
        position_ids=torch.cat([positions[:shared], positions.expand_as(ids)[own]])[None],
        layout=torch.cat([lengths.new_tensor([shared]), lengths - shared])[None, None, None],
        predicting=place[record, column],
        targets=labels[record, column + 1],
        record=record,
    )


def packs(model: Any) -> bool:
    """Whether `model` can read packed rows: one of ARCHITECTURES with full attention by SDPA, on the CPU.

    GPUs have kernels for padded causal rows that are faster than products of blocks.
    """
    config = model.config
    return (
        config.model_type in ARCHITECTURES
        and config._attn_implementation in ("sdpa", NAME)
        and set(getattr(config, "layer_types", None) or ["full_attention"]) == {"full_attention"}
        and model.device.type == "cpu"
    )


def _shared_length(ids: torch.Tensor, most: int) -> int:
    """Tokens from the start that all rows have alike, at most so many."""
    alike = (ids[:, :most] == ids[:1, :most]).all(dim=0)
    return int(alike.int().cumprod(0).sum())
