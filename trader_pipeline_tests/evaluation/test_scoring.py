from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trader_pipeline.evaluation import prefix_cache, scoring
from trader_pipeline.training.models import ModelParams, encode_answer, encode_prompt, load_base_model
from trader_pipeline_tests.training.tiny_architectures import END_OF_TURN, write_model

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


def _score_naively(system: str, user: str, answer: str, model=MODEL, tokenizer=TOKENIZER) -> float:
    """One full forward pass over prompt and answer."""
    prompt, target = encode_prompt(tokenizer, system, user), encode_answer(tokenizer, answer)
    with torch.no_grad():
        log_probabilities = model(torch.tensor([prompt + target])).logits[0].double().log_softmax(-1)
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


class _Verbatim:
    """A tokenizer to which a text is its token ids, so that prompts of any tokens can be asked about."""

    eos_token_id, pad_token_id = TOKENIZER.eos_token_id, TOKENIZER.pad_token_id

    def apply_chat_template(self, messages, **kwargs):
        return {"input_ids": [int(token) for token in messages[1]["content"].split()]}

    def __call__(self, text, **kwargs):
        return {"input_ids": [int(token) for token in text.split()]}


TOKENS = st.lists(st.integers(3, 8), max_size=4)


@pytest.fixture(scope="module", params=sorted(END_OF_TURN))
def architecture(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    return load_base_model(ModelParams(model_name=write_model(request.param, folder), dtype="float32"))


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shared=st.sampled_from([[], [5], [4, 4, 6], list(range(3, 43))]),
    stems=st.lists(st.sampled_from([[], list(range(9, 29)), [7] * 30]), min_size=1, max_size=3),
    ends=st.lists(TOKENS, min_size=1, max_size=4),
    answers=st.lists(TOKENS.filter(len), min_size=1, max_size=4, unique_by=tuple),
    batch_size=st.integers(1, 5),
)
def test_prompts_that_share_any_beginning_score_as_each_by_itself(
    architecture, shared, stems, ends, answers, batch_size
):
    """Nothing shared, whole prompts, one token more or less, the same prompt twice, on each type of model."""
    model, _ = architecture
    numbers = [shared + stem + end or [3] for stem in stems for end in ends]
    prompts = [("", " ".join(map(str, tokens))) for tokens in numbers]
    allowed = [" ".join(map(str, answer)) for answer in answers]
    scores = score_answers(model, _Verbatim(), prompts, [allowed] * len(prompts), batch_size=batch_size)
    for (system, user), values in zip(prompts, scores, strict=True):
        expected = [_score_naively(system, user, answer, model, _Verbatim()) for answer in allowed]
        np.testing.assert_allclose(values, expected, atol=1e-4, rtol=0)


def _forwarded(monkeypatch) -> list[int]:
    """Tokens of each forward pass that scoring makes from here on."""
    seen: list[int] = []
    true_forward = prefix_cache.forward

    def counting(model, past, tokens, *args, **kwargs):
        seen.append(tokens.numel())
        return true_forward(model, past, tokens, *args, **kwargs)

    monkeypatch.setattr(prefix_cache, "forward", counting)
    monkeypatch.setattr(scoring, "forward", counting)
    return seen


def test_what_all_prompts_share_is_read_once(monkeypatch):
    passes = _forwarded(monkeypatch)
    prompts = [("", " ".join(map(str, [5] * 50 + [number]))) for number in range(6, 16)]
    score_answers(MODEL, _Verbatim(), prompts, [["3", "4"]] * 10, batch_size=10)
    assert passes == [50, 10 * (1 + 2)], "the beginning alone, then a token and two answers a prompt"


def test_what_neighbours_share_is_read_once(monkeypatch):
    passes = _forwarded(monkeypatch)
    tokens = [[3] + [stem] * 40 + [number] for number in range(6, 11) for stem in (4, 5)]
    prompts = [("", " ".join(map(str, t))) for t in tokens]
    score_answers(MODEL, _Verbatim(), prompts, [["3", "4"]] * 10, batch_size=10)
    assert passes == [2 * 41, 10 * (1 + 2)], "one token that all share is not worth a pass"


def test_a_prompt_by_itself_is_read_in_one_pass(monkeypatch):
    passes = _forwarded(monkeypatch)
    score_answers(MODEL, _Verbatim(), [("", "3 4 5")], [["6", "7 8"]])
    assert passes == [3 + 1 + 2]


def test_weights_are_the_models_own_again_after_scoring_even_in_an_error():
    before = dict(MODEL.named_parameters())
    with pytest.raises(IndexError):
        scoring.score_answers(MODEL, _Verbatim(), [("", "99999")], [["3"]], dtype="bfloat16")
    after = dict(MODEL.named_parameters())
    assert before.keys() == after.keys()
    assert all(before[name] is after[name] for name in before)


def test_weights_cast_once_give_the_very_scores_of_weights_cast_in_every_pass(monkeypatch):
    prompts = [("Decide.", f"[1] a [{n}] b") for n in range(2, 6)]
    once = scoring.score_answers(MODEL, TOKENIZER, prompts, [INDICES] * 4, dtype="bfloat16")
    plain = prefix_cache.computing_in
    monkeypatch.setattr(scoring, "computing_fast", lambda model, dtype: plain(dtype))
    always = scoring.score_answers(MODEL, TOKENIZER, prompts, [INDICES] * 4, dtype="bfloat16")
    assert all(np.array_equal(a, b) for a, b in zip(once, always, strict=True))


def test_scores_do_not_depend_on_what_else_is_asked():
    prompts = [("Decide.", f"Underlying BTC, spot 64{n} USD. " * (1 + n % 3)) for n in range(9)]
    together = score_answers(MODEL, TOKENIZER, prompts, [INDICES] * 9, batch_size=4)
    alone = [score_answers(MODEL, TOKENIZER, [prompt], [INDICES])[0] for prompt in prompts]
    np.testing.assert_allclose(together, alone, atol=1e-5, rtol=0)


def test_no_prompts_give_no_scores():
    assert score_answers(MODEL, TOKENIZER, [], []) == []


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


def test_a_prompt_that_has_no_positions_left_for_its_longest_answer_is_refused(architecture):
    """GPT-2 types raise IndexError there, Llama types read on behind what they were trained for."""
    model, _ = architecture
    most = model.config.max_position_embeddings
    fits = [("", " ".join(["3"] * (most - 2)))]
    [scores] = score_answers(model, _Verbatim(), fits, [["4 5", "6"]])
    assert np.isfinite(scores).all()
    with pytest.raises(
        ValueError, match=f"{most + 1} tokens with the longest answer, the model reads {most}; "
    ):
        score_answers(model, _Verbatim(), fits, [["6", "4 5 6"]])
