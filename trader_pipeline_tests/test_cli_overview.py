"""What a person reads at the end of `run` and `evaluate`, and which foreign warnings are kept from them."""

from __future__ import annotations

import warnings

import pytest

from trader_pipeline.cli.evaluating import _say_origin
from trader_pipeline.cli.everything import quieten
from trader_pipeline.cli.options import print_overview
from trader_pipeline.evaluation.overview import evaluation_overview
from trader_pipeline_tests.evaluation.report_store import mixed_metrics


@pytest.mark.parametrize("simulated", [True, False])
def test_an_evaluation_ends_with_its_verdicts_and_says_whether_it_is_simulated(simulated, capsys):
    print_overview(evaluation_overview(mixed_metrics(), simulated=simulated))
    text = capsys.readouterr().out
    assert "adapter is behind largest premium" in text
    assert text.index("Sequential backtest") < text.index("adapter is tied with never (HODL)")
    assert ("SIMULATED CANDLES" in text) is simulated


def test_headers_carry_units_and_are_not_cut_on_a_narrow_terminal(monkeypatch, capsys):
    for name, value in {"COLUMNS": "70", "FORCE_COLOR": "1", "TERM": "dumb"}.items():
        monkeypatch.setenv(name, value)
    overview = evaluation_overview(mixed_metrics(), simulated=False)
    print_overview(overview)
    assert "…" not in capsys.readouterr().out
    held_out, books = overview.tables.values()
    assert {"accuracy (share of steps)", "mean P&L minus HODL (% of coin)"} <= set(held_out)
    assert {"return (%)", "max drawdown (%)", "HODL max drawdown (%)"} <= set(books)


@pytest.mark.parametrize(
    ("simulated", "premiums", "said"),
    [
        (False, "model", ["not marked as simulated", "modelled from the candles"]),
        (False, "recorded", ["not marked as simulated", "Premiums: recorded quotes."]),
        (True, "model", ["modelled from the candles"]),
    ],
)
def test_where_candles_and_premiums_come_from_is_said(simulated, premiums, said, capsys):
    _say_origin(simulated, premiums)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(said)
    assert all(words in line for words, line in zip(said, lines, strict=True))


def test_foreign_warnings_that_tell_nothing_are_kept_away_and_others_are_not():
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        quieten()
        warnings.warn("Could not find a config file in None - will assume ...", UserWarning, stacklevel=1)
        warnings.warn("fan_in_fan_out is set to False but ...", UserWarning, stacklevel=1)
        warnings.warn("`gradient_checkpointing_enable` is deprecated", FutureWarning, stacklevel=1)
        warnings.warn("the disk is full", UserWarning, stacklevel=1)
    assert [str(one.message) for one in heard] == ["the disk is full"]
