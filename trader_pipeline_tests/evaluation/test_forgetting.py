"""Forgetting: the measure against generate() and plain arithmetic, its interval, what counts as held out."""

from __future__ import annotations

import json
from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch
from peft import LoraConfig, get_peft_model

from trader_pipeline.corpora.stable import load_stable_instructions
from trader_pipeline.evaluation.forgetting import (
    ADAPTER,
    BASE,
    UNMIXED,
    AnswerLosses,
    answer_losses,
    change_interval,
    forgetting_sentences,
    held_out_instructions,
    measure_forgetting,
    within_budget,
)
from trader_pipeline.evaluation.params import ForgettingParams
from trader_pipeline.evaluation.report.forgetting_section import forgetting_section
from trader_pipeline.evaluation.report.source import Source
from trader_pipeline.schema import conform
from trader_pipeline.schema.tables import FORGETTING
from trader_pipeline.store import TableStore
from trader_pipeline.training.models import (
    ModelError,
    ModelParams,
    encode_answer,
    encode_prompt,
    load_adapter,
    load_base_model,
)

TINY = ModelParams(model_name="tiny", dtype="float32")
PARAMS = ForgettingParams(bootstrap_samples=200)
STABLE = load_stable_instructions()


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@cache
def taught():
    """The tiny model, taught three short answers by heart, one of them on a prompt that it is asked otherwise."""
    model, tokenizer = load_base_model(TINY)
    lessons = [("What is one plus one?", "2."), ("Capital of France?", "Paris."), ("Say yes.", "No.")]
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(35):
        for user, answer in lessons:
            prompt = encode_prompt(tokenizer, "Be brief.", user)
            ids = torch.tensor([prompt + encode_answer(tokenizer, answer)])
            labels = ids.clone()
            labels[:, : len(prompt)] = -100
            model(input_ids=ids, labels=labels).loss.backward()
            optimiser.step()
            optimiser.zero_grad()
    asked = [
        *lessons[:2],
        ("Say yes.", "Yes."),
        ("Capital of France?", "Paris. "),
        ("Who are you?", "A model."),
    ]
    return model.eval(), tokenizer, instructions(asked)


def instructions(pairs) -> pd.DataFrame:
    frame = pd.DataFrame(pairs, columns=["user", "assistant"])
    return frame.assign(system="Be brief.")


def write_adapter(folder, *, scale: float, seed: int = 0):
    """A LoRA adapter on the tiny model whose update is random, of a size given by `scale`."""
    model, _ = load_base_model(TINY)
    torch.manual_seed(seed)
    adapted = get_peft_model(
        model, LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, target_modules="all-linear")
    )
    for name, weights in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weights, std=scale)
    adapted.save_pretrained(folder)
    return folder


def test_an_answer_is_exact_where_greedy_decoding_gives_it_and_stops_and_nowhere_else():
    model, tokenizer, asked = taught()
    measured = answer_losses(model, tokenizer, asked, batch_size=5, dtype="float32")
    decoded = []
    for row in asked.itertuples():
        prompt = torch.tensor([encode_prompt(tokenizer, row.system, row.user)])
        out = model.generate(prompt, do_sample=False, max_new_tokens=16)[0, prompt.shape[1] :].tolist()
        wanted = encode_answer(tokenizer, row.assistant)
        decoded.append(out[: len(wanted)] == wanted)
    assert measured.exact.tolist() == decoded
    assert decoded[:3] == [True, True, False]


def test_losses_are_those_of_each_instruction_by_itself_whatever_the_batches():
    model, tokenizer, asked = taught()
    alone = []
    for row in asked.itertuples():
        prompt, answer = (
            encode_prompt(tokenizer, row.system, row.user),
            encode_answer(tokenizer, row.assistant),
        )
        with torch.inference_mode():
            logs = model(torch.tensor([prompt + answer])).logits[0].log_softmax(-1)
        places = range(len(prompt) - 1, len(prompt) + len(answer) - 1)
        alone.append(-sum(float(logs[place, token]) for place, token in zip(places, answer, strict=True)))
    for size in (1, 2, 5):
        measured = answer_losses(model, tokenizer, asked, batch_size=size, dtype="float32")
        np.testing.assert_allclose(measured.sums, alone, rtol=1e-4, atol=1e-5)
    assert measured.loss == pytest.approx(sum(alone) / measured.tokens.sum(), rel=1e-4)


def test_the_adapter_switched_on_equals_the_folded_one_and_an_empty_one_changes_nothing(tmp_path):
    asked = STABLE.head(12)
    folder = write_adapter(tmp_path / "adapter", scale=0.5)
    measured = measure_forgetting(
        adapter_dir=folder,
        unmixed_dir=write_adapter(tmp_path / "empty", scale=0.0),
        model_params=TINY,
        instructions=asked,
        params=PARAMS,
    )
    conform(measured.table, FORGETTING)
    rows = measured.table.set_index("model")
    folded = answer_losses(*load_adapter(folder, TINY), asked, batch_size=8, dtype="float32").loss
    plain = answer_losses(*load_base_model(TINY), asked, batch_size=8, dtype="float32").loss
    assert rows["loss"][ADAPTER] == pytest.approx(folded, rel=1e-5)
    assert rows["loss"][BASE] == pytest.approx(plain, rel=1e-6)
    assert rows["loss_change_pct"][ADAPTER] == pytest.approx(100 * (folded / plain - 1), abs=1e-3)
    assert abs(rows["loss_change_pct"][ADAPTER]) > 0.01
    assert rows.loc[UNMIXED, ["loss_change_pct", "change_low_pct", "change_high_pct"]].tolist() == [0, 0, 0]


def losses(sums, tokens=10) -> AnswerLosses:
    sums = np.asarray(sums, dtype=float)
    return AnswerLosses(sums, np.full(len(sums), tokens), np.zeros(len(sums), dtype=bool))


def test_the_interval_is_paired_a_loss_that_grows_everywhere_alike_has_none():
    before = losses([1.0, 50.0, 3.0, 7.0])
    assert change_interval(before, losses(before.sums * 1.04), PARAMS) == pytest.approx((4.0, 4.0))


def test_the_interval_covers_the_change_and_is_that_of_resampling_by_hand():
    generator = np.random.default_rng(3)
    before, after = losses(generator.uniform(5, 20, 40)), losses(generator.uniform(5, 20, 40))
    low, high = change_interval(before, after, ForgettingParams(bootstrap_samples=4000))
    changes = []
    for _ in range(4000):
        rows = generator.integers(0, 40, 40)
        changes.append(100 * (after.sums[rows].sum() / before.sums[rows].sum() - 1))
    assert low < 100 * (after.loss / before.loss - 1) < high
    assert (low, high) == pytest.approx(tuple(np.quantile(changes, [0.025, 0.975])), abs=1.5)


def row(model, change, budget=5.0):
    figures = {"step": None, "instructions": 9, "answer_tokens": 40, "loss": 2.0, "exact_share": 0.5}
    ends = {"change_low_pct": change - 1, "change_high_pct": change + 1}
    return {"model": model, **figures, "loss_change_pct": change, **ends, "budget_pct": budget}


@pytest.mark.parametrize(("change", "within"), [(-3.0, True), (5.0, True), (5.001, False)])
def test_a_change_up_to_the_budget_is_within_it_and_one_above_is_not(change, within):
    table = pd.DataFrame([row(BASE, np.nan), row(ADAPTER, change)])
    assert within_budget(table).tolist() == [True, within]
    (line,) = forgetting_sentences(table)
    assert ("within the budget" in line, "OVER the budget" in line) == (within, not within)


def test_held_out_is_what_neither_training_nor_early_stopping_read():
    val = STABLE[STABLE["split"] == "val"]
    mixed = pd.concat([STABLE[STABLE["split"] == "train"], val.head(3)])
    held = held_out_instructions(STABLE, mixed)
    assert set(held["record_id"]) == set(STABLE[STABLE["split"] == "test"]["record_id"]) | set(
        val["record_id"][3:]
    )


def test_without_two_held_out_instructions_there_is_an_error_that_says_what_to_give():
    one = pd.concat([STABLE[STABLE["split"] == "train"], STABLE[STABLE["split"] == "test"].head(1)])
    with pytest.raises(ValueError, match=r"1 of the \d+ stable records is held out.*give more"):
        held_out_instructions(one, one[one["split"] == "train"])


def test_the_kept_step_comes_from_the_manifest_and_the_measure_repeats_bit_by_bit(tmp_path):
    folder = write_adapter(tmp_path / "adapter", scale=0.5)
    (folder / "adapter_manifest.json").write_text(
        json.dumps({"best_step": 12, "model": TINY.model_dump()}) + "\n"
    )
    settings = {"adapter_dir": folder, "model_params": TINY, "instructions": STABLE, "params": PARAMS}
    params = PARAMS.model_copy(update={"max_instructions": 10})
    first = measure_forgetting(**{**settings, "params": params})
    assert first.adapter["step"] == 12
    assert first.adapter["instructions"] == 10
    pd.testing.assert_frame_equal(first.table, measure_forgetting(**{**settings, "params": params}).table)


def test_a_folder_without_an_adapter_is_named(tmp_path):
    with pytest.raises(ModelError, match=r"holds no adapter_model\.safetensors"):
        measure_forgetting(
            adapter_dir=tmp_path, model_params=TINY, instructions=STABLE.head(4), params=PARAMS
        )


def shown(folder, *rows) -> str:
    store = TableStore(str(folder))
    if rows:
        store.write(pd.DataFrame(rows).astype({"step": "Int64"}), FORGETTING, simulated=False)
    return forgetting_section(Source(store, ()))


def base_row(**changes):
    return row(BASE, np.nan) | {"loss": 1.9} | changes


def test_the_report_shows_loss_change_interval_exact_answers_and_verdict_of_each_model(tmp_path):
    html = shown(tmp_path, base_row(), row(ADAPTER, 2.0), row(UNMIXED, 9.0))
    assert "On 9 general instructions that no training read (40 answer tokens)" in html
    assert "2.0000 with the adapter and 1.9000 without: +2.00 %" in html
    assert "within its budget" in html
    cells = [part.split("</td>")[0].split(">")[-1] for part in html.split("<td")[1:]]
    rows = [cells[i : i + 7] for i in range(0, len(cells), 7)]
    assert rows[1] == ["adapter", "–", "2.0000", "+2.00", "+1.00 .. +3.00", "50.0", "within"]
    assert rows[2][3:] == ["+9.00", "+8.00 .. +10.00", "50.0", "over"]
    assert "same seed and planned steps" in html


def test_the_report_says_how_to_compare_and_where_there_is_no_exact_answer_to_lose(tmp_path):
    html = shown(tmp_path, base_row(exact_share=0.0), row(ADAPTER, 7.0))
    assert "over its budget" in html
    assert "trader-pipeline run --set forgetting.compare_unmixed=true" in html
    assert "none to lose" in html


def test_the_report_of_a_run_without_the_measure_says_so(tmp_path):
    assert "has not been measured" in shown(tmp_path)
