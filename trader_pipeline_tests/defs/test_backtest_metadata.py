"""What Dagster shows of a backtest partition: numbers that it can draw over partitions, and small plots."""

import base64
import io
import math
from functools import partial
from itertools import islice

import dagster as dg
import pandas as pd
import pytest
from matplotlib.image import imread

from trader_pipeline.backtest import BacktestParams, NeverPolicy, run_backtest
from trader_pipeline.defs import plots
from trader_pipeline.defs.backtest import backtest, legs_plots, numeric_metadata, steps_plots, window_closes
from trader_pipeline.defs.partitions import window_key
from trader_pipeline.defs.resources import PipelineResource
from trader_pipeline.klines import SampleParams, simulate_klines
from trader_pipeline.options import OptionParams, build_option_chain
from trader_pipeline.schema import Market
from trader_pipeline.schema.tables import WINDOW_QUOTES
from trader_pipeline_tests.options.markets import at

MARKET, START, END = Market("BTC", "1h"), at("2021-02-15"), at("2021-03-22")
STYLES = ("hold_to_expiry", "tp_and_roll")


@pytest.fixture(scope="module")
def candles():
    return simulate_klines(SampleParams(years=0.5))["BTC"]


@pytest.fixture(scope="module")
def simulate(candles):
    return partial(
        run_backtest, klines=candles, fine_klines=candles, market=MARKET, start=START, end=END,
        option_params=OptionParams(), params=BacktestParams(max_candidates=4),
    )  # fmt: skip


@pytest.fixture(scope="module")
def made(candles, tmp_path_factory):
    """The asset's results for one partition, by table."""
    pipeline = PipelineResource(profile_name="tiny", data_root=str(tmp_path_factory.mktemp("data")))
    results = backtest(
        dg.build_asset_context(partition_key=window_key("BTC_1h", "bull_20210215_20210321")),
        pipeline=pipeline,
        candles={"BTC_1h": candles},
        option_chain=build_option_chain(
            fine_klines=candles, market=MARKET, start=START, end=END, option_params=pipeline.profile.options
        ),
        window_quotes=WINDOW_QUOTES.empty(),
    )
    # Three results and no further: after the last one a direct call asks for the checks, which are inside the results.
    return {r.asset_key.to_user_string(): r for r in islice(results, 3)}


def image(markdown: dg.MarkdownMetadataValue) -> bytes:
    return base64.b64decode(markdown.md_str.split("base64,")[1].removesuffix(")"))


def drawn(monkeypatch, plot):
    """The figure of a plot before it becomes an image."""
    with monkeypatch.context() as patch:
        patch.setattr(plots, "_markdown", lambda figure: figure)
        return plot()


def texts(figure) -> list[str]:
    return [t.get_text() for axes in figure.axes for t in (*axes.texts, axes.title, axes._left_title)]


def test_partition_shows_plain_numbers_of_the_decisions_and_of_the_book(made):
    metadata = made["backtest_steps"].metadata
    for style in STYLES:
        for name in (
            "trades",
            "mean_pnl_vs_hodl",
            "book_return_pct",
            "book_hodl_return_pct",
            "book_sharpe_ratio",
        ):
            value = metadata[f"{style}/{name}"]
            assert isinstance(value, dg.FloatMetadataValue)
            assert math.isfinite(value.value)
    sold = made["backtest_steps"].value
    sold = sold[(sold["exit_style"] == "tp_and_roll") & (sold["action"] == "SELL_CALL")]
    assert metadata["tp_and_roll/trades"].value == len(sold) > metadata["tp_and_roll/book_trades"].value > 0
    assert metadata["tp_and_roll/total_pnl_vs_hodl"].value == pytest.approx(sold["pnl_vs_hodl"].sum())


def test_no_number_hides_in_a_dictionary_which_dagster_does_not_draw(made):
    for result in made.values():
        nested = {k for k, v in result.metadata.items() if isinstance(v, dict | dg.JsonMetadataValue)}
        assert nested == {"failed_checks"}


@pytest.mark.parametrize(
    ("table", "key"),
    [
        ("backtest_steps", "plot"),
        ("backtest_steps", "plot_book"),
        ("backtest_legs", "plot"),
        ("backtest_legs", "plot_trades"),
        ("candidate_outcomes", "plot"),
    ],
)
def test_partition_shows_plots_that_are_small_images(made, table, key):
    plot = made[table].metadata[key]
    assert len(plot.md_str) < 100_000
    height, width, _ = imread(io.BytesIO(image(plot))).shape
    assert (width, height > 200) == (640, True)


def test_trades_plot_draws_each_call_from_entry_to_exit_at_its_strike(simulate, candles, monkeypatch):
    legs = simulate(mode="sequential").legs
    figure = drawn(monkeypatch, lambda: plots.trades_plot(candles, legs, "calls", exit_styles=STYLES))
    for axes, style in zip(figure.axes, STYLES, strict=True):
        own = legs[legs["exit_style"] == style]
        lines = axes.collections[0].get_segments()
        assert len(lines) == len(own) > 0
        assert [line[0][1] for line in lines] == own["strike"].tolist()
        names = {t.get_text() for t in axes.texts}
        assert {f"{strike:g}" for strike in own["strike"]} <= names
        assert "no call was sold" not in names


def test_book_plot_draws_both_styles_and_hodl(simulate, monkeypatch):
    equity = simulate(mode="sequential").equity
    figure = drawn(monkeypatch, lambda: plots.book_plot(equity, "book"))
    dollars, coins = figure.axes
    assert [line.get_label() for line in dollars.lines] == [*STYLES, "HODL"]
    book = equity[equity["exit_style"] == "tp_and_roll"]
    assert coins.lines[1].get_ydata()[-1] == (book["equity_usd"] / book["hodl_usd"]).iloc[-1]
    assert dollars.lines[2].get_ydata()[-1] == equity.sort_values("close_time")["hodl_usd"].iloc[-1]


def test_window_without_a_trade_gets_plots_that_say_so_and_numbers(simulate, candles, monkeypatch):
    result, book = simulate(policy=NeverPolicy()), simulate(policy=NeverPolicy(), mode="sequential")
    closes = window_closes(candles, book, start=START, end=END)
    shown = drawn(
        monkeypatch,
        lambda: [*steps_plots(result, book, "t").values(), *legs_plots(result, book, closes, "t").values()],
    )
    pnl, equity, ends, trades = shown
    assert "there are none" in texts(pnl)
    assert "there are none" in texts(ends)
    assert texts(trades).count("no call was sold") == 2
    assert len(equity.axes[0].lines) == 3
    numbers = numeric_metadata(result, book)
    assert numbers["hold_to_expiry/trades"].value == numbers["hold_to_expiry/book_trades"].value == 0
    assert all(math.isfinite(v.value) for v in numbers.values())
    assert "hold_to_expiry/book_sharpe_ratio_vs_hodl" not in numbers, "a flat curve has no ratio"


def test_plots_of_nothing_at_all_say_so(monkeypatch, simulate):
    equity = simulate(mode="sequential").equity.iloc[:0]
    assert "no candle to mark the book with" in texts(
        drawn(monkeypatch, lambda: plots.book_plot(equity, "book"))
    )
    nothing = pd.Series([], dtype=float)
    assert "there are none" in texts(
        drawn(monkeypatch, lambda: plots.histogram_plot(nothing, "scores", "0-10"))
    )


def test_closes_reach_from_the_window_to_the_end_of_the_last_call(simulate, candles):
    book = simulate(mode="sequential")
    closes = window_closes(candles, book, start=START, end=END)["close_time"]
    assert closes.min() == START
    assert closes.max() == max(END, book.legs["exit_time"].max())
