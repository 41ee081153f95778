"""Calibrations as data: none knows its future, which one is in force when, and the file they lie in."""

import datetime as dt
from itertools import pairwise
from pathlib import Path

import pytest

from trader_pipeline.options import OptionParams
from trader_pipeline.options.params import (
    Calibration,
    Fit,
    default_calibrations,
    dump_calibrations,
    load_calibrations,
)
from trader_pipeline_tests.options.calibrations import calibration, curved_surface, flat_surface


@pytest.fixture
def known() -> Calibration:
    """A calibration of January 2026 with one fit."""
    fit = Fit(
        underlying="BTC", parameters="shape", first_day=dt.date(2026, 1, 5), last_day=dt.date(2026, 1, 12), rows=300,
        source="a file",
    )  # fmt: skip
    return Calibration(
        applies_from=dt.date(2026, 1, 15), fits=(fit,), btc=curved_surface(), eth=curved_surface(rho=-0.1)
    )


def test_a_calibration_fitted_on_its_own_days_is_refused() -> None:
    fit = Fit(
        underlying="BTC", parameters="shape", first_day=dt.date(2026, 1, 1), last_day=dt.date(2026, 1, 15), rows=1,
        source="a file",
    )  # fmt: skip
    known = {"btc": flat_surface(), "eth": flat_surface(), "fits": (fit,)}
    assert Calibration(applies_from=dt.date(2026, 1, 16), **known)
    with pytest.raises(
        ValueError, match="BTC shape was fitted on data until 2026-01-15; it may apply from the day after"
    ):
        Calibration(applies_from=dt.date(2026, 1, 15), **known)


def test_calibrations_are_written_and_read_back(tmp_path: Path, known: Calibration) -> None:
    path = tmp_path / "calibrations.json"
    both = (calibration(), known)
    path.write_bytes(dump_calibrations(both))
    assert load_calibrations(path) == both
    assert dump_calibrations(load_calibrations(path)) == path.read_bytes()


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ('"rho": -', '"rho": -7', r"0\.btc\.rho"),
        ('"premium": ', '"premum": ', r"0\.btc\.premium"),
        ("[", "[[", "calibrations.json"),
        ('"rows": ', '"rows": -', r"0\.fits\.0\.rows"),
        ('"last_day": "2026-01-12"', '"last_day": "2026-02-12"', "it may apply from the day after"),
    ],
)
def test_a_bad_file_names_itself_and_the_field(
    tmp_path: Path, known: Calibration, old: str, new: str, named: str
) -> None:
    path = tmp_path / "calibrations.json"
    text = dump_calibrations((known,)).decode()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(ValueError, match=named) as raised:
        load_calibrations(path)
    assert str(path) in str(raised.value)


def test_shipped_calibrations_are_in_order_and_know_no_future() -> None:
    shipped = default_calibrations()
    assert [c.applies_from for c in shipped] == sorted({c.applies_from for c in shipped})
    assert shipped[0].fits == ()
    assert "assumed, not fitted" in shipped[0].note
    for known in shipped[1:]:
        assert known.fits
        assert max(fit.last_day for fit in known.fits) < known.applies_from
    for earlier, later in pairwise(shipped[1:]):
        assert max(f.last_day for f in earlier.fits) < max(f.last_day for f in later.fits)
    assert OptionParams().calibrations == shipped


def test_the_calibration_in_force_is_the_last_that_applies() -> None:
    params = OptionParams()
    assert params.calibration_at(dt.date(2016, 6, 1)) == params.calibrations[0]
    assert params.calibration_at(dt.date(2026, 2, 28)) == params.calibrations[-2]
    assert params.calibration_at(dt.date(2026, 3, 1)) == params.calibrations[-1]
    with pytest.raises(
        ValueError, match="no calibration applies on 2016-05-31; the first one does from 2016-06-01"
    ):
        params.calibration_at(dt.date(2016, 5, 31))


def test_calibrations_out_of_order_are_refused() -> None:
    early, late = calibration(), calibration(since=dt.date(2020, 1, 1))
    for wrong in ((late, early), (early, early)):
        with pytest.raises(ValueError, match="in the order of applies_from"):
            OptionParams(calibrations=wrong)
