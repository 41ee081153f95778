"""The schema itself: every column described, keys spelled, the data dictionary current."""

from datetime import date
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trader_pipeline.schema import Market, parse_regime, regime_key
from trader_pipeline.schema.dictionary import render_dictionary
from trader_pipeline.schema.tables import TABLES


@pytest.mark.parametrize("table", TABLES, ids=lambda t: t.name)
def test_every_column_has_a_meaning_and_money_a_unit(table):
    for column in table.columns:
        assert column.meaning
        if column.name.endswith("_pct"):
            assert column.unit == "%"
        if column.name.endswith("_coin"):
            assert column.unit == "coin"


def test_a_column_of_a_name_means_the_same_in_every_table():
    meanings: dict[str, set[str]] = {}
    for table in TABLES:
        for column in table.columns:
            if column.name != "action":  # chain level and candidate level differ by design
                meanings.setdefault(column.name, set()).add((column.meaning, column.unit, column.dtype))
    assert {n for n, m in meanings.items() if len(m) > 1} == set()


def test_regime_label_enters_no_dataset_or_corpus():
    for table in TABLES:
        if table.stage in ("datasets", "corpora"):
            assert not {"regime", "label"} & set(table.column_names)


@given(st.dates(date(2015, 1, 1), date(2100, 1, 1)), st.integers(0, 2000))
def test_regime_keys_round_trip(first, length):
    start = pd.Timestamp(first, tz="UTC")
    last = start + pd.Timedelta(days=length)
    label, back_start, back_end = parse_regime(regime_key("chop", start, last))
    assert (label, back_start, back_end) == ("chop", start, last + pd.Timedelta(days=1))


@pytest.mark.parametrize(
    "key", ["boom_20200101_20200201", "bull_20200201_20200101", "bull", "bull_2020_2021"]
)
def test_bad_regime_key_is_refused(key):
    with pytest.raises(ValueError, match="regime"):
        parse_regime(key)


@pytest.mark.parametrize("key", ["BTC", "DOGE_1h", "BTC_7h", ""])
def test_bad_market_key_is_refused_with_what_is_known(key):
    with pytest.raises(ValueError, match=r"known|for example"):
        Market.parse(key)


def test_data_dictionary_in_docs_is_current():
    path = Path(__file__).resolve().parents[2] / "docs" / "data-dictionary.md"
    assert path.read_text() == render_dictionary(), (
        "run: python -m trader_pipeline.schema.dictionary > docs/data-dictionary.md"
    )
