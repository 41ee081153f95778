"""Any chat file can be audited: foreign forms, the command, and what is known of a published corpus."""

import json

import pytest
from click.testing import CliRunner

from trader_pipeline.cli.audit import audit
from trader_pipeline.corpora.audit.chat_files import UnreadableError, read_chat_file
from trader_pipeline.corpora.audit.files import audit_files
from trader_pipeline.corpora.jsonl import load_corpus_jsonl, write_corpus_jsonl
from trader_pipeline.corpora.records import corpus_hash
from trader_pipeline_tests.corpora.clean_corpora import clean_trade
from trader_pipeline_tests.corpora.planted_flaws import planted


def write(path, *documents):
    path.write_text("".join(json.dumps(d) + "\n" for d in documents), encoding="utf-8")
    return path


def turn(role, content):
    return {"role": role, "content": content}


CHAT = {"messages": [turn("system", "s"), turn("user", "u"), turn("assistant", "a")]}


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (CHAT, ("s", "u", "a")),
        (CHAT | {"id": 7, "tags": ["x"]}, ("s", "u", "a")),
        ({"messages": [turn("user", "u"), turn("assistant", "a")]}, ("", "u", "a")),
        ({"conversations": [{"from": "human", "value": "u"}, {"from": "gpt", "value": "a"}]}, ("", "u", "a")),
        (
            {
                "messages": [
                    turn("user", "u"),
                    turn("assistant", "x"),
                    turn("user", "v"),
                    turn("assistant", "a"),
                ]
            },
            ("", "u\n\nx\n\nv", "a"),
        ),
        (
            {"messages": [turn("user", [{"type": "text", "text": "u"}]), turn("assistant", "a")]},
            ("", "u", "a"),
        ),
        ({"prompt": "u", "completion": "a"}, ("", "u", "a")),
        ({"prompt": [turn("user", "u")], "completion": [turn("assistant", "a")]}, ("", "u", "a")),
        ({"instruction": "u", "input": "i", "output": "a"}, ("", "u\ni", "a")),
        ({"question": "u", "answer": "a"}, ("", "u", "a")),
    ],
)
def test_foreign_forms_are_read(tmp_path, document, expected):
    frame, findings = read_chat_file(write(tmp_path / "x.jsonl", document))
    assert tuple(frame.loc[0, ["system", "user", "assistant"]]) == expected
    assert findings == []


def test_preferences_are_read_with_their_prompt_or_as_whole_conversations(tmp_path):
    asked = [turn("user", "u")]
    documents = [
        {"prompt": asked, "chosen": [turn("assistant", "a")], "rejected": [turn("assistant", "b")]},
        {"chosen": [*asked, turn("assistant", "a")], "rejected": [*asked, turn("assistant", "b")]},
        {"prompt": "u", "chosen": "a", "rejected": "b"},
    ]
    frame, findings = read_chat_file(write(tmp_path / "x.jsonl", *documents))
    assert set(zip(frame["user"], frame["chosen_answer"], frame["rejected_answer"], strict=True)) == {
        ("u", "a", "b")
    }
    assert findings == []


@pytest.mark.parametrize(
    "roles",
    [
        ("assistant", "user", "assistant"),
        ("user", "user", "assistant"),
        ("user", "system", "assistant"),
        ("narrator", "user", "assistant"),
        ("user", "assistant", "user"),
    ],
)
def test_roles_out_of_order_are_a_finding_with_file_and_line(tmp_path, roles):
    path = write(tmp_path / "x.jsonl", CHAT, {"messages": [turn(role, "text") for role in roles]})
    report = audit_files(path)
    (finding,) = [f for f in report.findings if f.rule == "role_order"]
    assert (finding.line, finding.source, finding.figure) == (2, str(path), 1.0)
    assert report.records == 2


def test_a_record_without_turns_is_a_finding_and_the_others_are_audited(tmp_path):
    report = audit_files(write(tmp_path / "x.jsonl", CHAT, {"text": "no turns"}, CHAT))
    assert report.records == 2
    assert [(f.rule, f.line) for f in report.findings if f.rule == "unreadable_record"] == [
        ("unreadable_record", 2)
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "x.jsonl: the file is empty"),
        (b'{"text": 1}\n', "x.jsonl:1: none of the forms"),
        (json.dumps(CHAT).encode() + b"\n{\n", "x.jsonl:2: not JSON"),
        (b"[1, 2]\n", "x.jsonl:1: a JSON list, not an object"),
        (b'{"prompt": "\xff"}\n', "x.jsonl:1: not UTF-8"),
        (b"[" * 200_000 + b"]" * 200_000, "x.jsonl:1: nested too deep"),
        (json.dumps(CHAT).replace('"u"', '"\\ud800"').encode(), "x.jsonl:1: holds"),
        (json.dumps(CHAT).encode() + b"\n" + b"9" * 5_000, "x.jsonl:2: not JSON"),
    ],
)
def test_a_file_that_cannot_be_read_ends_with_status_2_and_says_where(tmp_path, content, message):
    path = tmp_path / "x.jsonl"
    path.write_bytes(content)
    with pytest.raises(UnreadableError, match=message.replace("[", r"\[")):
        read_chat_file(path)
    result = CliRunner().invoke(audit, [str(path)])
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_byte_order_mark_and_blank_lines_are_read_alike_by_both_readers(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(CHAT).encode() + b"\r\n\r\n" + json.dumps(CHAT).encode())
    frame, findings = read_chat_file(path)
    assert findings == []
    assert frame["line"].tolist() == load_corpus_jsonl(path)["line"].tolist() == [1, 3]
    assert frame["record_id"].tolist() == load_corpus_jsonl(path)["record_id"].tolist()


@pytest.mark.parametrize("weight", ["-3", "NaN", "true", "1" + "0" * 400, "null"])
def test_a_weight_that_is_none_is_a_finding_with_its_line(tmp_path, weight):
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps(CHAT)[:-1] + f', "weight": {weight}}}\n')
    assert [(f.rule, f.line) for f in audit_files(path).findings] == [("weight_unusable", 1)]
    with pytest.raises(ValueError, match=r"x\.jsonl:1: weight is"):
        load_corpus_jsonl(path)


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"prompt": "u\nAnswer: a", "completion": "a"}, 1),
        ({"chosen": "a", "rejected": "b"}, 1),
        ({"prompt": "u", "source": "x"}, 0),
    ],
)
def test_a_record_that_can_be_read_in_two_forms_is_a_finding(tmp_path, more, expected):
    report = audit_files(write(tmp_path / "x.jsonl", CHAT | more))
    assert [f.line for f in report.findings if f.rule == "several_forms"] == [1] * expected
    alpaca = {"instruction": "u", "input": "i", "output": "a"}
    assert audit_files(write(tmp_path / "y.jsonl", alpaca)).passed


def test_our_own_files_read_as_the_strict_reader_reads_them(tmp_path, corpora):
    for name, frame in (("pick", corpora.pick), ("replay", corpora.replay), ("stable", corpora.stable)):
        path = write_corpus_jsonl(frame, tmp_path / f"{name}.jsonl")
        ours, findings = read_chat_file(path)
        strict = load_corpus_jsonl(path)
        assert findings == []
        for column in ("record_id", "kind", "system", "user", "assistant", "weight", "line"):
            assert ours[column].tolist() == strict[column].tolist()


def test_the_command_passes_a_clean_corpus_and_writes_the_report_that_training_asks_for(tmp_path):
    frame = clean_trade(300, 2)
    parts = {split: frame[frame["split"] == split].reset_index(drop=True) for split in ("train", "val")}
    paths = {split: str(write_corpus_jsonl(own, tmp_path / f"{split}.jsonl")) for split, own in parts.items()}
    out = tmp_path / "audit.json"
    arguments = [paths["val"], "--train", paths["train"], "--json", "--out", str(out)]
    result = CliRunner().invoke(audit, arguments)
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document == json.loads(out.read_text())
    assert document["corpus_hash"] == corpus_hash(frame)
    assert CliRunner().invoke(audit, arguments).exit_code == 2  # the report is not overwritten


def test_the_command_names_rule_figure_bound_and_line_and_ends_with_status_1(tmp_path):
    path = write_corpus_jsonl(planted("answer after a key word", records=200, seed=0), tmp_path / "x.jsonl")
    result = CliRunner().invoke(audit, [str(path)])
    assert result.exit_code == 1
    (line,) = [x for x in result.stdout.splitlines() if x.startswith("printed_answer")]
    assert "1.000 (bound 0.5" in line
    assert f"[{path}:1]" in line


def test_bounds_are_settings_of_the_command(tmp_path):
    path = write_corpus_jsonl(planted("one answer in 88 %", records=300, seed=0), tmp_path / "x.jsonl")
    assert CliRunner().invoke(audit, [str(path)]).exit_code == 1
    assert CliRunner().invoke(audit, [str(path), "--set", "audit.constant=0.95"]).exit_code == 0


@pytest.mark.parametrize("exit_style", ["hold_to_expiry", "tp_and_roll"])
def test_a_published_corpus_prints_its_answer_and_has_a_strong_constant(reference_data, exit_style):
    path = reference_data / "foreign_corpora" / f"ranking_{exit_style}.jsonl"
    report = audit_files(path)
    found = {finding.rule: finding for finding in report.findings}
    assert report.records == 422
    assert found["printed_answer"].figure == 1.0
    assert found["printed_answer"].line == 1
    assert found["constant"].figure == pytest.approx(0.829, abs=0.001)
    assert {"position", "hindsight", "outcome_word", "largest_score", "key_words"} <= set(found)
