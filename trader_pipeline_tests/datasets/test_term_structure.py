import numpy as np
import pandas as pd

from trader_pipeline.datasets import build_chain_dataset, term_structure_slope
from trader_pipeline_tests.datasets.frames import DAY, HOUR, outcomes, random_candles

MOMENT = pd.Timestamp("2026-02-01", tz="UTC")


def quotes(*calls: tuple[float, float, float], moment: pd.Timestamp = MOMENT) -> pd.DataFrame:
    """Calls as (days to expiry, strike, volatility); the forward is 100."""
    days, strike, iv = zip(*calls, strict=True)
    return pd.DataFrame(
        {
            "decision_time": moment,
            "option_type": "call",
            "strike": strike,
            "expiry": [moment + d * DAY for d in days],
            "dte": days,
            "forward": 100.0,
            "iv": iv,
        }
    )


def slope(*calls: tuple[float, float, float]) -> float:
    return float(term_structure_slope(quotes(*calls)).iloc[0])


def test_slope_is_the_far_volatility_minus_the_near_one_at_the_money():
    chain = [(6, 90, 0.9), (6, 101, 0.6), (6, 110, 0.8), (27, 99, 0.5), (27, 105, 0.7)]
    assert slope(*chain) == 0.5 - 0.6


def test_of_two_strikes_as_near_the_lower_counts():
    assert slope((7, 102, 0.9), (7, 98, 0.6), (30, 100, 0.7)) == 0.7 - 0.6


def test_the_expiry_nearest_to_the_days_counts_and_the_earlier_of_two_as_near():
    assert slope((5, 100, 0.1), (7.5, 100, 0.6), (26, 100, 0.2), (31, 100, 0.5), (40, 100, 0.3)) == 0.5 - 0.6
    assert slope((9, 100, 0.1), (5, 100, 0.6), (30, 100, 0.5)) == 0.5 - 0.6


def test_no_slope_where_an_expiry_or_a_strike_is_too_far_off():
    assert np.isnan(slope((7, 100, 0.6)))
    assert np.isnan(slope((2.9, 100, 0.6), (30, 100, 0.5)))
    assert np.isnan(slope((7, 100, 0.6), (45.1, 100, 0.5)))
    assert np.isnan(slope((16, 100, 0.6)))
    assert np.isnan(slope((7, 110.1, 0.6), (30, 100, 0.5)))
    assert not np.isnan(slope((3, 110, 0.6), (45, 90, 0.5)))


def test_puts_and_other_decisions_have_no_say():
    later = quotes((7, 100, 0.3), (30, 100, 0.9), moment=MOMENT + DAY)
    puts = quotes((7, 100, 0.1), (30, 100, 0.9)).assign(option_type="put")
    found = term_structure_slope(pd.concat([later, quotes((7, 100, 0.6), (30, 100, 0.5)), puts]))
    assert found.to_dict() == {MOMENT: 0.5 - 0.6, MOMENT + DAY: 0.9 - 0.3}


def test_slope_stands_beside_its_decision_and_is_null_without_recorded_quotes():
    klines = random_candles(45)
    steps, candidates = outcomes(klines, ["sold", "below"])
    recorded = quotes((7, 100, 0.6), (30, 100, 0.5), moment=steps["decision_time"].iloc[-1])
    with_quotes = build_chain_dataset(steps, candidates, klines, step=HOUR, option_chain=recorded)
    assert with_quotes["term_structure_slope"].tolist()[2:] == [0.5 - 0.6] * 2
    assert with_quotes["term_structure_slope"].isna().tolist() == [True, True, False, False]
    modelled = build_chain_dataset(steps, candidates, klines, step=HOUR)
    assert modelled["term_structure_slope"].isna().all()
    assert modelled["term_structure_slope"].dtype == "float64"
