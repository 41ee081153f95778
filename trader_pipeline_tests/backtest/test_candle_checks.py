"""Candles from Python that would give wrong figures are refused, with the row."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from trader_pipeline.backtest import run_backtest
from trader_pipeline_tests.options.markets import random_candles

FRAME = random_candles(1, "2024-01-01", 24 * 60)


def changed(column: str, row: int, value: object) -> pd.DataFrame:
    frame = FRAME.copy()
    frame[column] = frame[column].astype(object) if isinstance(value, str) else frame[column]
    frame.loc[row, column] = value
    return frame


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (changed("close", 900, 0.0), r"row 900 \(2024-02-07 12:00.*close is .*0.0.*not a price above 0"),
        (changed("close", 901, np.nan), r"row 901 .*close is .*nan"),
        (changed("open", 902, -5.0), r"row 902 .*open is .*-5"),
        (changed("open", 903, np.inf), r"row 903 .*open is .*inf"),
        (changed("close", 3, "41000"), "row 0 .*close is .*not a price"),
        (FRAME.iloc[::-1].reset_index(drop=True), "row 1 .*opens before.*sort by open_time"),
        (pd.concat([FRAME, FRAME.tail(1)], ignore_index=True), "row 1440 .*each once"),
        (FRAME.assign(open_time=FRAME["open_time"].dt.tz_localize(None)), "give times with a zone"),
        (
            FRAME.assign(close_time=FRAME["close_time"] - pd.Timedelta(milliseconds=1)),
            "close_time is when the next one opens",
        ),
        (changed("close_time", 5, FRAME["close_time"].iloc[6]), "row 5 .*lasts something else than"),
        (FRAME.drop(columns="open"), r"lacks the columns \['open'\]"),
        (FRAME.iloc[:0], "holds no candles"),
    ],
)
@pytest.mark.parametrize("argument", ["klines", "fine_klines"])
def test_candles_that_would_give_wrong_figures_are_refused(
    frame: pd.DataFrame, message: str, argument: str
) -> None:
    given = {"klines": FRAME, "fine_klines": FRAME} | {argument: frame}
    with pytest.raises(ValueError, match=f"^{argument}.*{message}"):
        run_backtest(**given, market="BTC_1h")


def test_candles_of_another_timeframe_are_refused() -> None:
    with pytest.raises(ValueError, match=r"klines last 1 h, those of BTC_4h 4 h; name the market"):
        run_backtest(klines=FRAME, market="BTC_4h")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"params": {"take_profit": 0.5}}, r"params is a dict.*BacktestParams\(\*\*"),
        ({"exit_styles": "hold_to_expiry"}, r"exit_styles.*\['hold_to_expiry'\]"),
        ({"policy": "never"}, "policy is 'never'.*decide"),
        (
            {"policy": type("Mine", (), {"decide": lambda self, step: None})},
            "is the class Mine; give an instance",
        ),
    ],
)
def test_arguments_of_the_wrong_kind_say_what_to_give(given: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run_backtest(klines=FRAME, market="BTC_1h", **given)


def answer(pick: Callable[[pd.DataFrame], object]) -> object:
    return type("Mine", (), {"name": "mine", "decide": lambda self, step: pick(step.candidates)})()


def test_answer_that_is_no_instrument_is_refused() -> None:
    with pytest.raises(ValueError, match=r"policy 'mine' answered a Series .*which was not offered"):
        run_backtest(klines=FRAME, market="BTC_1h", policy=answer(lambda offered: offered.iloc[0]))


def test_history_that_ends_before_the_finer_candles_is_refused() -> None:
    old = FRAME[FRAME["close_time"] <= FRAME["close_time"].iloc[900]]
    with pytest.raises(ValueError, match=r"klines of BTC_1h end at 2024-02-07 13:00.*old history"):
        run_backtest(klines=old, fine_klines=FRAME, market="BTC_1h")
    run_backtest(klines=FRAME, fine_klines=FRAME, market="BTC_1h")
