"""The console command as a user meets it: files in, files out, exit status, and what it says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from trader_pipeline.cli import backups, binance_ai_trader
from trader_pipeline.cli.binance_ai_trader import main
from trader_pipeline.cli.errors import OutputExistsError
from trader_pipeline.corpora.audit import audit_corpus
from trader_pipeline.corpora.hold_out import hold_out_last
from trader_pipeline.corpora.jsonl import load_corpus_jsonl
from trader_pipeline.corpora.render import answer_of
from trader_pipeline.paper.reading.replay_reader import write_trades
from trader_pipeline.paper.records import Start, TradeRecord
from trader_pipeline_tests.corpora.trade_factory import START, call_trade, spot_trade, stable_texts

COMMANDS = ("evaluate-paper-trades", "convert-replay-to-instruction", "offline-finetune")
EVALUATE, CONVERT, FINETUNE = COMMANDS
MOVES = (20.0, 4.0, -3.0)


def moved(trade: TradeRecord, pct: float) -> TradeRecord:
    """The trade with a gain of so many percent, as its prices say."""
    if trade.direction == "SHORT_CALL":
        return replace(trade, pnl_pct=Decimal(str(pct)), covered_return_pct=Decimal(str(pct)))
    exit_price = trade.entry_price * (1 + pct / 100)
    return replace(trade, exit_price=exit_price, fee=0.0, pnl_pct=Decimal(str(pct)), path=None)


def trades(count: int = 30) -> list[TradeRecord]:
    """Spot trades and calls in turn; GOOD, OK and BAD in turn."""
    makers = (spot_trade, call_trade)
    return [moved(makers[n % 2](n), MOVES[n % 3]) for n in range(count)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with 30 closed trades at the default path."""
    monkeypatch.chdir(tmp_path)
    write_trades(trades(), tmp_path / "ai_data/paper/replay.jsonl")
    return tmp_path


@pytest.fixture
def stable(tmp_path: Path) -> Path:
    path = tmp_path / "stable.jsonl"
    path.write_text("".join(json.dumps({"instruction": q, "output": a}) + "\n" for q, a in stable_texts()))
    return path


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


def succeed(*arguments: object) -> Result:
    result = call(*arguments)
    assert result.exit_code == 0, result.output
    return result


def refuse(status: int, *arguments: object) -> str:
    """What is said, in one message."""
    result = call(*arguments)
    assert result.exit_code == status, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert "Traceback" not in result.output
    return result.output


def read(path: Path) -> dict:
    return json.loads(path.read_text())


def test_verdicts_and_a_table_come_of_the_default_paths(folder):
    result = succeed(EVALUATE)
    written = read(folder / "ai_data/paper/evaluations.json")
    assert [written["summary"][name] for name in ("trades", "good", "ok", "bad")] == [30, 10, 10, 10]
    assert {row["label"] for row in written["evaluations"]} == {"GOOD", "OK", "BAD"}
    assert written["source"]["name"] == "replay.jsonl"
    assert written["source"]["simulated"] is None
    assert written["source"]["option_prices"] == "modelled, unless quotes were recorded"
    for shown in ("hit_rate", "profit_factor", "by_model", "teacher", "0.6667"):
        assert shown in result.output


def test_the_same_replay_gives_the_same_bytes(folder):
    succeed(EVALUATE, "--output-path", "one.json")
    succeed(EVALUATE, "--output-path", "two.json")
    assert (folder / "one.json").read_bytes() == (folder / "two.json").read_bytes()


@pytest.mark.parametrize("command", [EVALUATE, CONVERT])
@pytest.mark.parametrize(
    ("simulated", "words"),
    [(True, "SIMULATED CANDLES"), (None, "Not known whether"), (False, None)],
)
def test_whether_candles_are_simulated_is_told_as_far_as_it_is_known(folder, command, simulated, words):
    path = folder / "ai_data/paper/replay.jsonl"
    if simulated is not None:
        start = Start("BTC_5m/spot", "BTC_5m", "spot", START, START, {}, simulated=simulated)
        path.write_bytes(start.to_line() + path.read_bytes())
    output = succeed(command, "--output-path", "out").output
    assert [w for w in ("SIMULATED CANDLES", "Not known whether") if w in output] == (
        [] if words is None else [words]
    )
    if command == EVALUATE:
        assert read(folder / "out")["source"]["simulated"] is simulated


@pytest.mark.parametrize("command", [EVALUATE, CONVERT])
def test_modelled_premiums_are_told_where_calls_are_judged_and_only_there(folder, command):
    assert "premiums are modelled" in succeed(command, "--output-path", "calls").output
    write_trades([moved(spot_trade(n), MOVES[n % 3]) for n in range(9)], folder / "spot.jsonl")
    result = succeed(command, "--replay-path", "spot.jsonl", "--output-path", "spot")
    assert "premiums" not in result.output
    if command == EVALUATE:
        assert read(folder / "spot")["source"]["option_prices"] is None


@pytest.mark.parametrize("name", ["[/red]oops", "llama[8b]", "[bold]"])
def test_brackets_in_foreign_text_and_folders_are_shown_as_they_are(folder, name):
    (folder / "run[" / "1]").mkdir(parents=True)
    path = folder / "run[/1]/r.jsonl"
    write_trades([replace(trade, model_id=name) for trade in trades(6)], path)
    output = succeed(EVALUATE, "--replay-path", "run[/1]/r.jsonl").output
    assert name in output
    assert "Paper trades of run[/1]/r.jsonl" in output


def test_open_trades_are_listed_and_not_judged(folder):
    opened = replace(spot_trade(99), status="OPEN", exit_ts=None, exit_price=None, pnl_pct=None, path=None)
    write_trades([*trades(), opened], folder / "replay.jsonl")
    succeed(EVALUATE, "--replay-path", "replay.jsonl")
    written = read(folder / "ai_data/paper/evaluations.json")
    assert [trade["trade_id"] for trade in written["open_trades"]] == ["long-0099"]
    assert len(written["evaluations"]) == 30


def test_the_threshold_is_compared_in_decimal(folder):
    write_trades([moved(spot_trade(0), 0.3)], folder / "replay.jsonl")
    for threshold, label in (("0.3", "GOOD"), ("0.30000000000000000001", "OK")):
        succeed(EVALUATE, "--replay-path", "replay.jsonl", "--good-pct", threshold, "--force")
        (row,) = read(folder / "ai_data/paper/evaluations.json")["evaluations"]
        assert row["label"] == label


@pytest.mark.parametrize("command", [EVALUATE, CONVERT])
def test_an_existing_output_is_kept_with_status_2_and_backed_up_with_force(folder, command):
    out = folder / "out.json"
    out.write_text("mine")
    said = refuse(2, command, "--output-path", out)
    assert f"{out} exists" in said
    assert "--force" in said
    assert out.read_text() == "mine"
    for number, before in ((1, "mine"), (2, None)):
        earlier = out.read_bytes()
        result = succeed(command, "--output-path", out, "--force")
        backup = out.with_name(f"out.json.bak{number}")
        assert backup.read_bytes() == earlier
        assert backup.name in result.output
        assert before is None or backup.read_text() == before
    assert sorted(p.name for p in folder.iterdir()) == [
        "ai_data",
        "out.json",
        "out.json.bak1",
        "out.json.bak2",
    ]


@pytest.mark.parametrize("command", [EVALUATE, CONVERT])
def test_refused_lines_are_named_and_nothing_is_written(folder, command):
    path = folder / "foreign.jsonl"
    good = [trade.to_line() for trade in trades(6)]
    path.write_bytes(b"".join([good[0], b'{"trade_id": "x"}\n', *good[1:], b"not JSON\n"]))
    said = refuse(1, command, "--replay-path", path, "--output-path", "out")
    assert f"{path}:2: missing fields" in said
    assert f"{path}:8: " in said
    assert "2 of 8 lines" in said
    assert "--skip-refused" in said
    assert not (folder / "out").exists()
    result = succeed(command, "--replay-path", path, "--output-path", "out", "--skip-refused")
    assert f"{path}:2: missing fields" in result.output
    if command == EVALUATE:
        assert [one["line"] for one in read(folder / "out")["refused"]] == [2, 8]


def test_a_missing_replay_says_how_to_make_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = refuse(1, EVALUATE)
    assert "the default ai_data/paper/replay.jsonl is missing" in said
    assert "trader-pipeline paper replay" in said
    assert "convert-replay-to-instruction" in refuse(1, FINETUNE)
    assert not (tmp_path / "ai_data").exists()


def test_an_output_that_is_an_input_is_wrong_usage(folder):
    path = folder / "ai_data/paper/replay.jsonl"
    before = path.read_bytes()
    assert "is an input" in refuse(2, EVALUATE, "--output-path", path, "--force")
    assert path.read_bytes() == before


def test_chat_records_come_of_the_default_paths_and_pass_the_audit(folder):
    result = succeed(CONVERT)
    records = load_corpus_jsonl(folder / "ai_data/trading/instruction_dataset.jsonl")
    assert len(records) == 30
    assert set(records["kind"]) == {"review"}
    assert sorted(records["assistant"].map(answer_of).value_counts()) == [10, 10, 10]
    assert audit_corpus(records).passed
    assert "before" in result.output


def test_max_samples_and_ratios_bound_the_records(folder):
    ratios = ("--ratio", "GOOD=1", "--ratio", "ok=2", "--ratio", "BAD=1")
    succeed(CONVERT, *ratios, "--max-samples", 8, "--output-path", "few.jsonl")
    answers = load_corpus_jsonl(folder / "few.jsonl")["assistant"].map(answer_of)
    assert answers.value_counts().to_dict() == {"GOOD": 2, "OK": 4, "BAD": 2}


def test_a_mix_has_the_share_that_was_asked_for(folder, stable):
    result = succeed(CONVERT, "--stable-path", stable, "--mix-ratio", 0.25)
    records = load_corpus_jsonl(folder / "ai_data/trading/mixed_dataset.jsonl")
    assert records["kind"].value_counts().to_dict() == {"review": 30, "stable": 10}
    assert "stable share 0.2500 (10 of 40)" in result.output
    result = succeed(CONVERT, "--stable-path", stable, "--mix-ratio", 0.9, "--output-path", "short.jsonl")
    assert load_corpus_jsonl(folder / "short.jsonl")["kind"].value_counts().to_dict() == {
        "stable": 60,
        "review": 7,
    }
    assert "7 of 30 reviews are in: there are too few stable records" in result.output


def test_a_mix_capped_by_max_samples_keeps_the_share(folder, stable):
    arguments = ("--stable-path", stable, "--mix-ratio", 0.2, "--max-samples", 20)
    succeed(CONVERT, *arguments, "--output-path", "one.jsonl")
    succeed(CONVERT, *arguments, "--output-path", "two.jsonl")
    succeed(CONVERT, *arguments, "--output-path", "three.jsonl", "--seed", 7)
    one, two, three = ((folder / f"{n}.jsonl").read_bytes() for n in ("one", "two", "three"))
    assert one == two
    assert one != three
    assert load_corpus_jsonl(folder / "one.jsonl")["kind"].value_counts().to_dict() == {
        "review": 16,
        "stable": 4,
    }


def test_foreign_trades_that_do_not_say_what_was_seen_are_passed_over_by_name(folder):
    path = folder / "foreign.jsonl"
    rows = [json.loads(trade.to_line()) for trade in trades(4)]
    for row in rows[:3]:
        del row["decision_context"]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = succeed(CONVERT, "--replay-path", path)
    for row in rows[:3]:
        assert f"trade {row['trade_id']}" in result.output.replace("'", "").replace('"', "")
    assert "3 of 4 judged trades were passed over" in result.output
    path.write_text("".join(json.dumps(row) + "\n" for row in rows[:3]))
    said = refuse(1, CONVERT, "--replay-path", path, "--output-path", "none.jsonl")
    assert "no record can be made" in said
    assert not (folder / "none.jsonl").exists()


WRONG_USAGE = {
    "a share without stable records": (CONVERT, "--mix-ratio", 0.2),
    "stable records without a share": (CONVERT, "--stable-path", "stable.jsonl"),
    "a share of 1": (CONVERT, "--stable-path", "stable.jsonl", "--mix-ratio", 1),
    "a share that is no number": (CONVERT, "--stable-path", "stable.jsonl", "--mix-ratio", "nan"),
    "no samples": (CONVERT, "--max-samples", 0),
    "an unknown label": (CONVERT, "--ratio", "FINE=1"),
    "a label twice": (CONVERT, "--ratio", "OK=1", "--ratio", "ok=2"),
    "a ratio that is no number": (CONVERT, "--ratio", "OK=nan"),
    "ratios of nothing": (CONVERT, "--ratio", "OK=0"),
    "an unknown unit": (EVALUATE, "--pnl-unit", "points"),
    "a threshold that is no number": (EVALUATE, "--good-pct", "much"),
    "a threshold of zero": (EVALUATE, "--good-pct", "0"),
    "a learning rate of zero": (FINETUNE, "--learning-rate", 0),
    "endless epochs": (FINETUNE, "--num-epochs", "inf"),
    "no steps": (FINETUNE, "--max-steps", 0),
}


@pytest.mark.parametrize("case", WRONG_USAGE)
def test_wrong_usage_has_status_2_and_writes_nothing(folder, case):
    before = sorted(folder.rglob("*"))
    refuse(2, *WRONG_USAGE[case])
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_teaches_with_examples(command):
    text = succeed(*([command] if command else []), "--help").output
    assert f"binance_ai_trader {command}".strip() in text
    if command:
        assert "Examples:" in text


def test_the_flags_are_those_agreed_on():
    agreed = {
        EVALUATE: {"--replay-path", "--output-path"},
        CONVERT: {"--replay-path", "--output-path", "--max-samples", "--stable-path", "--mix-ratio"},
        FINETUNE: {"--train-path", "--model-name", "--output-dir", "--learning-rate", "--num-epochs"},
    }
    assert set(main.commands) == set(agreed)
    for name, flags in agreed.items():
        assert flags <= {flag for option in main.commands[name].params for flag in option.opts}


def test_importing_the_command_loads_nothing_heavy():
    heavy = ("torch", "dagster", "transformers", "mlflow", "numba", "pandas", "ccxt", "pydantic")
    script = (
        f"import sys; import trader_pipeline.cli.binance_ai_trader;"
        f" print([m for m in {heavy!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_records_that_fail_the_audit_are_not_trained_on(folder):
    succeed(CONVERT)
    path = folder / "ai_data/trading/instruction_dataset.jsonl"
    leaking = [json.loads(line) for line in path.read_text().splitlines()]
    for record in leaking:
        record["messages"][1]["content"] += "\nThe outcome is known."
    path.write_text("".join(json.dumps(record) + "\n" for record in leaking))
    said = refuse(1, FINETUNE, "--model-name", "tiny")
    assert "outcome_word" in said
    assert "nothing was trained" in said
    assert not (folder / "ai_data/models").exists()


@pytest.fixture
def untrained(monkeypatch) -> None:
    """Nothing is trained; all that is said before is."""
    monkeypatch.setattr(binance_ai_trader, "_train", lambda *_, **__: None)


def test_the_file_trained_on_and_what_the_audit_left_out_are_named(folder, untrained):
    succeed(CONVERT)
    output = succeed(FINETUNE, "--model-name", "tiny").output
    assert "records: ai_data/trading/instruction_dataset.jsonl" in output
    assert "audit: not checked: label_overlap" in output
    assert "warning" not in output


def test_a_default_that_is_older_than_the_other_is_warned_of(folder, stable, untrained):
    succeed(CONVERT)
    succeed(CONVERT, "--stable-path", stable, "--mix-ratio", 0.25)
    plain, mixed = (folder / f"ai_data/trading/{n}_dataset.jsonl" for n in ("instruction", "mixed"))
    for older, newer, warned in ((plain, mixed, False), (mixed, plain, True)):
        os.utime(older, (1_000_000, 1_000_000))
        os.utime(newer, (2_000_000, 2_000_000))
        output = succeed(FINETUNE, "--model-name", "tiny").output
        assert "records: ai_data/trading/mixed_dataset.jsonl" in output
        assert ("instruction_dataset.jsonl is newer" in output) is warned


@pytest.mark.slow
def test_an_adapter_comes_of_a_mix_and_what_was_there_is_kept(folder, stable):
    from trader_pipeline.training.models import ModelParams, load_adapter

    succeed(CONVERT, "--stable-path", stable, "--mix-ratio", 0.25)
    adapter = folder / "ai_data/models/llm_trader"
    adapter.mkdir(parents=True)
    (adapter / "weights").write_text("old")
    arguments = (FINETUNE, "--model-name", "tiny", "--max-steps", 2, "--learning-rate", 3e-4)
    arguments = (*arguments, "--set", "finetune.max_length=2000")
    assert "llm_trader.bak1" in refuse(2, *arguments)
    result = succeed(*arguments, "--force")
    assert "4 of them are held out" in result.output
    manifest = read(adapter / "adapter_manifest.json")
    assert manifest["audit"]["passed"] is True
    assert manifest["params"]["learning_rate"] == 3e-4
    records = hold_out_last(load_corpus_jsonl(folder / "ai_data/trading/mixed_dataset.jsonl"))
    assert manifest["audit"]["corpus_hash"] == audit_corpus(records).corpus_hash
    load_adapter(adapter, ModelParams(model_name="tiny"))
    assert (adapter.with_name("llm_trader.bak1") / "weights").read_text() == "old"
    assert sorted(p.name for p in adapter.parent.iterdir()) == ["llm_trader", "llm_trader.bak1"]


def test_backups_are_numbered_after_the_last_one(tmp_path):
    path = tmp_path / "evaluations.json"
    for name in ("evaluations.json.bak1", "evaluations.json.bak7", "evaluations.json.bakx"):
        (tmp_path / name).write_text(name)
    path.write_text("old")
    backup = backups.write_output(path, b"new", force=True)
    assert backup == tmp_path / "evaluations.json.bak8"
    assert (backup.read_text(), path.read_text()) == ("old", "new")


def test_a_write_that_fails_half_way_leaves_the_old_file_and_nothing_else(tmp_path):
    def pieces() -> Iterator[bytes]:
        yield b"half"
        raise ValueError("stopped")

    path = tmp_path / "out.json"
    path.write_text("old")
    with pytest.raises(ValueError, match="stopped"):
        backups.write_output(path, pieces(), force=True)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["out.json"]


def test_at_every_step_of_a_forced_write_the_output_holds_the_old_or_the_new(tmp_path, monkeypatch):
    path = tmp_path / "out.json"
    path.write_text("old")
    seen = []
    for name in ("link", "replace", "unlink", "fsync", "chmod"):
        real = getattr(os, name)

        def watched(*arguments: object, _real=real, **named: object) -> object:
            seen.append(path.read_text())
            return _real(*arguments, **named)

        monkeypatch.setattr(os, name, watched)
    backups.write_output(path, b"new", force=True)
    assert seen[0] == "old"
    assert set(seen) <= {"old", "new"}
    assert path.read_text() == "new"


def test_an_output_that_appears_meanwhile_is_not_overwritten(tmp_path, monkeypatch):
    path = tmp_path / "out.json"

    def pieces() -> Iterator[bytes]:
        path.write_text("theirs")
        yield b"mine"

    with pytest.raises(OutputExistsError, match="appeared meanwhile"):
        backups.write_output(path, pieces(), force=False)
    assert path.read_text() == "theirs"


def test_through_a_link_the_file_behind_it_is_replaced_and_kept(tmp_path):
    real, link = tmp_path / "data" / "real.json", tmp_path / "link.json"
    real.parent.mkdir()
    real.write_text("old")
    link.symlink_to(real)
    backup = backups.write_output(link, b"new", force=True)
    assert link.is_symlink()
    assert (real.read_text(), backup) == ("new", real.with_name("real.json.bak1"))


def test_a_folder_is_no_output_file(tmp_path):
    with pytest.raises(IsADirectoryError, match="is a folder"):
        backups.write_output(tmp_path, b"new", force=True)


def test_a_finished_folder_takes_its_name_and_the_old_one_a_numbered_one(tmp_path):
    old, made = tmp_path / "adapter", tmp_path / "made"
    for place in (old, made):
        place.mkdir()
        (place / "weights").write_text(place.name)
    with pytest.raises(OutputExistsError):
        backups.put_folder(made, old, force=False)
    backup = backups.put_folder(made, old, force=True)
    assert backup == tmp_path / "adapter.bak1"
    assert [(p / "weights").read_text() for p in (old, backup)] == ["made", "adapter"]


def test_a_folder_that_cannot_take_its_name_leaves_the_old_one_where_it_was(tmp_path, monkeypatch):
    real, made, link = tmp_path / "far" / "adapter", tmp_path / "made", tmp_path / "link"
    for place in (real, made):
        place.mkdir(parents=True)
        (place / "weights").write_text(place.name)
    link.symlink_to(real)
    rename = os.rename

    def across_disks(source: Path, target: Path) -> None:
        if source == made:
            raise OSError(18, "Invalid cross-device link")
        rename(source, target)

    monkeypatch.setattr(os, "rename", across_disks)
    with pytest.raises(OSError, match="cross-device"):
        backups.put_folder(made, link, force=True)
    assert [p.name for p in real.parent.iterdir()] == ["adapter"]
    assert (link / "weights").read_text() == "adapter"
    assert (made / "weights").read_text() == "made"


def test_finished_adapter_takes_the_place_that_the_output_leads_to(tmp_path, monkeypatch):
    from trader_pipeline.training import finetune

    def trained(*_: object, output_dir: Path, place: Any, **__: object) -> SimpleNamespace:
        made = output_dir.resolve().with_name("made")  # on that disk
        made.mkdir()
        (made / "new").touch()
        place(made, output_dir.resolve())
        return SimpleNamespace(adapter_dir=output_dir, train_loss=1.0, val_loss=1.0)

    (tmp_path / "far" / "adapter").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "far" / "adapter")
    monkeypatch.setattr(finetune, "train_adapter", trained)
    settings = SimpleNamespace(model=None, finetune=None)
    binance_ai_trader._train(None, None, settings, tmp_path / "link", force=True)
    assert (tmp_path / "link" / "new").exists()
    assert sorted(p.name for p in (tmp_path / "far").iterdir()) == ["adapter", "adapter.bak1"]
