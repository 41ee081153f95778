from collections import Counter
from dataclasses import replace

import pandas as pd
import pytest

from trader_pipeline.leaks.cases import draw_cases
from trader_pipeline.leaks.paper_proof import RESPONSES, VERDICTS, prove_paper_case, trade_on_paper
from trader_pipeline.leaks.paper_trading import PAPER, spot_params, wrong_fills
from trader_pipeline.leaks.prover import RULE, Tally
from trader_pipeline.leaks.world import SOURCES


@pytest.fixture(scope="module")
def proved(worlds, settings) -> Tally:
    """Twelve cases of all sources, counted together."""
    tally = Tally()
    for case in draw_cases(worlds, count=12, seed=2, settings=settings):
        tally.add(prove_paper_case(PAPER, worlds, case, settings=settings))
    return tally


def test_nothing_seen_or_asked_moves_with_the_future(proved):
    assert proved.leaks == []
    assert proved.unreal == []
    assert proved.refusals == []
    for output in ("spot decisions", "covered-call ticks", "fills"):
        assert proved.outputs[output] == 12


def test_every_direction_is_tried(proved):
    for direction, least in (("LONG", 12), ("SHORT", 12), ("SHORT_CALL", 4)):
        assert proved.outputs[f"decision context ({direction})"] >= least
        assert proved.outputs[f"review instruction ({direction})"] >= least


def test_the_answer_that_is_taught_does_move(proved):
    share = {name: proved.moved[name] / proved.mutations[name] for name in (RESPONSES, VERDICTS)}
    assert share[RESPONSES] > 0.9
    assert share[VERDICTS] > 0.2
    assert proved.mutations[VERDICTS] > 40


def test_the_sources_of_option_prices_give_other_ticks(worlds, settings):
    case = draw_cases(worlds, count=1, seed=3, settings=settings, source=SOURCES[2])[0]
    ticks = [
        trade_on_paper(PAPER, replace(case, source=source).inputs(worlds, settings)).outputs[
            "covered-call ticks"
        ]
        for source in SOURCES
    ]
    assert len({t["whole lines"] for t in ticks}) == len(SOURCES)


def test_all_size_models_are_tried(worlds, settings):
    cases = draw_cases(worlds, count=12, seed=2, settings=settings)
    assert {spot_params(c.inputs(worlds, settings)).size_model for c in cases} == {"coins", "usd", "risk"}


def test_trades_are_closed_after_the_decision_and_their_ticks_go_on(worlds, settings):
    inputs = draw_cases(worlds, count=1, seed=3, settings=settings)[0].inputs(worlds, settings)
    trades = PAPER.spot_trades(inputs)
    assert [(t.direction, t.status) for t in trades] == [("LONG", "CLOSED"), ("SHORT", "CLOSED")]
    assert all(t.entry_ts <= inputs.moment + inputs.finest_step < t.exit_ts for t in trades)
    assert PAPER.spot_ticks(inputs)[-1].close_time > inputs.moment


def test_a_fill_elsewhere_than_at_the_next_open_breaks_the_rule(worlds, settings):
    inputs = draw_cases(worlds, count=1, seed=3, settings=settings)[0].inputs(worlds, settings)
    trades, params = PAPER.spot_trades(inputs), spot_params(inputs)
    assert wrong_fills(trades, inputs.candles, params=params) == []
    dearer = [replace(t, entry_price=t.entry_price * (1 + 1e-9)) for t in trades]
    later = [replace(t, entry_ts=t.entry_ts + pd.Timedelta(hours=1)) for t in trades]
    for wrong in (dearer, later):
        assert [w.split()[0] for w in wrong_fills(wrong, inputs.candles, params=params)] == ["LONG", "SHORT"]
    wrong = replace(PAPER, spot_trades=lambda inputs: dearer)
    case = draw_cases(worlds, count=1, seed=3, settings=settings)[0]
    assert any(
        leak.mutation == RULE for leak in prove_paper_case(wrong, worlds, case, settings=settings).leaks
    )


def test_a_size_that_knows_the_fill_is_found_in_the_instruction(worlds, settings):
    """Coins for a sum of money, counted at the fill: the size tells the next open."""

    def at_the_fill(inputs):
        return [
            replace(
                t,
                size=1e4 / t.entry_price,
                decision_context={**t.decision_context, "size": 1e4 / t.entry_price},
            )
            for t in PAPER.spot_trades(inputs)
        ]

    case = draw_cases(worlds, count=1, seed=3, settings=settings)[0]
    tally = prove_paper_case(replace(PAPER, spot_trades=at_the_fill), worlds, case, settings=settings)
    assert {"review instruction (LONG)", "review instruction (SHORT)"} <= {
        leak.output for leak in tally.leaks
    }


def test_a_proof_in_which_no_verdict_moves_fails():
    from trader_pipeline_tests.leaks.test_prove import report

    counts = {"cases": 10, "mutations": Counter({VERDICTS: 40}), "moved": Counter({VERDICTS: 2})}
    assert report(tally=Tally(**counts)).lines() == [
        "verdict of a review: a label moved in 5% of the runs; at least 20% must"
    ]
