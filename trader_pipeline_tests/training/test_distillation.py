"""Self-distillation: the model's own answers, what is left out and counted, and the way back as a corpus."""

from __future__ import annotations

import io
from functools import cache

import pytest
import torch
from click.testing import CliRunner

from trader_pipeline.cli import main
from trader_pipeline.corpora.stable import SYSTEM, StableParams, load_stable_instructions, write_stable_file
from trader_pipeline.profile import Profile
from trader_pipeline.training.distillation import _Progress, distil_answers, read_prompts
from trader_pipeline.training.models import ModelParams, encode_answer, encode_prompt, load_base_model

TINY = ModelParams(model_name="tiny", dtype="float32")
LESSONS = {"What is one plus one?": "2.", "Capital of France?": "Paris.", "Say nothing.": ""}
STEPS = 50


@cache
def taught():
    """The tiny model with three answers by heart; to "Go on." it says one word without an end."""
    model, tokenizer = load_base_model(TINY)
    records = []
    for user, answer in [*LESSONS.items(), ("Go on.", "the" * 16)]:
        tail = encode_answer(tokenizer, answer)
        records.append((encode_prompt(tokenizer, SYSTEM, user), tail[:-1] if user == "Go on." else tail))
    width = max(len(prompt + tail) for prompt, tail in records)
    ids, labels = torch.zeros((4, width), dtype=torch.long), torch.full((4, width), -100)
    for row, (prompt, tail) in enumerate(records):
        ids[row, : len(prompt + tail)] = torch.tensor(prompt + tail)
        labels[row, len(prompt) : len(prompt + tail)] = torch.tensor(tail)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(STEPS):
        model(input_ids=ids, labels=labels).loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    return model.eval(), tokenizer


def test_answers_are_the_models_own_and_what_is_no_answer_is_left_out_and_counted():
    prompts = ["Capital of France?", "Go on.", "What is one plus one?", "Say nothing.", "Capital of France?"]
    found = distil_answers(*taught(), prompts, max_new_tokens=12, dtype="float32")
    assert found.answers == [("Capital of France?", "Paris."), ("What is one plus one?", "2.")]
    assert found.counts == {"prompts": 5, "given twice": 1, "unfinished": 1, "empty": 1, "kept": 2}


def test_answers_are_greedy_whatever_the_model_brings_and_whatever_the_batches():
    model, tokenizer = taught()
    plain = {
        user: distil_answers(
            model, tokenizer, [user], max_new_tokens=12, batch_size=1, dtype="float32"
        ).answers
        for user in LESSONS
    }
    model.generation_config.update(do_sample=True, temperature=5.0, repetition_penalty=9.0)
    try:
        together = distil_answers(model, tokenizer, list(LESSONS), max_new_tokens=12, dtype="float32").answers
    finally:
        model.generation_config.update(do_sample=False, temperature=1.0, repetition_penalty=1.0)
    assert together == [pair for pairs in plain.values() for pair in pairs]
    assert len(together) == 2


def test_prompts_are_read_from_lines_of_text_and_from_objects(tmp_path):
    (tmp_path / "p.txt").write_text(" One? \n\nTwo?\n")
    (tmp_path / "p.jsonl").write_text('{"prompt": "One?"}\n{"instruction": "Two?", "answer": "2"}\n')
    assert read_prompts(tmp_path / "p.txt") == read_prompts(tmp_path / "p.jsonl") == ["One?", "Two?"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("p.csv", "a\n", r"\.txt \(one a line\) or \.jsonl"),
        ("p.txt", "\n \n", "holds no prompt"),
        ("p.jsonl", '{"prompt": "a"}\n{', "p.jsonl:2: no JSON"),
        ("p.jsonl", '{"prompt": "a"}\n\n{"prompt": " "}\n', r"p.jsonl:3: needs .*prompt"),
        ("p.jsonl", "[1]\n", "p.jsonl:1: needs"),
    ],
)
def test_a_file_without_prompts_is_refused_by_line(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        read_prompts(tmp_path / name)


def test_a_written_file_is_read_back_as_the_stable_corpus_and_never_overwritten(tmp_path):
    pairs = [(f"What is {i} plus one?", f"{i + 1}.") for i in range(40)]
    path = write_stable_file(pairs, tmp_path / "stable.jsonl", model="tiny")
    frame = load_stable_instructions(StableParams(path=path))
    assert list(zip(frame["user"], frame["assistant"], strict=True)) == pairs
    assert set(frame["split"]) == {"train", "val", "test"}
    with pytest.raises(FileExistsError, match="nothing was overwritten"):
        write_stable_file(pairs, path, model="tiny")


def test_a_stable_file_counts_by_its_content_and_not_by_where_it_lies(tmp_path):
    def hash_of(path):
        return Profile(name="p", stable=StableParams(path=path)).section_hash("stable")

    first = write_stable_file([("a", "b")], tmp_path / "one.jsonl", model="tiny")
    copy = write_stable_file([("a", "b")], tmp_path / "two.jsonl", model="tiny")
    other = write_stable_file([("a", "c")], tmp_path / "three.jsonl", model="tiny")
    assert hash_of(first) == hash_of(copy)
    assert len({hash_of(first), hash_of(other), hash_of(None)}) == 3
    with pytest.raises(ValueError, match=r"stable\.path is .*corpus distil"):
        hash_of(tmp_path / "none.jsonl")


def distil(tmp_path, *arguments):
    (tmp_path / "p.txt").write_text("One?\nTwo?\n")
    given = ["--prompts", str(tmp_path / "p.txt"), "--out", str(tmp_path / "out.jsonl"), "--profile", "tiny"]
    return CliRunner().invoke(main, ["corpus", "distil", *given, *arguments])


def test_the_command_says_when_no_answer_ended_and_writes_nothing(tmp_path):
    done = distil(tmp_path, "--max-new-tokens", "2")
    assert done.exit_code == 1
    assert "unfinished 2" in done.output
    assert "raise --max-new-tokens" in done.output
    assert not (tmp_path / "out.jsonl").exists()


def test_the_command_refuses_an_existing_file_before_it_loads_a_model(tmp_path):
    (tmp_path / "out.jsonl").write_text("mine")
    done = distil(tmp_path)
    assert done.exit_code == 1
    assert "exists; name a new file" in done.output
    assert (tmp_path / "out.jsonl").read_text() == "mine"


def test_the_command_writes_what_the_model_answered(tmp_path, monkeypatch):
    monkeypatch.setattr("trader_pipeline.training.models.load_base_model", lambda params: taught())
    (tmp_path / "q.txt").write_text("Capital of France?\n")
    done = distil(tmp_path, "--prompts", str(tmp_path / "q.txt"), "--max-new-tokens", "12")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "out.jsonl").read_text() == (
        '{"instruction": "Capital of France?", "answer": "Paris.", "model": "tiny"}\n'
    )


def test_the_command_takes_a_model_names_what_did_not_end_and_tells_how_it_goes(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "trader_pipeline.training.models.load_base_model", lambda params: asked.append(params) or taught()
    )
    (tmp_path / "q.txt").write_text("Capital of France?\nGo on.\n")
    given = ["--prompts", str(tmp_path / "q.txt"), "--max-new-tokens", "12", "--batch-size", "1"]
    done = distil(tmp_path, *given, "--model", "smollm2-135m-instruct")
    assert done.exit_code == 0, done.output
    assert asked[0].model_name == "smollm2-135m-instruct"
    assert "not ended within 12 tokens (--max-new-tokens): Go on." in done.stderr
    assert "answers 1/2, " in done.stderr
    assert "answers 2/2, 00:00 left" in done.stderr
    assert "nothing has checked whether they are right" in done.stdout
    assert "too few for mix.stable_share" in done.stderr


def test_a_terminal_sees_the_tokens_of_a_pass_before_its_first_answer():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    progress = _Progress(8, 128, Terminal())
    progress._bar.mininterval = 0
    progress.on_token()
    assert "token 1 of at most 128" in progress._stream.getvalue()


def test_distil_help_warns_that_answers_may_be_wrong():
    text = CliRunner().invoke(main, ["corpus", "distil", "--help"]).output
    assert "a small model often answers wrongly" in " ".join(text.split())
