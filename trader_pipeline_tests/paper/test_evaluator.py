"""Labels, batches, summaries and the report, by hand and by property."""

import json
import math
import random
from decimal import Decimal, getcontext, localcontext
from types import SimpleNamespace

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from trader_pipeline.paper.records import TradeRecord
from trader_pipeline.paper.verdicts.evaluator import (
    Evaluations,
    EvaluatorParams,
    TradeEvaluator,
    evaluate_trades,
    exact_json,
    verdict,
)
from trader_pipeline.schema import validate
from trader_pipeline.schema.tables import REPLAY_EVALUATIONS
from trader_pipeline_tests.paper.closed_trades import any_trades, call_trade, foreign, short_trade, spot_trade

SOURCE = {"name": "replay.jsonl", "sha256": "00", "lines": 3}


def judge(*trades: TradeRecord, **params: object) -> Evaluations:
    return evaluate_trades(trades, params=EvaluatorParams.model_validate(params))


def of_pnl(name: str, pnl_pct: str, **changes: object) -> TradeRecord:
    return foreign(spot_trade(trade_id=name, exit_price=None, pnl_pct=Decimal(pnl_pct)), **changes)


def label(pnl_pct: str, **params: object) -> str:
    return judge(of_pnl("a", pnl_pct), **params).rows[0].label


@pytest.mark.parametrize(
    ("pnl_pct", "expected"),
    [
        ("15", "GOOD"),
        ("15.0000000000000000000000000000000000000001", "GOOD"),
        ("14.9999999999999999999999", "OK"),
        ("14.9999999999999999999999999999999999999999999999999999999999999999999999999999", "OK"),
        (repr(math.nextafter(15.0, 16.0)), "GOOD"),
        (repr(math.nextafter(15.0, 14.0)), "OK"),
        ("1e-30", "OK"),
        ("1e-999999", "OK"),
        ("0", "BAD"),
        ("-0.0", "BAD"),
        ("-1e-30", "BAD"),
        ("-99", "BAD"),
        ("1e400", "GOOD"),
    ],
)
def test_labels_are_exact_at_the_boundaries(pnl_pct, expected):
    assert label(pnl_pct) == expected


def test_thresholds_are_kept_digit_by_digit():
    assert label("0.1", good_pct="0.1") == "GOOD"
    assert label("0.1", good_pct=0.1) == "GOOD"
    assert label("0.0999999999999999999999999999", good_pct=0.1) == "OK"
    assert label("0.3", good_pct=0.1 + 0.2) == "OK", "0.30000000000000004 is more"
    assert EvaluatorParams(good_pct="0.10000000000000000000000001").good_pct != Decimal("0.1")  # type: ignore[arg-type]


def test_the_lower_threshold_is_a_setting():
    assert label("1", ok_above_pct="1") == "BAD"
    assert label("1.0000000001", ok_above_pct="1") == "OK"
    assert label("-1", ok_above_pct="-2") == "OK"
    with pytest.raises(ValidationError, match="must be above"):
        EvaluatorParams(good_pct=1, ok_above_pct=1)  # type: ignore[arg-type]


@pytest.mark.parametrize("good_pct", ["nan", "inf", "0", "-1", "much"])
def test_a_threshold_that_is_no_positive_number_is_refused(good_pct):
    with pytest.raises(ValidationError):
        EvaluatorParams(good_pct=good_pct)


def test_settings_survive_a_profile_written_as_json():
    for good_pct in ("2.5", "0.10000000000000000000000001"):
        params = EvaluatorParams(good_pct=good_pct)  # type: ignore[arg-type]
        assert EvaluatorParams.model_validate_json(params.model_dump_json()) == params
    assert json.loads(EvaluatorParams().model_dump_json())["good_pct"] == 15.0


@given(st.decimals(-1000, 1000), st.decimals("0.001", 1000), st.decimals(-1000, "0.0009"))
def test_labels_follow_the_order_of_the_figure(pnl_pct, good_pct, ok_above_pct):
    found = verdict(pnl_pct, good_pct=good_pct, ok_above_pct=ok_above_pct)
    assert found == ("GOOD" if pnl_pct >= good_pct else "OK" if pnl_pct > ok_above_pct else "BAD")


def test_the_judged_figure_of_a_call_is_a_setting():
    trade = call_trade(pnl_pct=Decimal("-1"), covered_return_pct=Decimal("16"))
    assert judge(trade).rows[0].label == "BAD"
    assert judge(trade, judged="covered_return_pct").rows[0].label == "GOOD"
    assert judge(spot_trade(), judged="covered_return_pct", good_pct="2.8").rows[0].label == "GOOD"
    with pytest.raises(ValueError, match="trade 00ff has no covered_return_pct"):
        judge(foreign(trade), judged="covered_return_pct")


def test_one_trade_is_judged_with_its_own_reasoning_and_direction():
    told = TradeEvaluator().evaluate(short_trade())
    assert (told.trade_id, told.label, told.pnl_pct, told.direction, told.reasoning) == (
        "00ff", "BAD", Decimal("-3.2"), "SHORT", "The trend is up.",
    )  # fmt: skip


def test_open_trades_are_listed_not_judged():
    held = spot_trade(trade_id="01ff", status="OPEN", exit_ts=None, exit_price=None, pnl_pct=None, path=None)
    batch = judge(held, spot_trade())
    assert [row.trade_id for row in batch.rows] == ["00ff"]
    assert batch.open_trades == (held,)
    assert batch.summary["open"] == 1
    with pytest.raises(ValueError, match="01ff is OPEN"):
        TradeEvaluator().evaluate(held)


def test_a_trade_given_twice_is_refused():
    with pytest.raises(ValueError, match="'00ff' occurs twice"):
        judge(spot_trade(), short_trade())


@given(st.lists(any_trades(), min_size=2, max_size=5, unique_by=lambda t: t.trade_id), st.randoms())
def test_the_order_of_the_trades_changes_no_byte(trades, rng):
    shuffled = rng.sample(trades, len(trades))
    assert judge(*trades).to_json(SOURCE) == judge(*shuffled).to_json(SOURCE)
    pd.testing.assert_frame_equal(judge(*trades).to_frame(), judge(*shuffled).to_frame())


def test_rows_stand_in_the_order_of_their_exits():
    late = spot_trade(trade_id="0", exit_ts=spot_trade().exit_ts + pd.Timedelta(hours=1))
    assert [row.trade_id for row in judge(late, spot_trade(trade_id="b"), spot_trade(trade_id="a")).rows] == [
        "a", "b", "0",
    ]  # fmt: skip


def test_the_callers_decimal_settings_change_nothing():
    expected = judge(spot_trade(), call_trade(trade_id="b")).to_json(SOURCE)
    with localcontext() as context:
        context.prec = 3
        assert judge(spot_trade(), call_trade(trade_id="b")).to_json(SOURCE) == expected
        assert getcontext().prec == 3


def four_trades() -> list[TradeRecord]:
    pnls = {"a": "15", "b": "3", "c": "-4", "d": "-5"}
    return [of_pnl(name, pnl) for name, pnl in pnls.items()]


def test_summary_of_four_trades_worked_by_hand():
    summary = dict(judge(*four_trades()).summary)
    groups = [summary.pop(name) for name in ("by_direction", "by_model", "by_regime")]
    assert summary == {
        "trades": 4, "good": 1, "ok": 1, "bad": 2, "open": 0, "hit_rate": 0.5, "profit_factor": 2.0,
        "mean_pnl_pct": 2.25, "median_pnl_pct": -0.5, "best_pnl_pct": 15.0, "worst_pnl_pct": -5.0,
        "mean_days": 5 / 24,
    }  # fmt: skip
    assert groups == [{"LONG": summary}, {"trend": summary}, {"not dated": summary}]


def test_summary_by_group_counts_each_trade_once():
    trades = [
        of_pnl("a", "15", regime="bull", model_id=""),
        of_pnl("b", "1", regime="bull", direction="SHORT"),
        of_pnl("c", "-5"),
        of_pnl("d", "0", status="OPEN"),
    ]
    summary = judge(*trades).summary
    assert {name: row["trades"] for name, row in summary["by_regime"].items()} == {"bull": 2, "not dated": 1}
    assert {name: row["open"] for name, row in summary["by_regime"].items()} == {"bull": 0, "not dated": 1}
    assert {name: row["mean_pnl_pct"] for name, row in summary["by_model"].items()} == {
        "not named": 15.0,
        "trend": -2.0,
    }
    assert {name: row["good"] for name, row in summary["by_direction"].items()} == {"LONG": 1, "SHORT": 0}


def test_summary_of_nothing_and_of_no_losses_has_no_invented_figures():
    empty = judge().summary
    assert empty["trades"] == 0
    assert [empty[name] for name in ("hit_rate", "profit_factor", "mean_pnl_pct", "mean_days")] == [None] * 4
    assert judge(of_pnl("a", "1")).summary["profit_factor"] is None
    assert judge().to_frame().empty


@given(st.lists(st.decimals(-50, 50, places=6), min_size=1, max_size=20))
def test_summary_agrees_with_floats(pnls):
    summary = judge(*(of_pnl(f"{n:02}", str(pnl)) for n, pnl in enumerate(pnls))).summary
    floats = pd.Series([float(p) for p in pnls])
    assert summary["mean_pnl_pct"] == pytest.approx(floats.mean(), abs=1e-9)
    assert summary["median_pnl_pct"] == pytest.approx(floats.median(), abs=1e-9)
    assert summary["good"] + summary["ok"] + summary["bad"] == len(pnls)
    assert summary["hit_rate"] == pytest.approx(1 - (floats <= 0).mean())


def test_summary_table_has_a_row_per_group():
    table = judge(of_pnl("a", "15", regime="bull"), of_pnl("b", "-1", direction="SHORT")).summary_table()
    assert table[["group", "name", "trades"]].to_numpy().tolist() == [
        ["all", "", 2],
        ["by_direction", "LONG", 1],
        ["by_direction", "SHORT", 1],
        ["by_model", "trend", 2],
        ["by_regime", "bull", 1],
        ["by_regime", "not dated", 1],
    ]


def test_the_report_holds_source_settings_and_all_that_was_read():
    held = spot_trade(trade_id="01ff", status="OPEN", exit_ts=None, exit_price=None, pnl_pct=None)
    refused = [SimpleNamespace(line=7, why="no JSON")]
    report = json.loads(judge(spot_trade(), held).to_json(SOURCE, refused=refused, simulated=True))
    assert sorted(report) == [
        "evaluations", "format", "open_trades", "refused", "settings", "source", "summary",
    ]  # fmt: skip
    assert report["format"] == 1
    assert report["source"] == {**SOURCE, "simulated": True}
    assert report["settings"] == {"good_pct": 15.0, "judged": "pnl_pct", "ok_above_pct": 0.0}
    assert report["refused"] == [{"line": 7, "why": "no JSON"}]
    assert [trade["trade_id"] for trade in report["open_trades"]] == ["01ff"]
    assert sorted(report["evaluations"][0]) == [
        "analysis", "direction", "improvement", "label", "pnl_pct", "reasoning", "trade_id",
    ]  # fmt: skip


@given(st.decimals(allow_nan=False, allow_infinity=False))
def test_labels_can_be_derived_from_the_report_again(pnl_pct):
    row = json.loads(judge(of_pnl("a", str(pnl_pct))).to_json(SOURCE))["evaluations"][0]
    assert Decimal(str(row["pnl_pct"])) == pnl_pct
    assert verdict(Decimal(str(row["pnl_pct"])), good_pct=Decimal(15)) == row["label"]


def test_a_figure_is_a_number_where_json_can_hold_it_and_text_elsewhere():
    values = ["2.80", "-0.0", "14.9999999999999999999999", "1e400", "-7"]
    shown = [exact_json(Decimal(value)) for value in values]
    assert shown == [2.8, 0.0, "14.9999999999999999999999", "1E+400", -7.0]
    assert str(shown[1]) == "0.0"


def test_odd_texts_of_foreign_files_are_written_as_json():
    text = 'quote " newline \n snow \u2603 half \ud83d nul \x00'
    row = json.loads(judge(spot_trade(reasoning=text)).to_json(SOURCE))["evaluations"][0]
    assert row["reasoning"] == text


def test_the_table_holds_the_labels_as_verdicts():
    frame = judge(spot_trade(), call_trade(trade_id="b"), short_trade(trade_id="c")).to_frame()
    validate(frame, REPLAY_EVALUATIONS)
    assert dict(zip(frame["trade_id"], frame["verdict"], strict=True)) == {
        "00ff": "OK",
        "b": "OK",
        "c": "BAD",
    }


def test_a_large_batch_is_judged_like_its_trades_alone():
    rng = random.Random(3)
    trades = [of_pnl(f"{n:04}", str(round(rng.gauss(0, 10), 4))) for n in range(500)]
    batch = judge(*trades)
    alone = {trade.trade_id: TradeEvaluator().evaluate(trade) for trade in trades}
    assert all(row == alone[row.trade_id] for row in batch.rows)
    assert len(batch.rows) == 500
