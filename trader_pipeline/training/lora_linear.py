"""LoRA layers as PEFT makes them, computed with one rounding where PEFT rounds twice.

Belongs here: the product of a layer with its LoRA update. Does not belong here: which layers get one, and how adapters
are saved (PEFT's own code serves these layers too).
"""

from typing import Any

import torch
from peft.tuners.lora.layer import Linear as PeftLinear
from torch import nn
from torch.nn.functional import linear


class OneRoundingLinear(PeftLinear):
    """x W' + s (x A') B' in bfloat16, summed in float32 before it is rounded.

    PEFT adds two bfloat16 results. The base product is on bfloat16's grid already, so an update of less than half a
    step of that grid is lost whole, and small updates are what training starts with. Summed before rounding, an update
    of any size moves the mean. In float32 the result is PEFT's up to rounding.
    """

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        adapters = self.active_adapters
        if len(adapters) != 1 or self.disable_adapters or self.merged or args or kwargs:
            return super().forward(x, *args, **kwargs)
        name = adapters[0]
        base = self.get_base_layer()
        precision = _precision(x)
        rows = x.reshape(-1, x.shape[-1]).to(precision)
        low = linear(rows, self.lora_A[name].weight.to(precision))
        update = linear(low, (self.lora_B[name].weight * self.scaling[name]).to(precision))
        result = torch.addmm(update, rows, base.weight.to(precision).t())
        if base.bias is not None:
            result = result + base.bias.to(precision)
        return result.view(*x.shape[:-1], -1)


def round_once(model: Any) -> int:
    """Let every LoRA layer of `model` that allows it round once; returns how many do.

    Left to PEFT: layers that are no `nn.Linear` (GPT-2's Conv1D, quantised weights), with dropout before LoRA, DoRA or
    a bias of LoRA's own.
    """
    layers = [module for module in model.modules() if _fits(module)]
    for layer in layers:
        layer.__class__ = OneRoundingLinear  # same parameters, same names: checkpoints do not change
    return len(layers)


def _fits(module: Any) -> bool:
    return (
        type(module) is PeftLinear
        and type(module.get_base_layer()) is nn.Linear
        and module.get_base_layer().weight.is_floating_point()
        and not module.lora_variant
        and all(isinstance(layer, nn.Identity) for layer in module.lora_dropout.values())
        and all(layer.bias is None for layer in module.lora_B.values())
    )


def _precision(x: torch.Tensor) -> torch.dtype:
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
