"""Backtests on recorded quotes: who is offered what, at which price it is sold, and how it is marked afterwards.

Worked by hand: decision on Saturday 2024-02-10 00:00 UTC at spot 10,000, the candle after it opens at 10,200; Black-76
with the spot as forward. N is the normal distribution, "deviation" is iv * sqrt(T).

BTC-16FEB24-10500-C is quoted at volatility 0.70, mark 0.0190, bid 0.0180. It lives 152 hours: sqrt(T) = 0.131726,
deviation 0.092208, d1 = ln(102/105) / 0.092208 + 0.046104 = -0.268268, N(d1) = 0.394247, N(d2) = N(-0.360476) =
0.359246; mark 0.394247 - 105/102 * 0.359246 = 0.024435. The bid stands on a tick of 0.0005, half of which is given
back: sold at 18.25/19 of the mark: 0.023471, on tick 0.0230.

BTC-23FEB24-11000-C is quoted at volatility 0.75, mark 0.0220, bid 0.0205. It lives 320 hours: deviation 0.143346,
d1 = -0.455079, N(d1) = 0.324526, N(d2) = N(-0.598425) = 0.274778; mark 0.324526 - 110/102 * 0.274778 = 0.028197. Sold
at 20.75/22 of it: 0.026595, on tick 0.0265.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from trader_pipeline.backtest import AlwaysPolicy, BacktestParams, BacktestResult, run_backtest, summarise
from trader_pipeline.options import (
    OptionParams,
    build_option_chain,
    call_delta,
    call_price_coin,
    instrument_name,
)
from trader_pipeline.options.recordings import load_quotes_file
from trader_pipeline.schema import Market, conform
from trader_pipeline.schema.tables import BACKTEST_LEGS, BACKTEST_STEPS, CANDIDATE_OUTCOMES, OPTION_QUOTES
from trader_pipeline_tests.backtest.runs import CONSTANT_IV, run, sells, step
from trader_pipeline_tests.options.calibrations import curved_surface, options_of
from trader_pipeline_tests.options.markets import at, flat_candles, random_candles, with_price

FLAT = flat_candles("2024-01-20", "2024-03-25")
START, END = "2024-02-10", "2024-02-11"
FRIDAY, NEXT_FRIDAY = at("2024-02-16 08:00"), at("2024-02-23 08:00")
CALL, LATER_CALL = "BTC-16FEB24-10500-C", "BTC-23FEB24-11000-C"
RECORDED = CONSTANT_IV.model_copy(update={"source": "recorded"})


def quoted(
    strike: float, expiry: pd.Timestamp = FRIDAY, *, mark: float, bid: float, iv: float, **figures: object
) -> dict[str, object]:
    """One recorded call at the decision."""
    return {
        "quote_time": at(START), "underlying": "BTC",
        "instrument": instrument_name(underlying="BTC", expiry=expiry, strike=strike), "option_type": "call",
        "strike": strike, "expiry": expiry, "forward": 10_000.0, "index_price": 10_000.0, "bid_price": bid,
        "ask_price": mark * 1.1, "mark_price": mark, "iv": iv, "delta": 0.3, "vega": 0.0, "open_interest": 0.0,
        **figures,
    }  # fmt: skip


def table(*rows: dict[str, object]) -> pd.DataFrame:
    return pd.DataFrame([dict(r) for r in rows])[OPTION_QUOTES.column_names]


BOTH = table(
    quoted(10_500.0, mark=0.0190, bid=0.0180, iv=0.70),
    quoted(11_000.0, NEXT_FRIDAY, mark=0.0220, bid=0.0205, iv=0.75),
)


def quotes_of(chain: pd.DataFrame) -> pd.DataFrame:
    """A modelled chain as if it had been recorded at each decision."""
    named = chain.rename(columns={"decision_time": "quote_time", "spot": "index_price"})
    return named.assign(vega=0.0, open_interest=0.0)[OPTION_QUOTES.column_names]


def run_recorded(
    frame: pd.DataFrame,
    quotes: pd.DataFrame | None,
    start: str = START,
    end: str = END,
    *,
    policy: object = None,
    options: OptionParams = RECORDED,
    mode: str = "independent",
    exit_styles: Sequence[str] = ("hold_to_expiry", "tp_and_roll"),
    **params: float,
) -> BacktestResult:
    return run_backtest(
        klines=frame, fine_klines=frame, market=Market("BTC", "1h"), start=at(start), end=at(end),
        option_params=options, params=BacktestParams(**{"max_candidates": 200, **params}), policy=policy, mode=mode,
        exit_styles=exit_styles, quotes=quotes,
    )  # fmt: skip


def opening_at(price: float) -> pd.DataFrame:
    """Flat candles, but the one after the decision opens at `price`."""
    frame = FLAT.copy()
    frame.loc[frame["open_time"] == at(START), "open"] = price
    return frame.assign(high=frame[["open", "high"]].max(axis=1), low=frame[["open", "low"]].min(axis=1))


# Who is offered what


def test_decision_without_a_snapshot_does_nothing_and_is_counted() -> None:
    quotes = pd.concat([BOTH, BOTH.assign(quote_time=at("2024-02-12"))])
    result = run_recorded(FLAT, quotes, end="2024-02-14", score_threshold=1.0)
    assert conform(result.steps, BACKTEST_STEPS).num_rows == 8
    by_day = result.steps[result.steps["exit_style"] == "tp_and_roll"]
    # On the 12th the call of the 16th has less than the five days that are asked for.
    assert by_day["candidates"].tolist() == [2, 0, 1, 0]
    assert by_day["reason"].tolist() == ["sold", "no_quotes", "sold", "no_quotes"]
    assert by_day["action"].tolist() == ["SELL_CALL", "DO_NOTHING"] * 2
    unquoted = by_day[by_day["reason"] == "no_quotes"]
    assert (unquoted[["reward", "pnl_vs_hodl", "pnl_coin", "fees_coin", "legs"]] == 0).all(axis=None)
    assert unquoted[["best_score", "instrument"]].isna().all(axis=None)
    figures = summarise(result).set_index("exit_style")
    assert figures["without_quotes"].tolist() == [2, 2]
    assert figures["decisions"].tolist() == [4, 4]


def test_snapshot_without_a_fitting_call_is_no_missing_snapshot() -> None:
    result = run_recorded(FLAT, table(quoted(10_500.0, mark=0.019, bid=0.018, iv=0.7, delta=0.7)))
    assert set(result.steps["reason"]) == {"no_candidates"}
    assert summarise(result)["without_quotes"].tolist() == [0, 0]


def test_no_decision_is_sold_where_nothing_was_recorded() -> None:
    result = run_recorded(FLAT, OPTION_QUOTES.empty(), end="2024-02-13", policy=AlwaysPolicy())
    assert conform(result.steps, BACKTEST_STEPS).num_rows == 6
    assert set(result.steps["reason"]) == {"no_quotes"}
    assert result.candidates.empty
    assert result.legs.empty
    with pytest.raises(ValueError, match="give the recorded quotes"):
        run_recorded(FLAT, None)


def test_modelled_runs_lack_no_quotes() -> None:
    assert summarise(run(FLAT, START, "2024-02-13"))["without_quotes"].tolist() == [0, 0]


def test_candidates_are_what_was_quoted() -> None:
    result = run_recorded(FLAT, BOTH, exit_styles=["hold_to_expiry"])
    assert conform(result.candidates, CANDIDATE_OUTCOMES).num_rows == 2
    for name in ("instrument", "strike", "iv", "delta", "bid_price", "ask_price"):
        assert result.candidates[name].tolist() == BOTH[name].tolist()
    assert result.candidates["premium_yield_pct"].tolist() == pytest.approx([1.80, 2.05])


def test_calls_without_a_bid_are_not_offered() -> None:
    quotes = BOTH.assign(bid_price=[np.nan, 0.0205])
    assert run_recorded(FLAT, quotes).candidates["instrument"].unique().tolist() == [LATER_CALL]


# What it is sold at


@pytest.mark.parametrize(("instrument", "premium"), [(CALL, 0.0230), (LATER_CALL, 0.0265)])
def test_fill_is_the_quoted_volatility_and_spread_at_the_price_of_the_fill(
    instrument: str, premium: float
) -> None:
    result = run_recorded(
        opening_at(10_200.0), BOTH, policy=sells(instrument), exit_styles=["hold_to_expiry"]
    )
    (leg,) = result.legs.itertuples()
    assert (leg.instrument, leg.entry_spot) == (instrument, 10_200.0)
    assert leg.entry_iv == pytest.approx(BOTH.set_index("instrument")["iv"][instrument], rel=1e-12)
    assert leg.premium_coin == pytest.approx(premium, abs=1e-15)
    assert leg.entry_fee_coin == 0.0003
    row = step(result, "hold_to_expiry")
    assert row["pnl_coin"] == pytest.approx(premium - 0.0003, abs=1e-12)
    assert row["pnl_vs_hodl"] == pytest.approx((premium - 0.0003) * 10_000)


@pytest.mark.parametrize(
    ("costs", "spreads", "premium"),
    [(1.0, 1.0, 0.0230), (2.0, 1.0, 0.0225), (1.0, 2.0, 0.0225), (0.0, 1.0, 0.0240)],
)
def test_cost_and_spread_multipliers_scale_the_quoted_spread(
    costs: float, spreads: float, premium: float
) -> None:
    """The quoted share is 0.75/19: twice that leaves 17.5/19 of 0.024435, 0.022506; without costs it is the mark."""
    options = RECORDED.model_copy(update={"spread_multiplier": spreads})
    result = run_recorded(
        opening_at(10_200.0), BOTH, policy=sells(CALL), options=options, cost_multiplier=costs,
        exit_styles=["hold_to_expiry"],
    )  # fmt: skip
    (leg,) = result.legs.itertuples()
    assert leg.premium_coin == pytest.approx(premium, abs=1e-15)
    assert leg.entry_fee_coin == pytest.approx(0.0003 * costs, abs=1e-15)


def test_spread_of_more_than_the_mark_leaves_nothing_to_sell_at() -> None:
    quotes = table(quoted(10_500.0, mark=0.019, bid=0.009, iv=0.7))
    row = step(
        run_recorded(FLAT, quotes, policy=sells(CALL), cost_multiplier=2.0, exit_styles=["hold_to_expiry"]),
        "hold_to_expiry",
    )
    assert row["reason"] == "trade_simulation_failed"


@settings(max_examples=50, deadline=None)
@given(iv=st.floats(0.2, 2.0), moneyness=st.floats(0.95, 1.25), share=st.floats(0.0, 0.6))
def test_fill_at_the_quoted_price_and_moment_is_the_quoted_bid(
    iv: float, moneyness: float, share: float
) -> None:
    """Spot is the quote's index and nothing is late: whatever was quoted, on tick, is what is received."""
    strike = round(10_000 * moneyness / 50) * 50.0
    market = {"forward": 10_000.0, "strike": strike, "iv": iv, "years": 152 / 8760}
    mark, delta = float(call_price_coin(**market)), float(call_delta(**market))
    tick = 0.0001 if mark * (1 - share) <= 0.005 else 0.0005
    bid = math.floor(mark * (1 - share) / tick) * tick
    assume(bid > 0 and 0.02 <= delta <= 0.9)
    quotes = table(quoted(strike, mark=mark, bid=bid, iv=iv, delta=delta))
    result = run_recorded(
        FLAT, quotes, policy=AlwaysPolicy(), exit_styles=["hold_to_expiry"], min_delta=0.01, max_delta=0.95
    )
    assert result.legs["premium_coin"].tolist() == pytest.approx([bid], abs=1e-12)
    assert result.legs["entry_iv"].tolist() == pytest.approx([iv], rel=1e-12)


@pytest.mark.parametrize("basis", [-0.1, 0.04, 0.4])
def test_fill_at_the_quoted_index_is_the_quoted_bid_whatever_the_forward(basis: float) -> None:
    """The venue prices on the forward of the expiry, so what it was over the index stays with the call."""
    forward = 10_000.0 * math.exp(basis * 152 / 8760)
    mark = float(call_price_coin(forward=forward, strike=10_500.0, iv=0.7, years=152 / 8760))
    bid = math.floor(0.95 * mark / 0.0005) * 0.0005
    quotes = table(quoted(10_500.0, mark=mark, bid=bid, iv=0.7, forward=forward))
    result = run_recorded(FLAT, quotes, policy=sells(CALL), exit_styles=["hold_to_expiry"])
    assert result.legs["premium_coin"].tolist() == pytest.approx([bid], abs=1e-12)
    assert result.legs["entry_iv"].tolist() == pytest.approx([0.7], rel=1e-12)


def test_older_quote_is_sold_for_the_time_that_is_left_at_the_fill() -> None:
    """At 02:00 the call lives 150 hours: its mark is 0.017628 at volatility 0.70, 18.25/19 of that 0.016932."""
    result = run_recorded(
        FLAT, BOTH, policy=sells(CALL), decision_offset_hours=2, exit_styles=["hold_to_expiry"]
    )
    (leg,) = result.legs.itertuples()
    assert leg.entry_time == at("2024-02-10 02:00")
    assert leg.premium_coin == pytest.approx(0.0165, abs=1e-15)


# How it is marked and left


def test_call_is_settled_at_the_delivery_price_of_its_expiry() -> None:
    frame = with_price(FLAT, "2024-02-16 07:00", "2024-02-16 08:00", 12_000.0)
    quotes = table(quoted(10_500.0, mark=0.019, bid=0.018, iv=0.7))
    result = run_recorded(frame, quotes, policy=sells(CALL), exit_styles=["hold_to_expiry"])
    # Spot has not moved since the decision, so the mark at volatility 0.70 is 0.017844; 18.25/19 of it on tick 0.0170.
    cash = 0.0170 - 0.0003 - 1_500 / 12_000 - 0.00015
    (leg,), row = result.legs.itertuples(), step(result, "hold_to_expiry")
    assert (leg.exit_reason, leg.exit_time, leg.exit_spot) == ("expired", FRIDAY, 12_000.0)
    assert row["pnl_coin"] == pytest.approx(cash, abs=1e-12)
    assert row["label_end_time"] == FRIDAY


@pytest.mark.parametrize(
    ("iv", "mark", "bid", "left_at", "spot", "ask"),
    [
        (0.6, 0.013273, 0.0130, "2024-02-12 06:00", 9_600.0, 0.0026),
        (0.8, 0.022602, 0.0215, "2024-02-15 01:00", 10_000.0, 0.0042),
    ],
)
def test_marks_keep_the_quoted_volatility_over_the_models(
    iv: float, mark: float, bid: float, left_at: str, spot: float, ask: float
) -> None:
    """Spot falls to 9,600 for one close, at 06:00 on the 12th, 98 hours before the expiry: sqrt(T) = 0.105769.

    At volatility 0.6, three quarters of the model's 0.8: deviation 0.063462, d1 = ln(96/105) / 0.063462 + 0.031731
    = -1.380334, N(d1) = 0.083742, N(d2) = N(-1.443796) = 0.074398; mark 0.083742 - 105/96 * 0.074398 = 0.002369.
    Half-spread at that delta 0.08 - 0.675 * 0.0075 = 0.074939; 0.002369 * 1.074939 = 0.002546, on tick: ask 0.0026, a
    fifth of the 0.0130 received. At 0.8 that mark is 0.006577, more than a fifth of 0.0215; back at 10,000 the call is
    bought back 31 hours before its expiry, at mark 0.003871, half-spread 0.06317, ask 0.0042.
    """
    frame = with_price(FLAT, "2024-02-12 05:00", "2024-02-12 06:00", 9_600.0)
    quotes = table(quoted(10_500.0, mark=mark, bid=bid, iv=iv))
    result = run_recorded(frame, quotes, policy=sells(CALL), exit_styles=["tp_and_roll"])
    (leg,) = result.legs.itertuples()
    assert leg.premium_coin == pytest.approx(bid, abs=1e-15)
    assert (leg.exit_reason, leg.exit_time, leg.exit_spot) == ("take_profit", at(left_at), spot)
    assert leg.exit_cost_coin == pytest.approx(ask, abs=1e-15)
    row = step(result, "tp_and_roll")
    assert row["pnl_coin"] == pytest.approx(bid - 0.0003 - ask - 0.0003, abs=1e-12)
    assert row["label_end_time"] == at(left_at)


def test_drawdown_is_marked_with_the_quoted_volatility() -> None:
    """An hour later the mark at volatility 0.70 is 0.017736, 0.1036 % of a coin more than premium less fee, 0.0167."""
    quotes = table(quoted(10_500.0, mark=0.019, bid=0.018, iv=0.7))
    row = step(run_recorded(FLAT, quotes, policy=sells(CALL)), "hold_to_expiry")
    assert row["max_drawdown_pct"] == pytest.approx(0.1036, abs=1e-4)


def test_roll_needs_a_snapshot_of_its_own() -> None:
    frame = with_price(FLAT, "2024-02-12 05:00", "2024-03-25", 9_600.0)
    first = table(quoted(10_500.0, mark=0.013273, bid=0.013, iv=0.6))
    roll = quoted(10_000.0, NEXT_FRIDAY, mark=0.02, bid=0.019, iv=0.6, quote_time=at("2024-02-12 05:30"))
    policy = sells(CALL, "BTC-23FEB24-10000-C")
    alone = run_recorded(frame, first, policy=policy, exit_styles=["tp_and_roll"])
    rolled = run_recorded(frame, pd.concat([first, table(roll)]), policy=policy, exit_styles=["tp_and_roll"])
    late = table({**roll, "quote_time": at("2024-02-12 06:00:01")})
    missed = run_recorded(frame, pd.concat([first, late]), policy=policy, exit_styles=["tp_and_roll"])
    assert [len(r.legs) for r in (alone, rolled, missed)] == [1, 2, 1]
    assert rolled.legs["entry_time"].tolist() == [at(START), at("2024-02-12 06:00")]
    assert rolled.legs["entry_iv"].tolist() == pytest.approx([0.6, 0.6])


# The whole run


CURVED = options_of(curved_surface(), window_days=10)
MARKET = random_candles(11, "2024-01-25", 24 * 45)
WINDOW = ("2024-02-10", "2024-02-20")


@pytest.fixture(scope="module")
def own_quotes() -> pd.DataFrame:
    """What the model would quote at every hour, as recorded quotes."""
    chain = build_option_chain(
        fine_klines=MARKET, market=Market("BTC", "1h"), start=at("2024-02-10"), end=at("2024-03-01"),
        option_params=CURVED, decision_every_hours=1,
    )  # fmt: skip
    return quotes_of(chain[chain["delta"] < 0.6])


@pytest.mark.parametrize("mode", ["independent", "sequential"])
def test_quotes_of_the_model_itself_give_the_modelled_run(own_quotes: pd.DataFrame, mode: str) -> None:
    settings = {"max_dte_days": 9.0, "score_threshold": 5.0, "max_candidates": 6, "mode": mode}
    modelled = run(MARKET, *WINDOW, options=CURVED, **settings)
    recorded = run_recorded(
        MARKET, own_quotes, *WINDOW, options=CURVED.model_copy(update={"source": "recorded"}), **settings
    )
    assert modelled.legs["leg"].max() > 0, "no chain was rolled"
    assert set(modelled.legs["exit_reason"]) == {"expired", "take_profit"}
    assert modelled.steps["action"].nunique() == 2 or mode == "sequential"
    assert modelled.legs["premium_coin"].tolist() == recorded.legs["premium_coin"].tolist()
    for name in ("steps", "legs", "candidates", "equity"):
        expected, found = getattr(modelled, name), getattr(recorded, name)
        pd.testing.assert_frame_equal(expected, found, rtol=1e-9, atol=1e-9)


def test_order_of_the_recorded_rows_changes_nothing(own_quotes: pd.DataFrame) -> None:
    options = CURVED.model_copy(update={"source": "recorded"})
    settings = {"options": options, "max_dte_days": 9.0, "score_threshold": 5.0}
    result = run_recorded(MARKET, own_quotes, *WINDOW, **settings)
    shuffled = run_recorded(MARKET, own_quotes.sample(frac=1, random_state=7), *WINDOW, **settings)
    assert len(result.legs) > 10
    for name in ("steps", "legs", "candidates"):
        pd.testing.assert_frame_equal(getattr(result, name), getattr(shuffled, name), check_exact=True)


def test_quotes_after_a_decision_change_nothing_until_it_rolls(own_quotes: pd.DataFrame) -> None:
    decision = at("2024-02-14")
    later = own_quotes["quote_time"] > decision
    changed = own_quotes.copy()
    changed.loc[later, ["iv", "mark_price", "bid_price", "ask_price"]] *= 1.7
    options = CURVED.model_copy(update={"source": "recorded"})
    before, after = (
        run_recorded(MARKET, q, *WINDOW, options=options, max_rolls=0, max_dte_days=9.0, score_threshold=5.0)
        for q in (own_quotes, changed)
    )
    for name in ("steps", "legs", "candidates"):
        one, other = (getattr(r, name) for r in (before, after))
        known = [f[f["decision_time"] <= decision] for f in (one, other)]
        assert len(known[0]) >= 4
        pd.testing.assert_frame_equal(*known, check_exact=True)
        assert not one.equals(other)


@pytest.mark.parametrize(("underlying", "sold"), [("BTC", 0), ("ETH", 8)])
def test_two_real_weeks_on_real_quotes(reference_data: Path, underlying: str, sold: int) -> None:
    """On 30 March and 1 April the snapshot was taken after 10:00, or more than two hours before: no quotes."""
    quotes = load_quotes_file(reference_data / "options" / "deribit_calls_daily_2026H1.parquet")
    frame = pd.read_parquet(reference_data / "klines" / f"{underlying}USDT_1h.parquet")
    frame["open_time"] = pd.to_datetime(frame["open_time"], unit="ms", utc=True)
    frame["close_time"] = frame["open_time"] + pd.Timedelta(hours=1)
    result = run_backtest(
        klines=frame, fine_klines=frame, market=Market(underlying, "1h"), start=at("2026-03-23"), end=at("2026-04-06"),
        option_params=OptionParams(source="recorded"), params=BacktestParams(decision_offset_hours=10), quotes=quotes,
    )  # fmt: skip
    assert conform(result.steps, BACKTEST_STEPS).num_rows == 28
    assert conform(result.candidates, CANDIDATE_OUTCOMES).num_rows > 150
    assert conform(result.legs, BACKTEST_LEGS).num_rows == len(result.legs)
    unquoted = result.steps[result.steps["reason"] == "no_quotes"]
    assert [f"{t:%m-%d %H:%M}" for t in unquoted["decision_time"].unique()] == ["03-30 10:00", "04-01 10:00"]
    assert summarise(result)["without_quotes"].tolist() == [2, 2]
    assert summarise(result)["trades"].tolist() == [sold, sold]
    assert summarise(result)["failed"].tolist() == [0, 0]
    first = result.legs[result.legs["leg"] == 0].merge(
        result.candidates, on=["decision_time", "exit_style", "instrument"]
    )
    # The candles' price and the model's forward are not quite the venue's, and the fill is up to an hour later.
    assert (first["premium_coin"] / first["bid_price"]).between(0.8, 1.25).all()


@pytest.mark.parametrize(
    ("column", "value"),
    [("iv", np.inf), ("iv", 1e6), ("bid_price", np.inf), ("index_price", 0.0), ("forward", -1.0)],
)
def test_quotes_that_cannot_be_are_refused_by_name(
    own_quotes: pd.DataFrame, column: str, value: float
) -> None:
    wrong = own_quotes.copy()
    row = wrong.index[wrong["option_type"] == "call"][5]
    wrong.loc[row, column] = value
    with pytest.raises(ValueError, match=rf"{wrong.loc[row, 'instrument']} at .*: {column} is"):
        run_recorded(MARKET, wrong, *WINDOW)
