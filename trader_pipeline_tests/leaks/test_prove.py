import json
from collections import Counter
from functools import partial

import pandas as pd
import pytest
from click.testing import CliRunner

from trader_pipeline.cli.leaks import leaks
from trader_pipeline.leaks import prove
from trader_pipeline.leaks.loading import load_worlds
from trader_pipeline.leaks.plants import Catch
from trader_pipeline.leaks.prover import Leak, Tally
from trader_pipeline.leaks.report import LeakReport

LEAK = Leak(
    "features", "return_1d_pct", "perturb", "candles", "BTC_1h", "modelled", pd.Timestamp("2024-01-01")
)


def report(**changes: object) -> LeakReport:
    tally = Tally(cases=10, runs=30, mutations=Counter(perturb=10), moved=Counter(perturb=10))
    given = {
        "worlds": ("BTC_1h",), "simulated": True, "seed": 0, "tally": tally,
        "catches": (Catch(prove.PLANTS[0], LEAK, 1),), "left_out": (), "seconds": 1.0,
    }  # fmt: skip
    return LeakReport(**{**given, **changes})


def test_a_proof_holds_where_nothing_moved_and_every_planted_leak_was_caught():
    assert report().passed
    assert report().lines() == []


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"tally": Tally(cases=1, leaks=[LEAK])}, "LEAK features: return_1d_pct moved under perturb candles"),
        ({"catches": (Catch(prove.PLANTS[0], None, 40),)}, "off-by-one close: MISSED in 40 cases"),
        ({"tally": Tally(cases=1, unreal=["thin: nothing"])}, "no real mutation: thin: nothing"),
        (
            {"tally": Tally(cases=9, mutations=Counter(thin=9), moved=Counter(thin=1))},
            "thin: a label moved in 11%",
        ),
        ({"tally": Tally(refused=3, refusals=["too short"])}, "no case could be tried: too short"),
    ],
)
def test_a_proof_fails_with_one_line_that_says_why(changes, line):
    failed = report(**changes)
    assert not failed.passed
    assert len(failed.lines()) == 1
    assert failed.lines()[0].startswith(line)


def test_the_same_leak_is_said_once():
    assert report(tally=Tally(cases=2, leaks=[LEAK, LEAK])).leaks == [LEAK]


def test_two_processes_find_what_one_finds(worlds, settings):
    found = [
        prove.prove_no_leaks(
            worlds, settings=settings, cases=4, seed=3, jobs=jobs, plants=(), stretches=False, fits=0
        )
        for jobs in (1, 2)
    ]
    assert found[0].tally == found[1].tally
    assert found[0].tally.cases == 4
    assert found[0].passed


@pytest.fixture
def quick(monkeypatch):
    """The command without splits and fits, and with two planted leaks."""
    light = partial(prove.prove_no_leaks, plants=prove.PLANTS[:2], stretches=False, fits=0)
    monkeypatch.setattr(prove, "prove_no_leaks", light)


def test_command_says_simulated_and_counts(quick):
    done = CliRunner().invoke(leaks, ["--cases", "2", "--jobs", "1", "--seed", "1"])
    assert done.exit_code == 0, done.output
    assert "SIMULATED candles, index and quotes: BTC_1h, ETH_1h; seed 1" in done.output
    assert "2 cases tried (0 refused)" in done.output
    assert "2 leaks planted, 2 caught" in done.output


def test_command_prints_one_json_document(quick):
    done = CliRunner().invoke(leaks, ["--cases", "2", "--jobs", "1", "--json"])
    whole = json.loads(done.stdout)
    assert whole["passed"] is True
    assert whole["figures"]["leaks_caught"] == whole["figures"]["leaks_planted"] == 2
    assert [p["name"] for p in whole["planted"]] == ["off-by-one close", "centred window"]


def test_command_ends_with_status_1_and_a_line_where_something_leaks(monkeypatch):
    leaky = partial(
        prove.prove_no_leaks, plants=(), stretches=False, fits=0, pipeline=planted("centred window")
    )
    monkeypatch.setattr(prove, "prove_no_leaks", leaky)
    done = CliRunner().invoke(leaks, ["--cases", "1", "--jobs", "1"])
    assert done.exit_code == 1
    assert "LEAK features: distance_to_ma_30d_pct moved under perturb candles (BTC_" in done.stderr


def planted(name: str):
    from dataclasses import replace

    plant = next(p for p in prove.PLANTS if p.name == name)
    return replace(prove.PRODUCTION, **{plant.where: plant.leaky})


def test_quotes_without_candles_are_refused(tmp_path):
    file = tmp_path / "quotes.parquet"
    file.touch()
    done = CliRunner().invoke(leaks, ["--quotes", str(file)])
    assert done.exit_code == 2
    assert "give --klines too" in done.output


@pytest.mark.slow
def test_nothing_leaks_on_real_candles_quotes_and_index(reference_data):
    worlds = load_worlds(
        reference_data / "klines", quotes=reference_data / "options", volatility_index=reference_data / "dvol"
    )
    assert {w.name for w in worlds} == {"BTC_1h", "BTC_5m", "ETH_1h", "ETH_5m"}
    found = prove.prove_no_leaks(worlds, cases=60, seed=1, jobs=2)
    assert found.lines() == []
    assert found.tally.cases == 60  # a refused case would be missing here
    assert set(found.tally.by_source) == {"modelled", "modelled with index", "recorded"}
    assert len(found.catches) == len(prove.PLANTS)
