"""Lineage: back to candles, what changed since, two versions, and no file but the data folder's own."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from trader_pipeline.dashboard.page import Context
from trader_pipeline.dashboard.pages import lineage
from trader_pipeline.dashboard.version_views import compare_versions, other_folders, parents_frame, table_tree
from trader_pipeline.profile import Profile
from trader_pipeline.schema.tables import KLINES, WINDOW_KLINES
from trader_pipeline.store import TableStore
from trader_pipeline_tests.dashboard.conftest import MARKET, REGIME, context_of
from trader_pipeline_tests.dashboard.test_frame import text_of

PARTITION = (*MARKET, REGIME)


@pytest.fixture
def changed(small_run: Path, tmp_path: Path, profile: Profile) -> Context:
    """A copy of the run in which the candles changed after their window was cut."""
    root = Path(shutil.copytree(small_run, tmp_path / "copy"))
    store = TableStore(str(root))
    klines = store.read(KLINES, MARKET)
    store.write(klines.assign(volume=1.0), KLINES, partition=MARKET, simulated=True)
    return context_of(root, profile)


def states(context: Context) -> dict[str, str]:
    manifest = context.tables.manifest(WINDOW_KLINES, PARTITION)
    assert manifest is not None
    frame = parents_frame(manifest, context)
    return dict(zip(frame["parent"], frame["state"], strict=True))


def test_what_is_unchanged_is_current(context: Context) -> None:
    assert states(context) == {"klines/BTC_1h": "current", "settings/windows": "current"}


def test_changed_candles_and_settings_are_named(changed: Context, profile: Profile) -> None:
    other = profile.model_copy(update={"windows": profile.windows.model_copy(update={"warm_up_days": 46})})
    context = context_of(changed.data_root, other)
    assert states(context) == {"klines/BTC_1h": "changed since", "settings/windows": "changed since"}
    shown = text_of(lineage.layout({"table": "window_klines"}, context))
    assert "Other now: klines/BTC_1h, settings/windows" in shown


def test_a_tree_ends_at_candles(context: Context) -> None:
    tree = table_tree(WINDOW_KLINES, PARTITION, context)
    assert [node.name for node in tree.walk()] == [f"window_klines/BTC_1h/{REGIME}", "klines/BTC_1h"]
    assert [node.state for node in tree.walk()] == [None, "current"]


def test_two_versions_are_compared_by_rows_and_causes(context: Context, changed: Context) -> None:
    manifest = context.tables.manifest(WINDOW_KLINES, PARTITION)
    assert manifest is not None
    frame, words = compare_versions(WINDOW_KLINES, PARTITION, manifest, changed.data_root)
    assert frame is None
    assert "the same in both" in words
    klines = context.tables.manifest(KLINES, MARKET)
    assert klines is not None
    frame, words = compare_versions(KLINES, MARKET, klines, changed.data_root)
    assert frame is not None
    assert "content hash" in frame["what"].tolist()
    assert words == "The rows differ; made from other settings/klines."


def test_folders_to_compare_with_lie_beside_the_one_shown(changed: Context, small_run: Path) -> None:
    assert other_folders(changed) == []
    shutil.copytree(small_run, changed.data_root.parent / "older")
    assert other_folders(changed) == ["older"]


@pytest.mark.parametrize("record", ["/etc/passwd:1", "../secret.jsonl:1"])
def test_a_url_opens_no_file_outside_the_data_folder(changed: Context, record: str) -> None:
    corpora = changed.data_root / "corpora" / "jsonl"
    corpora.mkdir(parents=True)
    (corpora / "mixed_corpus_train.jsonl").write_text('{"messages": []}\n')
    shown = text_of(lineage.layout({"of": "record", "record": record}, changed))
    assert "root:" not in shown
    assert '"problem"' in shown
    assert "is no record of" in shown or "there is no file" in shown


def test_a_line_that_is_no_record_is_a_sentence(changed: Context) -> None:
    corpora = changed.data_root / "corpora" / "jsonl"
    corpora.mkdir(parents=True)
    (corpora / "mixed_corpus_train.jsonl").write_text("{}\n")
    shown = text_of(lineage.layout({"of": "record", "line": "7"}, changed))
    assert "there is no line 7" in shown
