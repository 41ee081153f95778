from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trader_pipeline.evaluation import scoring
from trader_pipeline.training.models import ModelParams, encode_answer, encode_prompt, load_base_model

MODEL, TOKENIZER = load_base_model(ModelParams(model_name="tiny", dtype="float32"))
score_answers = partial(scoring.score_answers, dtype="float32")
INDICES = [*(str(i) for i in range(1, 13)), "NO_TRADE"]


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """The tiny model is too small to share between threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _score_naively(system: str, user: str, answer: str) -> float:
    """One full forward pass over prompt and answer."""
    prompt, target = encode_prompt(TOKENIZER, system, user), encode_answer(TOKENIZER, answer)
    with torch.no_grad():
        log_probabilities = MODEL(torch.tensor([prompt + target])).logits[0].double().log_softmax(-1)
    return sum(log_probabilities[len(prompt) - 1 + i, token].item() for i, token in enumerate(target))


@settings(max_examples=25, deadline=None)
@given(
    users=st.lists(
        st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "Z")), max_size=60),
        min_size=1,
        max_size=5,
    ),
    batch_size=st.integers(1, 3),
    data=st.data(),
)
def test_scores_equal_a_full_forward_pass_per_answer(users, batch_size, data):
    prompts = [("Decide.", user) for user in users]
    subsets = st.lists(st.sampled_from(["SELL_CALL", "SKIP", *INDICES]), min_size=1, max_size=6, unique=True)
    answers = [data.draw(subsets) for _ in users]
    scores = score_answers(MODEL, TOKENIZER, prompts, answers, batch_size=batch_size)
    for (system, user), allowed, values in zip(prompts, answers, scores, strict=True):
        expected = [_score_naively(system, user, answer) for answer in allowed]
        np.testing.assert_allclose(values, expected, atol=1e-4, rtol=0)


def test_score_of_an_answer_does_not_depend_on_the_other_answers():
    prompt = [("Decide.", "[1] a [10] b")]
    alone = score_answers(MODEL, TOKENIZER, prompt, [["10"]])[0][0]
    among = score_answers(MODEL, TOKENIZER, prompt, [INDICES])[0][INDICES.index("10")]
    assert among == pytest.approx(alone, abs=1e-4)


def test_bfloat16_scores_stay_near_float32():
    prompt = [("Decide.", "[1] a [10] b")]
    coarse = scoring.score_answers(MODEL, TOKENIZER, prompt, [INDICES], dtype="bfloat16")[0]
    exact = score_answers(MODEL, TOKENIZER, prompt, [INDICES])[0]
    assert not np.array_equal(coarse, exact)
    np.testing.assert_allclose(coarse, exact, atol=0.2, rtol=0)


def test_1_and_10_differ_although_they_share_a_token():
    one, ten = score_answers(MODEL, TOKENIZER, [("Decide.", "Pick.")], [["1", "10"]])[0]
    assert one != ten


def test_two_token_vocabulary_worked_by_hand(monkeypatch):
    """A model that finds every token equally likely gives each answer its number of tokens times -ln(vocabulary)."""
    weight = MODEL.get_output_embeddings().weight
    monkeypatch.setattr(weight, "data", torch.zeros_like(weight))
    sizes = [len(encode_answer(TOKENIZER, answer)) for answer in INDICES]
    scores = score_answers(MODEL, TOKENIZER, [("Decide.", "Pick.")], [INDICES])[0]
    np.testing.assert_allclose(scores, [-size * np.log(len(weight)) for size in sizes], rtol=1e-6)


@pytest.mark.parametrize("answers", [[[]], [["1", "1"]], [["1"], ["2"]]])
def test_unusable_answers_are_refused(answers):
    with pytest.raises(ValueError, match="answers"):
        score_answers(MODEL, TOKENIZER, [("Decide.", "Pick.")], answers)
