"""The ablation: the same tests for every row, intervals that are right, finished runs that are not repeated."""

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from benchmarks import _ablation_table as tables
from benchmarks import ablation
from benchmarks._ablation_data import KEY, Asked, Sizes, UnusableRowError, load_decisions, pairs_of
from benchmarks._ablation_rows import ROWS, Study
from trader_pipeline.corpora.render import SELL_CALL, SKIP
from trader_pipeline.settings import load_profile

SIZES = Sizes(train=16, val=8, test=10)
PROFILE = load_profile(
    "tiny",
    overrides={
        "klines.sample.years": 2,
        "finetune.max_length": 4096,
        "finetune.max_steps": 2,
        "finetune.eval_steps": 2,
        "finetune.r": 2,
        "model.dtype": "float32",
    },
)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def decisions():
    return load_decisions(PROFILE, SIZES)


def keys(corpus, split):
    trading = corpus[(corpus["kind"] == "trade_or_skip") & (corpus["split"] == split)]
    return list(trading[KEY].itertuples(index=False, name=None))


@pytest.mark.parametrize(
    "changed", [{"render": {"style": "report"}}, {"stable": False}, {"balanced": False}, {"seed": 1}]
)
def test_every_row_and_seed_is_tested_on_the_same_decisions(decisions, changed):
    baseline = {"seed": 0, "render": {}}
    first, other = decisions.corpus(**baseline), decisions.corpus(**{**baseline, **changed})
    assert keys(first, "test") == keys(other, "test")
    assert len(keys(first, "test")) == SIZES.test


def test_another_style_is_trained_on_the_same_decisions_and_another_seed_is_not(decisions):
    first = decisions.corpus(seed=0, render={})
    assert keys(first, "train") == keys(decisions.corpus(seed=0, render={"rationale": True}), "train")
    assert keys(first, "train") != keys(decisions.corpus(seed=1, render={}), "train")
    assert keys(first, "val") == keys(decisions.corpus(seed=1, render={}), "val")


def test_the_splits_of_a_row_have_no_decision_in_common_and_the_stable_share_is_met(decisions):
    corpus = decisions.corpus(seed=0, render={})
    parts = [set(keys(corpus, split)) for split in ("train", "val", "test")]
    assert len(set.union(*parts)) == sum(map(len, parts)) == sum(SIZES)
    train = corpus[corpus["split"] == "train"]
    assert (train["kind"] == "stable").mean() == pytest.approx(PROFILE.mix.stable_share)
    assert train[train["kind"] == "trade_or_skip"]["assistant"].value_counts().to_dict() == {
        SELL_CALL: SIZES.train // 2,
        SKIP: SIZES.train // 2,
    }


def test_a_question_offers_both_answers_and_the_right_one_is_the_records(decisions):
    render = {"rationale": True}
    corpus = decisions.corpus(seed=0, render=render)
    asked = decisions.asked(corpus, render)
    answers = corpus[corpus["split"] == "test"]["assistant"].tolist()
    for (sell, skip), right, answer in zip(asked.turns, asked.sell_is_right, answers, strict=True):
        assert sell.endswith(f"\n{SELL_CALL}")
        assert skip.endswith(f"\n{SKIP}")
        assert answer == (sell if right else skip)


def test_pairs_prefer_the_right_answer_and_hold_no_stable_record(decisions):
    corpus = decisions.corpus(seed=0, render={})
    pairs = pairs_of(corpus)
    own = corpus[corpus["kind"] == "trade_or_skip"]
    assert pairs["chosen_answer"].tolist() == own["assistant"].tolist()
    assert (pairs["chosen_answer"] != pairs["rejected_answer"]).all()


def test_more_records_than_the_candles_give_are_refused(decisions):
    greedy = load_decisions(PROFILE, SIZES._replace(test=100_000))
    with pytest.raises(UnusableRowError, match="100000 are asked for"):
        greedy.corpus(seed=0, render={})


RIGHT = np.array([True, True, False, False])
ASKED = Asked([("s", "u")] * 4, [["a", "b"]] * 4, RIGHT, np.array([1.0, -3.0, 2.0, 5.0]))


def result(sell, said=None):
    said = said or [SELL_CALL if p > 0.5 else SKIP for p in sell]
    return {
        "sell": sell,
        "said": said,
        "val_loss": 0.5,
        "tokens": 9,
        "tokens_per_second": 3,
        "stable_loss": 1.1,
        "lifted": [],
    }


def test_figures_of_a_row_are_those_computed_by_hand():
    figures = tables.figures_of([result([0.8, 0.4, 0.1, 0.6])], ASKED, 1.0).by_seed
    assert figures["accuracy"] == [0.5]
    assert figures["log loss"][0] == pytest.approx(-np.log([0.8, 0.4, 0.9, 0.4]).mean())
    assert figures["Brier"][0] == pytest.approx((0.04 + 0.36 + 0.01 + 0.36) / 4)
    assert figures["advantage"][0] == pytest.approx((1 + 5) / 4)
    assert figures["stable change"][0] == pytest.approx(10)


def test_a_text_without_an_answer_is_wrong_sells_nothing_and_has_no_probability():
    figures = tables.figures_of([result(None, [SELL_CALL, None, SKIP, None])], ASKED, 1.0).by_seed
    assert figures["accuracy"] == [0.5]
    assert figures["balanced accuracy"] == [0.5]
    assert figures["no answer"] == [0.5]
    assert figures["advantage"] == [0.25]
    assert np.isnan(figures["log loss"][0])


def test_the_difference_is_paired_so_what_seeds_and_records_share_does_not_widen_it():
    shared = np.random.default_rng(0).normal(0, 5, (3, 40)) + np.array([[-9.0], [0.0], [9.0]])
    noise = np.random.default_rng(1).normal(0, 0.1, (3, 40))
    mean, half = tables.paired_difference(shared + 1 + noise, shared)
    assert mean == pytest.approx(1, abs=0.1)
    assert half < 0.2
    assert tables.verdict(mean, half, sign=1) == "better"
    assert tables.verdict(mean, half, sign=-1) == "worse"


def test_seeds_that_agree_do_not_make_one_record_a_finding():
    other = np.zeros((3, 24))
    row = other.copy()
    row[:, 0] = 1
    assert tables.verdict(*tables.paired_difference(row, other), sign=1) == "tied"


def test_one_seed_has_no_interval_and_no_verdict():
    mean, half = tables.paired_difference(np.ones((1, 4)), np.zeros((1, 4)))
    assert mean == 1
    assert tables.verdict(mean, half, sign=1) == ""


def test_rows_bring_those_that_they_need_and_an_unknown_one_is_named():
    names = [row.name for row in ablation.chosen_rows("focal loss, DPO after SFT")]
    assert names == ["baseline", "answers as they come", "focal loss", "DPO after SFT"]
    with pytest.raises(Exception, match="no row 'poetry'"):
        ablation.chosen_rows("poetry")


def test_a_row_that_cannot_be_run_is_left_out_with_its_reason_and_takes_those_after_it_along(
    decisions, tmp_path, monkeypatch
):
    def broken(row, seed, study):
        raise UnusableRowError("the moon is wrong")

    monkeypatch.setattr(ablation, "run_row", broken)
    rows = [ROWS["baseline"], ROWS["DPO after SFT"]]
    results, left_out = ablation._run_all(rows, [0, 1], Study(decisions, PROFILE.finetune, tmp_path))
    assert results == {}
    assert left_out["baseline"] == "the moon is wrong"
    assert "'baseline'" in left_out["DPO after SFT"]


def test_every_row_is_described_in_the_docs():
    described = ablation.DOCS.read_text().split("## How to read it")[0]
    assert all(f"| {name} |" in described for name in ROWS if name != "baseline")


def test_the_tables_go_between_the_markers_and_the_rest_of_the_page_stays(tmp_path, monkeypatch):
    page = tmp_path / "ablation.md"
    page.write_text("before\n<!-- begin ablation -->\nold\n<!-- end ablation -->\nafter\n")
    monkeypatch.setattr(ablation, "DOCS", page)
    monkeypatch.setattr(ablation, "ablation", lambda rows, **_: "new \\1 table")
    done = CliRunner().invoke(ablation.main, ["--rows", "baseline", "--write-docs"], catch_exceptions=False)
    assert done.exit_code == 0
    text = page.read_text()
    assert text.startswith("before\n<!-- begin ablation -->\n\nnew \\1 table\n")
    assert text.endswith("\n<!-- end ablation -->\nafter\n")
    assert "old" not in text


def test_the_command_in_the_docs_names_no_folder_of_this_machine(monkeypatch):
    monkeypatch.setattr("sys.argv", ["x", "--klines", "/home/me/candles", "--seeds", "3", "--write-docs"])
    assert ablation._command() == "python benchmarks/ablation.py --klines FOLDER --seeds 3"


def test_klines_that_give_too_few_records_are_one_line_with_a_way_out(monkeypatch):
    def too_few(rows, **_):
        raise UnusableRowError("the candles give 3 records with split test, 96 are asked for")

    monkeypatch.setattr(ablation, "ablation", too_few)
    done = CliRunner().invoke(ablation.main, ["--rows", "baseline"])
    assert done.exit_code == 1
    assert "ask for fewer with --records and --tests" in done.output


@pytest.mark.slow
def test_two_rows_and_seeds_make_a_table_and_a_second_run_repeats_only_what_is_missing(tmp_path, monkeypatch):
    def run():
        return ablation.ablation(rows, seeds=range(2), profile=PROFILE, sizes=SIZES, out=tmp_path)

    rows = ablation.chosen_rows("classification head, free text")
    first = run()
    assert "SIMULATED" in first
    for table in first.split("\n\n")[2::2]:
        assert len({line.count("|") for line in table.splitlines()}) == 1
    assert "| classification head | baseline |" in first
    assert "| free text | baseline |" in first

    removed = next(tmp_path.rglob("classification-head-*-1.json"))
    before = json.loads(removed.read_text())
    removed.unlink()
    repeated = []
    real = ablation.run_row
    monkeypatch.setattr(
        ablation,
        "run_row",
        lambda row, seed, study: repeated.append((row.name, seed)) or real(row, seed, study),
    )
    again = run()
    assert repeated == [("classification head", 1)]
    assert json.loads(removed.read_text())["sell"] == before["sell"]
    assert again.split("Training:")[0] == first.split("Training:")[0]  # speeds differ


def test_an_interval_of_a_share_ends_where_shares_end():
    assert tables._cell(0.672, 0.331, bounds=(0, 1)) == "0.672 [0.341, 1.000]"
    own = tables.Figures(
        {n: np.array([0.0, 1.0, 1.0]) for n in [*tables._BOUNDS, "advantage", "no answer"]}, {}
    )
    accuracy, _, log_loss, _, advantage = tables.decision_table({"x": own}).splitlines()[2].split("|")[2:7]
    assert accuracy.strip().endswith("[0.000, 1.000]")
    assert log_loss.strip().startswith("0.667 [0.000, 2.")
    assert advantage.strip().startswith("0.667 [-0.")


def test_each_run_says_which_it_is_and_finished_ones_are_passed_over(
    decisions, tmp_path, monkeypatch, capsys
):
    made = {"done": True}
    monkeypatch.setattr(ablation, "run_row", lambda row, seed, study: made)
    study = Study(decisions, PROFILE.finetune, tmp_path)
    rows = [ROWS["baseline"], ROWS["report style"]]
    ablation._keep(study.result_path(rows[0], 0), made)
    ablation._run_all(rows, [0, 1], study)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "run 2 of 4: baseline, seed 1; 3 to be made"
    assert lines[1] == "run 3 of 4: report style, seed 0; about 00:00 left"
    assert len(lines) == 3
