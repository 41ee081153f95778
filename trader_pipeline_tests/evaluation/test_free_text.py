"""Answers that a model writes: the text of plain greedy decoding, whatever shares its batch, read and counted."""

import numpy as np
import pytest
import torch

from trader_pipeline.corpora.render import RenderParams
from trader_pipeline.evaluation.adapter import ADAPTER, BASE, FREE_TEXT, language_models
from trader_pipeline.evaluation.free_text import count_kinds, generate_answers
from trader_pipeline.evaluation.held_out import answer_kinds, held_out_steps
from trader_pipeline.evaluation.overview import free_text_table
from trader_pipeline.evaluation.params import EvaluationParams
from trader_pipeline.evaluation.parsing import KINDS, ParsedAnswer
from trader_pipeline.evaluation.policies import FreeTextPolicy
from trader_pipeline.training.models import ModelParams, encode_prompt, load_base_model
from trader_pipeline_tests.training.tiny_adapters import drawn_adapter

TINY = ModelParams(model_name="tiny", dtype="float32")
MODEL, TOKENIZER = load_base_model(TINY)
TINY_POSITIONS = MODEL.config.max_position_embeddings
PROMPTS = [("Decide.", f"Underlying BTC, spot 64{n} USD. " * (1 + n)) for n in range(5)]


def _greedy(system, user, *, longest):
    """One full forward pass a token."""
    tokens = encode_prompt(TOKENIZER, system, user)
    written = []
    while len(written) < longest:
        with torch.no_grad():
            logits = MODEL(torch.tensor([tokens + written])).logits[0, -1]
        token = int(logits.argmax())
        if token == TOKENIZER.eos_token_id:
            return TOKENIZER.decode(written), True
        written.append(token)
    return TOKENIZER.decode(written), False


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_texts_are_those_of_greedy_decoding_whatever_shares_the_batch(batch_size):
    answers = generate_answers(
        MODEL,
        TOKENIZER,
        PROMPTS,
        [["1", "2"]] * 5,
        max_new_tokens=12,
        batch_size=batch_size,
        dtype="float32",
    )
    assert [(a.text, a.finished) for a in answers] == [_greedy(*prompt, longest=12) for prompt in PROMPTS]


def test_a_prompt_that_has_no_positions_left_for_what_may_be_written_is_refused():
    length = len(encode_prompt(TOKENIZER, "Decide.", "Why?"))
    wanted = TINY_POSITIONS - length + 2
    message = f"{TINY_POSITIONS + 1} tokens with {wanted} written ones, the model reads {TINY_POSITIONS}"
    with pytest.raises(ValueError, match=message):
        generate_answers(MODEL, TOKENIZER, [("Decide.", "Why?")], [["1"]], max_new_tokens=wanted)


class _Dictated(torch.nn.Module):
    """Stands in for a model: writes the text that the prompt's last line asks for, then ends its turn or does not."""

    device = torch.device("cpu")

    def generate(self, *, input_ids, attention_mask, generation_config):
        rows = []
        for tokens in input_ids.tolist():
            wanted = TOKENIZER.decode(tokens).split("Say:")[1].split("<|im_end|>")[0]
            rows.append([*TOKENIZER(wanted)["input_ids"], TOKENIZER.eos_token_id])
        longest = generation_config.max_new_tokens
        padded = [(row + [TOKENIZER.pad_token_id] * longest)[:longest] for row in rows]
        return torch.cat([input_ids, torch.tensor(padded)], dim=1)


def test_every_text_is_read_against_its_own_answers_in_the_order_asked():
    said = ["SKIP", "I choose [2].", "2", "1 or 2", "", "a long text that is cut off before SKIP"]
    allowed = [["SELL_CALL", "SKIP"], ["1", "2"], ["1"], ["1", "2"], ["1"], ["SELL_CALL", "SKIP"]]
    prompts = [("Decide.", f"Say:{text}") for text in said]
    answers = generate_answers(
        _Dictated(), TOKENIZER, prompts, allowed, max_new_tokens=14, batch_size=4, dtype="float32"
    )
    kinds = ["exact", "tolerant", "out_of_range", "several", "empty", "unfinished"]
    assert [a.parsed.kind for a in answers] == kinds
    assert [a.text for a in answers][:5] == said[:5]
    assert answers[1].parsed.answer == "2"
    assert count_kinds(answers) == {kind: int(kind in kinds) for kind in KINDS}


def test_prompts_and_answers_must_be_as_many():
    with pytest.raises(ValueError, match="5 prompts but 1 lists of answers"):
        generate_answers(MODEL, TOKENIZER, PROMPTS, [["1"]])


@pytest.fixture
def steps(world):
    params = EvaluationParams(max_steps=6)
    held_out = held_out_steps(
        world.dataset, split_params=world.splits, boundaries=world.boundaries, params=params
    )
    return [labelled.step for labelled in held_out]


def _policy(answer, rationale=False):
    """Writes `answer(allowed answers)` for each prompt."""

    def writer(prompts, allowed):
        return [answer(own) for own in allowed]

    return FreeTextPolicy("model", writer, RenderParams(rationale=rationale))


@pytest.mark.parametrize("rationale", [False, True])
def test_the_index_that_is_written_means_the_call_listed_there(steps, rationale):
    """Where answers come with reasons, the bare ones are what a text may name."""
    chosen = {
        n: _policy(lambda own, n=n: ParsedAnswer(own[n], "exact"), rationale).choose(steps[:1])[0].instrument
        for n in range(len(steps[0].candidates))
    }
    assert sorted(chosen.values()) == sorted(c.instrument for c in steps[0].candidates)
    no_trade = _policy(lambda own: ParsedAnswer(own[-1], "exact"), rationale).choose(steps[:1])[0]
    assert (no_trade.instrument, no_trade.kind) == (None, "exact")


def test_a_refused_text_is_no_trade_and_counted(steps):
    told = iter(
        [ParsedAnswer("1", "tolerant"), ParsedAnswer(None, "several"), *[ParsedAnswer(None, "none")] * 4]
    )
    policy = _policy(lambda own: next(told))
    choices = policy.choose(steps)
    assert [c.instrument is None for c in choices] == [False, *[True] * 5]
    metrics = answer_kinds("model", steps, choices).query("segment == 'all'").set_index("metric")
    assert list(metrics.index) == [f"free_text_{kind}" for kind in KINDS]
    assert metrics["count"].eq(6).all()
    shares = metrics["value"].to_dict()
    assert shares["free_text_tolerant"] == shares["free_text_several"] == pytest.approx(1 / 6)
    assert shares["free_text_none"] == pytest.approx(4 / 6)
    assert sum(shares.values()) == pytest.approx(1)
    table = free_text_table(answer_kinds("model", steps, choices))
    assert list(table.columns[2:]) == list(KINDS)


@pytest.mark.parametrize(
    ("answering", "names"),
    [
        ("score", [ADAPTER, BASE]),
        ("generate", [ADAPTER, BASE]),
        ("both", [ADAPTER, BASE, ADAPTER + FREE_TEXT, BASE + FREE_TEXT]),
    ],
)
def test_answering_says_which_policies_there_are(tmp_path, steps, answering, names):
    folder = drawn_adapter(tmp_path / "adapter")
    params = EvaluationParams(answering=answering, max_new_tokens=3, batch_size=2)
    policies = language_models(folder, TINY, RenderParams(), params, slopes={})
    assert [p.name for p in policies] == names
    for policy in policies:
        (choice,) = policy.choose(steps[:1])
        writes = isinstance(policy, FreeTextPolicy)
        assert writes == (answering == "generate" or policy.name.endswith(FREE_TEXT))
        assert (choice.kind is not None) == writes
        assert writes or np.isfinite(choice.log_probability)
