import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers.pytorch_utils import Conv1D

from trader_pipeline.training.lora_linear import OneRoundingLinear, round_once


def adapted(layer=None, **changes):
    """A model of one layer with LoRA, as PEFT makes it; A and B random, so that both get gradients."""
    torch.manual_seed(0)
    model = nn.Sequential(layer or nn.Linear(24, 40))
    model = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules=["0"], **changes))
    for name, weight in model.named_parameters():
        if "lora_" in name:
            nn.init.normal_(weight, std=0.1)
    return model


def output_and_gradients(model, x):
    x = x.clone().requires_grad_()
    y = model(x)
    y.square().sum().backward()
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    return [y, x.grad, *(weight.grad for weight in weights)]


@pytest.mark.parametrize("bias", [True, False])
def test_output_and_gradients_are_pefts_in_float32(bias):
    layer = nn.Linear(24, 40, bias=bias)
    state = layer.state_dict()
    x = torch.randn(3, 5, 24)
    expected = output_and_gradients(adapted(layer), x)
    again = nn.Linear(24, 40, bias=bias)
    again.load_state_dict(state)
    model = adapted(again)
    assert round_once(model) == 1
    actual = output_and_gradients(model, x)
    assert len(actual) == 4
    for ours, peft in zip(actual, expected, strict=True):
        torch.testing.assert_close(ours, peft, rtol=1e-5, atol=1e-5)


def update_kept(model, x):
    """Slope of the output's change on the update itself, in bfloat16: 1 where it is kept, 0 where it is lost."""
    layer = model.base_model.model[0]
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        changed = model(x).double()
        with model.disable_adapter():
            unchanged = model(x).double()
    update = (x @ layer.lora_A["default"].weight.T @ layer.lora_B["default"].weight.T * 2).double()
    large = unchanged.abs() > 0.5  # where bfloat16's grid is coarse beside the update
    return float(((changed - unchanged) * update)[large].sum() / update[large].square().sum())


def test_update_far_below_bfloat16s_grid_is_kept_and_peft_loses_it():
    torch.manual_seed(1)
    model = adapted(nn.Linear(256, 512, bias=False))
    layer = model.base_model.model[0]
    layer.lora_B["default"].weight.data.mul_(1e-3)
    x = torch.randn(512, 256)
    assert update_kept(model, x) < 0.2
    round_once(model)
    assert update_kept(model, x) == pytest.approx(1, abs=0.2)


def test_frozen_weights_stay_float32_and_the_result_is_bfloat16_under_autocast():
    model = adapted()
    round_once(model)
    with torch.autocast("cpu", torch.bfloat16):
        y = model(torch.randn(2, 24))
    y.float().sum().backward()
    assert y.dtype == torch.bfloat16
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    layer = model.base_model.model[0]
    assert layer.base_layer.weight.grad is None
    assert layer.lora_A["default"].weight.grad.dtype == torch.float32


@pytest.mark.parametrize("case", ["dropout", "Conv1D", "DoRA", "bias of LoRA"])
def test_layers_that_cannot_be_summed_at_once_are_left_to_peft(case):
    model = {
        "dropout": lambda: adapted(lora_dropout=0.1),
        "Conv1D": lambda: adapted(Conv1D(40, 24), fan_in_fan_out=True),
        "DoRA": lambda: adapted(use_dora=True),
        "bias of LoRA": lambda: adapted(lora_bias=True),
    }[case]()
    assert round_once(model) == 0
    assert not any(isinstance(module, OneRoundingLinear) for module in model.modules())


def test_adapter_is_saved_under_pefts_names_and_turned_off_and_merged_as_pefts():
    model = adapted()
    names = list(model.state_dict())
    x = torch.randn(2, 24)
    expected = model(x)
    round_once(model)
    assert list(model.state_dict()) == names
    with model.disable_adapter():
        torch.testing.assert_close(model(x), model.base_model.model[0].base_layer(x))
    torch.testing.assert_close(model.merge_and_unload()(x), expected, rtol=1e-5, atol=1e-5)
