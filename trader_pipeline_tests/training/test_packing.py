import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch.nn.functional import cross_entropy
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
)

from trader_pipeline.training import packed_attention
from trader_pipeline.training.packing import IGNORED, pack_batch, packs

SMALL = {
    "vocab_size": 50,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
}
CONFIGS = {
    "llama": LlamaConfig(**SMALL),
    "qwen2": Qwen2Config(**SMALL),
    "qwen3": Qwen3Config(**SMALL),
    "gpt2": GPT2Config(vocab_size=50, n_embd=32, n_layer=2, n_head=4, n_positions=512),
}
RECORDS = [([1, 2, 3, 4, 5], [6, 7]), ([1, 2, 3, 9], [6]), ([1, 2, 3, 4, 8, 8, 8, 8], [7, 7, 7])]


def batch_of(records):
    """Prompts and answers as TRL pads them: on the right, with 0 and IGNORED."""
    length = max(len(prompt) + len(answer) for prompt, answer in records)
    ids, labels, mask = (torch.full((len(records), length), fill) for fill in (0, IGNORED, 0))
    for row, (prompt, answer) in enumerate(records):
        end = len(prompt) + len(answer)
        ids[row, :end] = torch.tensor(prompt + answer)
        labels[row, len(prompt) : end] = torch.tensor(answer)
        mask[row, :end] = 1
    return {"input_ids": ids, "labels": labels, "attention_mask": mask}


def model_of(name):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(CONFIGS[name], attn_implementation="sdpa").eval()
    for weight in model.parameters():  # as they start, small models answer almost alike everywhere
        weight.data.mul_(3)
    return model


def losses_and_gradients(model, logits, targets):
    losses = cross_entropy(logits, targets, reduction="none")
    model.zero_grad()
    losses.sum().backward()
    return losses.detach(), torch.cat([weight.grad.flatten() for weight in model.parameters()])


def packed_way(model, batch, **settings):
    model.set_attn_implementation(packed_attention.NAME)
    row = pack_batch(batch, **settings)
    logits = model(**row.model_inputs(), use_cache=False).logits[0]
    return losses_and_gradients(model, logits, row.targets)


def record_by_record(model, records):
    """The plain reference: each record alone, unpadded, all positions projected."""
    model.set_attn_implementation("eager")
    logits = [
        model(input_ids=torch.tensor([prompt + answer]), use_cache=False).logits[0, len(prompt) - 1 : -1]
        for prompt, answer in records
    ]
    return losses_and_gradients(
        model, torch.cat(logits), torch.tensor([token for _, answer in records for token in answer])
    )


@pytest.mark.parametrize("share_prefix", [True, False])
@pytest.mark.parametrize("name", CONFIGS)
def test_losses_and_gradients_are_those_of_each_record_alone(name, share_prefix):
    model = model_of(name)
    losses, gradients = packed_way(model, batch_of(RECORDS), share_prefix=share_prefix)
    expected_losses, expected_gradients = record_by_record(model, RECORDS)
    torch.testing.assert_close(losses, expected_losses, rtol=1e-5, atol=1e-5)
    assert (gradients - expected_gradients).norm() < 1e-5 * expected_gradients.norm()


def test_records_longer_than_a_block_of_queries_are_those_alone_too():
    torch.manual_seed(1)
    lengths = (packed_attention.BLOCK + 5, 2 * packed_attention.BLOCK, 40)
    shared = torch.randint(1, 50, (30,)).tolist()
    records = [(shared + torch.randint(1, 50, (n,)).tolist(), [6, 7]) for n in lengths]
    model = model_of("llama")
    losses, gradients = packed_way(model, batch_of(records))
    expected_losses, expected_gradients = record_by_record(model, records)
    torch.testing.assert_close(losses, expected_losses, rtol=1e-5, atol=1e-5)
    assert (gradients - expected_gradients).norm() < 1e-5 * expected_gradients.norm()


def test_gradient_checkpointing_changes_nothing():
    model = model_of("llama")
    _, expected = packed_way(model, batch_of(RECORDS))
    model.gradient_checkpointing_enable({"use_reentrant": False})
    _, gradients = packed_way(model.train(), batch_of(RECORDS))
    torch.testing.assert_close(gradients, expected)


def test_bfloat16_products_are_close_to_float32s():
    model = model_of("llama")
    expected, _ = packed_way(model, batch_of(RECORDS))
    with torch.autocast("cpu", torch.bfloat16):
        losses, _ = packed_way(model, batch_of(RECORDS))
    assert losses.tolist() != expected.tolist()
    torch.testing.assert_close(losses.float(), expected, rtol=0.05, atol=0.05)


def test_rows_that_are_not_packed_are_read_as_by_sdpa():
    batch = batch_of(RECORDS)
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    model = model_of("llama")
    expected = model(**inputs).logits
    model.set_attn_implementation(packed_attention.NAME)
    seen = inputs["attention_mask"].bool()
    torch.testing.assert_close(model(**inputs).logits[seen], expected[seen])


tokens = st.lists(st.integers(1, 3), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(records=st.lists(st.tuples(tokens, tokens), min_size=1, max_size=5), share_prefix=st.booleans())
def test_every_label_stands_behind_its_own_record(records, share_prefix):
    row = pack_batch(batch_of(records), share_prefix=share_prefix)
    shared, *own = row.layout.flatten().tolist()
    ids, positions = row.input_ids[0].tolist(), row.position_ids[0].tolist()
    starts = [shared + sum(own[:i]) for i in range(len(own))]
    for record, (prompt, answer) in enumerate(records):
        part = slice(starts[record], starts[record] + own[record])
        assert ids[:shared] + ids[part] == prompt + answer
        assert positions[:shared] + positions[part] == list(range(len(prompt + answer)))
        where = row.record == record
        assert row.targets[where].tolist() == answer
        place = torch.tensor([*range(shared), *range(part.start, part.stop)])
        assert row.predicting[where].tolist() == place[len(prompt) - 1 : -1].tolist()
    assert share_prefix or shared == 0
    assert min(own) >= 1
    assert len(ids) == shared + sum(own)


def test_beginning_that_all_records_share_stands_once():
    row = pack_batch(batch_of(RECORDS))
    assert row.layout.flatten().tolist() == [3, 4, 2, 8]
    assert row.input_ids.shape == (1, 17)


def test_only_tested_models_with_full_attention_by_sdpa_are_packed():
    assert all(packs(model_of(name)) for name in CONFIGS)
    eager = AutoModelForCausalLM.from_config(LlamaConfig(**SMALL), attn_implementation="eager")
    sliding = Qwen2Config(**SMALL, use_sliding_window=True, sliding_window=4, max_window_layers=1)
    assert not packs(eager)
    assert not packs(AutoModelForCausalLM.from_config(sliding))
    assert not packs(AutoModelForCausalLM.from_config(MistralConfig(**SMALL)))
