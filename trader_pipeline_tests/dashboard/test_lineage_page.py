"""Lineage: back to candles, what changed since, two versions, and no file but the data folder's own."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest

from trader_pipeline.dashboard.page import Context
from trader_pipeline.dashboard.pages import lineage
from trader_pipeline.dashboard.version_views import (
    compare_versions,
    folded,
    other_folders,
    parents_frame,
    table_tree,
)
from trader_pipeline.profile import Profile
from trader_pipeline.schema.tables import KLINES, REGIME_WINDOWS, WINDOW_KLINES
from trader_pipeline.store import TableStore
from trader_pipeline_tests.dashboard.conftest import MARKET, REGIME, context_of
from trader_pipeline_tests.dashboard.test_frame import text_of
from trader_pipeline_tests.evaluation.report_store import rows_of

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


@pytest.mark.parametrize(
    "record", ["/etc/passwd:1", "/etc/no-such-file:1", "../secret.jsonl:1", "/etc/passwd:²"]
)
def test_a_url_learns_nothing_of_files_outside_the_data_folder(changed: Context, record: str) -> None:
    corpora = changed.data_root / "corpora" / "jsonl"
    corpora.mkdir(parents=True)
    (corpora / "mixed_corpus_train.jsonl").write_text('{"messages": []}\n')
    shown = text_of(lineage.layout({"of": "record", "record": record}, changed))
    assert "root:" not in shown
    assert f"{record!r} is no record of {changed.data_root}" in shown


def test_a_line_that_is_no_record_is_a_sentence(changed: Context) -> None:
    corpora = changed.data_root / "corpora" / "jsonl"
    corpora.mkdir(parents=True)
    (corpora / "mixed_corpus_train.jsonl").write_text("{}\n")
    shown = text_of(lineage.layout({"of": "record", "line": "7"}, changed))
    assert "there is no line 7" in shown


def test_a_change_behind_one_of_many_partitions_is_found(tmp_path: Path, profile: Profile) -> None:
    """Five windows cut from candles of five years; the third year's are others now."""
    store, frame = TableStore(str(tmp_path)), klines_of(1.0)
    hashes = {}
    for year in range(2019, 2024):
        made = store.write(frame, KLINES, partition=(f"Y{year}",), simulated=False)
        parents = {f"klines/Y{year}": made.content_hash}
        cut = frame.assign(volatility_index=float("nan"))
        place = (f"Y{year}", "bull")
        hashes["/".join(("window_klines", *place))] = store.write(
            cut, WINDOW_KLINES, partition=place, parents=parents, simulated=False
        ).content_hash
    store.write(REGIME_WINDOWS.empty(), REGIME_WINDOWS, parents=hashes, simulated=False)
    context = context_of(tmp_path, profile)
    shown = text_of(lineage.layout({"table": "regime_windows"}, context))
    assert "Everything is still what it was made from" in shown
    assert "4 other partitions of window_klines" in shown
    store.write(klines_of(2.0), KLINES, partition=("Y2021",), simulated=False)
    shown = text_of(lineage.layout({"table": "regime_windows"}, context))
    assert "Changed since: klines/Y2021." in shown
    assert "Everything is still" not in shown
    assert "3 other partitions of window_klines" in shown
    tree = folded(table_tree(REGIME_WINDOWS, (), context))
    assert [n.name for n in tree.walk() if n.state == "changed since"] == ["klines/Y2021"]


def klines_of(close: float) -> pd.DataFrame:
    times = pd.date_range("2024-01-01", periods=3, freq="h", tz="UTC")
    prices = dict.fromkeys(("open", "high", "low", "close"), [close] * 3)
    return rows_of(KLINES, open_time=times, close_time=times + pd.Timedelta(hours=1), **prices)


def test_a_damaged_ancestor_is_missing_and_named(changed: Context) -> None:
    path = changed.tables.store.path(KLINES, MARKET)
    Path(path).write_bytes(b"")
    shown = text_of(lineage.layout({"table": "window_klines"}, changed))
    assert "Missing: klines/BTC_1h." in shown
    assert f"(damaged: {path} cannot be read" in shown


def test_a_folder_of_another_user_is_passed_over(changed: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    (changed.data_root.parent / "locked").mkdir()
    shutil.copytree(changed.data_root, changed.data_root.parent / "older")
    is_dir = Path.is_dir

    def refused(path: Path) -> bool:
        if "locked" in path.parts:
            raise PermissionError(13, "Permission denied")
        return is_dir(path)

    monkeypatch.setattr(Path, "is_dir", refused)
    assert other_folders(changed) == ["older"]
