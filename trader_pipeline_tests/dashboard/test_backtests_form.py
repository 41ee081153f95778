"""The form of the page Backtests: what it starts with, what it refuses and where it says so."""

import shutil
from pathlib import Path

import pytest

from trader_pipeline import __version__
from trader_pipeline.dashboard.backtest_form import Form, fill_form, read_form
from trader_pipeline.dashboard.pages import backtests
from trader_pipeline.dashboard.tables import Tables
from trader_pipeline.schema import Table
from trader_pipeline.schema.tables import KLINE_GAPS, KLINES, REGIME_WINDOWS
from trader_pipeline.store import TableStore
from trader_pipeline_tests.dashboard.reading import shown_text
from trader_pipeline_tests.dashboard.run_folder import context_of, tiny_profile, write_candles


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> TableStore:
    return write_candles(tmp_path_factory.mktemp("form"))


def read(store: TableStore, **state: str) -> Form:
    profile, tables = tiny_profile(), Tables(store)
    return read_form(fill_form(state, tables, profile), tables, profile)


def test_without_choices_the_first_window_is_run_with_the_profiles_settings(store: TableStore) -> None:
    job = read(store).job
    assert job is not None
    assert (job.market, job.start[:10], job.end[:10]) == ("BTC_1h", "2021-02-15", "2021-03-01")
    assert job.backtest == tiny_profile().backtest
    assert job.exit_styles == ("hold_to_expiry", "tp_and_roll")


@pytest.mark.parametrize(
    ("state", "field", "words"),
    [
        ({"start": "2021-05-01", "end": "2021-04-01"}, "end", "not after its start"),
        ({"start": "2031-05-01", "end": "2031-06-01"}, "start", "nearest window that works"),
        ({"start": "2021-11-01", "end": "2022-06-01"}, "end", "candles end at 2022-01-01"),
        ({"start": "2021-01-03", "end": "2021-02-01"}, "start", "less than 30 days of candles"),
        ({"start": "soon", "end": "2021-04-01"}, "start", "'soon' is not a date; write YYYY-MM-DD"),
        ({"start": "1700-01-01"}, "start", "'1700-01-01' is not a date from 2009 to 2100"),
        ({"end": "2262-04-12"}, "end", "not a date"),
        ({"start": "2021-03-01", "timeframe": "4h", "every": "5"}, "every", "use 4 or 8"),
        ({"threshold": "11"}, "threshold", "less than or equal to 10"),
        ({"rolls": "many"}, "rolls", "many"),
        ({"profit": "1.5"}, "profit", "less than 1"),
        ({"underlying": "ETH"}, "underlying", "choose BTC"),
        ({"timeframe": "2h"}, "timeframe", "choose 1h, 4h, 1d"),
        ({"exit": "hope"}, "exit", "tp_and_roll"),
        ({"window": "bull_1_2"}, "window", "dump_20210301_20210314"),
    ],
)
def test_bad_input_is_a_sentence_beside_its_field(
    store: TableStore, state: dict[str, str], field: str, words: str
) -> None:
    form = read(store, **{"window": "dates", **state})
    assert form.job is None
    assert words in form.errors[field]
    assert set(form.errors) == {field}


def test_same_inputs_have_the_same_name_and_others_another(store: TableStore, tmp_path: Path) -> None:
    def key(**state: str) -> str:
        job = read(store, **state).job
        assert job is not None
        return job.key

    assert key() == key(window="dates", start="2021-02-15", end="2021-03-01")
    assert (
        len({key(), key(threshold="5"), key(exit="tp_and_roll"), key(every="12"), key(timeframe="4h")}) == 5
    )
    changed = TableStore(str(tmp_path))
    klines = store.read(KLINES, ("BTC_1h",))
    changed.write(klines.assign(volume=klines["volume"] + 1), KLINES, partition=("BTC_1h",), simulated=True)
    other = read(changed, window="dates", start="2021-02-15", end="2021-03-01").job
    assert other is not None
    assert other.key != key()


def test_a_job_is_of_this_code_and_these_settings(store: TableStore, monkeypatch: pytest.MonkeyPatch) -> None:
    job, lower = read(store).job, read(store, threshold="5").job
    assert job is not None
    assert lower is not None
    profile = tiny_profile()
    assert job.parents["settings/backtest"] == profile.section_hash("backtest")
    assert job.parents["settings/options"] == profile.section_hash("options")
    assert lower.parents["settings/backtest"] != job.parents["settings/backtest"]
    assert job.parents["code/trader_pipeline"] == __version__
    monkeypatch.setattr("trader_pipeline.dashboard.backtest_form.__version__", "99.0.0")
    newer = read(store).job
    assert newer is not None
    assert newer.key != job.key


def test_a_folder_without_candles_says_how_to_make_them(tmp_path: Path) -> None:
    assert "trader-pipeline run" in read(TableStore(str(tmp_path))).errors["underlying"]


def test_nothing_is_run_on_candles_of_which_too_many_are_missing(store: TableStore, tmp_path: Path) -> None:
    gappy = TableStore(str(tmp_path))
    gappy.write(store.read(KLINES, ("BTC_1h",)), KLINES, partition=("BTC_1h",), simulated=True)
    gappy.write(
        KLINE_GAPS.empty(),
        KLINE_GAPS,
        partition=("BTC_1h",),
        simulated=True,
        failed_checks=["few_bars_are_missing"],
    )
    form = read(gappy)
    assert form.job is None
    assert "failed its check few_bars_are_missing" in form.errors["underlying"]


@pytest.mark.parametrize("table", [REGIME_WINDOWS, KLINE_GAPS])
def test_a_damaged_file_is_named_and_the_form_stands(store: TableStore, tmp_path: Path, table: Table) -> None:
    root = Path(shutil.copytree(str(store.root), tmp_path / "copied"))
    own = TableStore(str(root))
    path = Path(own.path(table, () if table is REGIME_WINDOWS else ("BTC_1h",)))
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"PAR1")
    form = read(own, window="dates", start="2021-02-15", end="2021-03-01")
    assert (form.job is not None) is (table is REGIME_WINDOWS)
    assert table is REGIME_WINDOWS or str(path) in form.errors["underlying"]
    content = shown_text(backtests.layout({}, context_of(root)))
    assert str(path) in content
    assert "Run the backtest" in content


def test_candles_damaged_behind_their_footer_are_a_sentence_beside_the_coin(
    store: TableStore, tmp_path: Path
) -> None:
    own = TableStore(str(shutil.copytree(str(store.root), tmp_path / "copied")))
    path = Path(own.path(KLINES, ("BTC_1h",)))
    held = path.read_bytes()
    path.write_bytes(held[:4] + bytes(len(held) * 9 // 10) + held[4 + len(held) * 9 // 10 :])
    assert str(path) in read(own).errors["underlying"]
