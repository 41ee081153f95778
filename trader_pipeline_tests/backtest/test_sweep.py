"""Many settings beside each other give what each gives alone."""

import pandas as pd
import pytest

from trader_pipeline.backtest import (
    BacktestParams,
    prepare_market,
    run_backtest,
    run_prepared,
    summarise,
    sweep_backtests,
    sweep_prepared,
)
from trader_pipeline_tests.options.markets import random_candles

FRAME = random_candles(5, "2024-01-01", 24 * 120)
WINDOW = {"klines": FRAME, "market": "BTC_1h", "start": "2024-02-05", "end": "2024-03-20"}
SETTINGS = [
    BacktestParams(score_threshold=6.0, take_profit=0.5),
    BacktestParams(score_threshold=7.0, take_profit=0.5),
    BacktestParams(score_threshold=6.0, min_delta=0.2, max_dte_days=20.0, cost_multiplier=2.0),
    BacktestParams(score_threshold=6.0, decision_every_hours=12, max_rolls=0, size=2.0),
    BacktestParams(score_threshold=10.0),
]


@pytest.fixture(scope="module")
def swept() -> pd.DataFrame:
    return sweep_backtests(**WINDOW, settings=SETTINGS)


@pytest.mark.parametrize("setting", range(len(SETTINGS)))
def test_each_setting_has_the_figures_of_its_own_run(swept: pd.DataFrame, setting: int) -> None:
    alone = summarise(run_backtest(**WINDOW, params=SETTINGS[setting], mode="sequential"))
    mine = swept[swept["setting"] == setting].drop(columns="setting").reset_index(drop=True)
    assert mine["exit_style"].tolist() == ["hold_to_expiry", "tp_and_roll"]
    for name in mine.columns.drop("exit_style"):
        assert mine[name].tolist() == pytest.approx(alone[name].tolist(), rel=1e-12, nan_ok=True), name


def test_settings_differ_and_one_never_sells(swept: pd.DataFrame) -> None:
    assert swept.loc[swept["exit_style"] == "tp_and_roll", "return_pct"].nunique() == len(SETTINGS)
    assert (swept.loc[swept["setting"] == 4, "trades"] == 0).all()
    assert (swept.loc[swept["setting"] != 4, "trades"] > 0).all()


def test_order_of_settings_and_threads_change_no_byte(swept: pd.DataFrame) -> None:
    on_two = sweep_backtests(**WINDOW, settings=SETTINGS, threads=2)
    pd.testing.assert_frame_equal(on_two, swept, check_exact=True)
    turned = sweep_backtests(**WINDOW, settings=SETTINGS[::-1])
    turned["setting"] = len(SETTINGS) - 1 - turned["setting"]
    turned = turned.sort_values(["setting", "exit_style"], ignore_index=True)
    pd.testing.assert_frame_equal(turned, swept, check_exact=True)


def test_market_prepared_for_wider_settings_changes_no_byte() -> None:
    narrow = BacktestParams(min_dte_days=5.0, max_dte_days=15.0, score_threshold=6.0)
    wide = [narrow, BacktestParams(min_dte_days=0.0, max_dte_days=60.0)]
    for mode in ("independent", "sequential"):
        alone, shared = (
            run_prepared(prepare_market(**WINDOW, settings=s), narrow, mode=mode) for s in ([narrow], wide)
        )
        for name in ("steps", "legs", "candidates", "equity"):
            pd.testing.assert_frame_equal(getattr(alone, name), getattr(shared, name), check_exact=True)


def test_setting_beyond_what_the_market_was_prepared_for_is_refused() -> None:
    prepared = prepare_market(**WINDOW, settings=[BacktestParams(min_dte_days=5.0, max_dte_days=15.0)])
    with pytest.raises(ValueError, match=r"5 to 15 days.*prepare_market"):
        run_prepared(prepared, BacktestParams(min_dte_days=2.0, max_dte_days=15.0))
    with pytest.raises(ValueError, match=r"5 to 15 days.*prepare_market"):
        sweep_prepared(prepared, [BacktestParams(min_dte_days=5.0, max_dte_days=20.0)])


def test_progress_goes_from_nothing_to_all() -> None:
    seen: list[float] = []
    sweep_backtests(**WINDOW, settings=SETTINGS, threads=2, on_progress=seen.append)
    assert seen == sorted(seen)
    assert len(seen) == len(SETTINGS)
    assert seen[-1] == 1.0


def test_no_settings_and_no_style_are_refused() -> None:
    with pytest.raises(ValueError, match="give at least one"):
        sweep_backtests(**WINDOW, settings=[])
    with pytest.raises(ValueError, match="known: hold_to_expiry, tp_and_roll"):
        sweep_backtests(**WINDOW, settings=SETTINGS, exit_styles=["hold"])


@pytest.mark.parametrize("rhythms", [(168, 24), (24, 168), (336, 12, 24)])
def test_settings_of_mixed_rhythms_have_the_figures_of_their_own_runs(rhythms: tuple[int, ...]) -> None:
    """The first decision of a rare rhythm lies days after the window's start, that of a frequent one at once."""
    window = WINDOW | {"start": "2024-02-03 01:00"}
    settings = [BacktestParams(decision_every_hours=h, score_threshold=0.0) for h in rhythms]
    rows = sweep_backtests(**window, settings=settings)
    for n, params in enumerate(settings):
        alone = summarise(run_backtest(**window, params=params, mode="sequential"))
        mine = rows[rows["setting"] == n].reset_index(drop=True)
        for name in ("trades", "total_pnl_coin", "return_vs_hodl_pct", "max_drawdown_pct"):
            assert mine[name].tolist() == pytest.approx(alone[name].tolist(), rel=1e-12), name


def test_rhythm_that_begins_before_what_was_prepared_is_refused() -> None:
    window = WINDOW | {"start": "2024-02-03 01:00"}
    prepared = prepare_market(**window, settings=[BacktestParams(decision_every_hours=336)])
    with pytest.raises(ValueError, match=r"begins before those.*prepare_market"):
        run_prepared(prepared, BacktestParams())


def test_window_that_ends_inside_a_gap_has_no_curve_but_runs() -> None:
    gap = FRAME[
        (FRAME["open_time"] < "2024-03-01 20:00+00:00") | (FRAME["open_time"] >= "2024-03-02 03:00+00:00")
    ]
    window = {
        "klines": gap.reset_index(drop=True),
        "market": "BTC_1h",
        "start": "2024-03-02",
        "end": "2024-03-02 01:00",
    }
    rows = sweep_backtests(**window, settings=[BacktestParams(score_threshold=0.0)])
    assert (rows["decisions"] == 1).all()
    assert run_backtest(**window, mode="sequential").equity.empty
