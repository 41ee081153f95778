"""A corpus folder: what was changed after it was built is not trained on."""

import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from trader_pipeline.cli import main
from trader_pipeline.corpora.folder import load_corpus_folder
from trader_pipeline.schema import conform
from trader_pipeline.schema.tables import CANDIDATE_DATASET
from trader_pipeline_tests.corpora.factories import candidate_dataset


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    path = folder / "candidates.parquet"
    pq.write_table(conform(candidate_dataset(days=300), CANDIDATE_DATASET), path)
    out = folder / "corpora"
    result = run("build", path, "--out", out, "--set", "mix.max_train_records=200")
    assert result.exit_code == 0, result.output
    return out


@pytest.fixture
def folder(built, tmp_path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "corpora"))


def run(*arguments):
    return CliRunner().invoke(main, ["corpus", *map(str, arguments)])


def audit_again(folder: Path) -> None:
    (folder / "audit.json").unlink()
    run("audit", folder / "val.jsonl", "--train", folder / "train.jsonl", "--out", folder / "audit.json")


def test_a_folder_as_it_was_built_has_times_splits_and_a_passed_audit(folder):
    corpus = load_corpus_folder(folder)
    trading = corpus.records[corpus.records["kind"] != "stable"]
    assert corpus.audit.passed
    assert trading["decision_time"].notna().all()
    assert set(corpus.records["split"]) == {"train", "val"}
    assert corpus.boundaries is not None


def test_a_changed_line_is_named(folder):
    path = folder / "train.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    place = next(i for i, line in enumerate(lines) if "SELL_CALL or SKIP" in line)
    lines[place] = lines[place].replace("Trend", "Trends")
    path.write_text("".join(lines))
    with pytest.raises(ValueError, match=rf"train\.jsonl:{place + 1} .*changed since"):
        load_corpus_folder(folder)


def test_validation_records_that_lie_in_another_split_are_refused(folder):
    train, val = (folder / f"{split}.jsonl" for split in ("train", "val"))
    one, other = train.read_text(), val.read_text()
    train.write_text(other)
    val.write_text(one)
    audit_again(folder)
    with pytest.raises(ValueError, match=r"train\.jsonl:\d+: decided .* train is"):
        load_corpus_folder(folder)


def test_a_folder_without_audit_says_how_to_make_one(folder):
    (folder / "audit.json").unlink()
    with pytest.raises(ValueError, match=r"corpus audit .*val\.jsonl --train"):
        load_corpus_folder(folder)


def test_boundaries_without_the_records_that_they_are_of_are_refused(folder):
    (folder / "records.parquet").unlink()
    with pytest.raises(ValueError, match=r"records\.parquet is missing"):
        load_corpus_folder(folder)


def test_a_foreign_corpus_needs_no_boundaries(folder):
    for name in ("splits.json", "records.parquet"):
        (folder / name).unlink()
    assert load_corpus_folder(folder).boundaries is None


def test_boundaries_of_an_earlier_corpus_can_be_kept(folder, built, tmp_path):
    path = built.parent / "candidates.parquet"
    result = run("build", path, "--out", tmp_path / "again", "--splits", folder / "splits.json")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "again" / "splits.json").read_bytes() == (folder / "splits.json").read_bytes()
