"""The page of a backtest: self-contained, deterministic, and drawn from what the result holds."""

from __future__ import annotations

import base64
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from trader_pipeline.backtest import BacktestResult, NeverPolicy, summarise
from trader_pipeline.backtest.page import write_page
from trader_pipeline.backtest.page.plots import MOST_POINTS, equity_figure
from trader_pipeline.backtest.page.trades_plot import coarse_candles
from trader_pipeline_tests.backtest.runs import run
from trader_pipeline_tests.backtest.test_regimes import windows_of
from trader_pipeline_tests.options.markets import random_candles

FRAME = random_candles(11, "2024-01-01", 24 * 130)
WINDOWS = windows_of(("bull", "2024-02-01", "2024-02-20"), ("dump", "2024-02-20", "2024-06-01"))
STYLES = ["hold_to_expiry", "tp_and_roll"]


class Page(HTMLParser):
    """What a browser would load, the charts, and the text that a reader sees."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.tags: list[str] = []
        self.charts: dict[str, dict[str, Any]] = {}
        self.text = ""
        self._script: dict[str, str | None] = {}
        self._hidden = False
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [v for name, v in attrs if v and (name == "src" or (tag == "link" and name == "href"))]
        self._script = dict(attrs) if tag == "script" else {}
        self._hidden = tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        if tag in ("script", "style"):
            self._script, self._hidden = {}, False

    def handle_data(self, data: str) -> None:
        if name := self._script.get("data-chart"):
            self.charts[name.removeprefix("chart-")] = json.loads(data)
        if not self._hidden:
            self.text += f"{data} "

    def traces(self, chart: str, **wanted: object) -> list[dict[str, Any]]:
        """Traces of a chart whose entries are as wanted."""
        found = [t for t in self.charts[chart]["data"] if all(t.get(k) == v for k, v in wanted.items())]
        return [{**t, **{axis: numbers(t[axis]) for axis in "xy" if axis in t}} for t in found]


def numbers(values: Any) -> list[Any]:
    """Values as plotly writes them: a list, or the bytes of an array."""
    if isinstance(values, list):
        return values
    return np.frombuffer(base64.b64decode(values["bdata"]), dtype=values["dtype"]).tolist()


def simulate(mode: str, **changed: Any) -> BacktestResult:
    given = {"max_candidates": 10, "score_threshold": 5.0, **changed}
    return run(FRAME, "2024-02-05", "2024-03-16", mode=mode, **given)


@pytest.fixture(scope="module")
def each() -> BacktestResult:
    return simulate("independent")


@pytest.fixture(scope="module")
def book() -> BacktestResult:
    return simulate("sequential")


@pytest.fixture(scope="module")
def page(each: BacktestResult, book: BacktestResult, tmp_path_factory: pytest.TempPathFactory) -> Page:
    path = tmp_path_factory.mktemp("page") / "page.html"
    write_page(
        each,
        book=book,
        klines=FRAME,
        path=path,
        windows=WINDOWS,
        note="Modelled quotes.",
        settings="size: 1.0\n",
    )
    return Page(path)


def test_page_loads_nothing_and_fits_a_phone(page: Page) -> None:
    assert page.loads == ["data:,"]
    assert "iframe" not in page.tags
    assert "meta" in page.tags


def test_every_section_says_something(page: Page) -> None:
    for heading in (
        "Summary",
        "Book against HODL",
        "Trades on candles",
        "P&L of the trades",
        "By regime",
        "Settings",
    ):
        assert heading in page.text
    assert "Covered calls on BTC_1h, 2024-02-05 to 2024-03-15" in page.text
    assert "Policy: teacher. Modelled quotes. Paper only" in page.text
    assert "size: 1.0" in page.text
    assert "hindsight" in page.text


def test_summary_shows_the_figures_of_both_runs_under_their_names(
    page: Page, each: BacktestResult, book: BacktestResult
) -> None:
    first, second = page.text.index("One book in sequence"), page.text.index("Every decision by itself")
    regimes = page.text.index("By regime", second)
    for result, text in ((book, page.text[first:second]), (each, page.text[second:regimes])):
        figures = summarise(result).set_index("exit_style")
        for title, name, form in (
            ("trades", "trades", "{:,d}"),
            ("hit rate (ahead of HODL), %", "hit_rate", "{:.1f}"),
            ("against HODL, total, USD", "total_pnl_vs_hodl", "{:+,.0f}"),
            ("fees, coin", "total_fees_coin", "{:,.4f}"),
        ):
            values = [figures[name][style] * (100 if name == "hit_rate" else 1) for style in STYLES]
            shown = " ".join(form.format(v) for v in values)
            assert f"{title} {shown} " in re.sub(r"\s+", " ", text), (title, shown)
    assert "return of the book, %" in page.text[first:second]


def test_book_is_drawn_against_hodl_with_its_drawdown(page: Page, book: BacktestResult) -> None:
    figures = summarise(book).set_index("exit_style")
    assert {t["name"] for t in page.traces("equity")} == {*STYLES, "HODL"}
    for style in STYLES:
        ahead, under, worth = page.traces("equity", name=style)
        own = book.equity[book.equity["exit_style"] == style]
        assert worth["y"] == own["equity_usd"].tolist()
        assert ahead["y"][-1] == pytest.approx(100 * (own["equity_usd"] / own["hodl_usd"]).iloc[-1] - 100)
        assert min(under["y"]) == pytest.approx(-figures["max_drawdown_pct"][style])
    ahead, _, worth = page.traces("equity", name="HODL")
    assert set(ahead["y"]) == {0.0}
    assert max(worth["x"]) == max(t for s in STYLES for t in page.traces("equity", name=s)[0]["x"])


def test_each_call_has_its_strike_its_entry_and_its_exit(page: Page, book: BacktestResult) -> None:
    for style in STYLES:
        legs = book.legs[book.legs["exit_style"] == style]
        chart = f"trades-{style.replace('_', '-')}"
        (candles,) = page.traces(chart, type="candlestick")
        assert min(candles["x"]) >= "2024-02-03"
        lines = page.traces(chart, mode="lines")
        drawn = [level for line in lines for level in line["y"][::3]]
        assert sorted(drawn) == sorted(legs["strike"])
        entries, exits = [], []
        for trace in page.traces(chart, mode="markers"):
            symbol = trace["marker"]["symbol"]
            if symbol == "triangle-down":
                entries += trace["y"]
            elif symbol != "square":
                exits += zip(trace["y"], symbol, strict=True)
        assert sorted(entries) == sorted(legs["entry_spot"])
        cross = {"expired": "x-thin-open", "take_profit": "circle-open"}
        assert sorted(exits) == sorted(zip(legs["exit_spot"], legs["exit_reason"].map(cross), strict=True))
        names = {t["name"] for t in page.charts[chart]["data"] if t.get("name")}
        assert {"bull (hindsight)", "dump (hindsight)"} <= names
        assert len(page.charts[chart]["layout"]["shapes"]) == 2
    assert f"{len(legs)} calls sold in {legs['decision_time'].nunique()} chains" in page.text


def test_histogram_holds_every_trade_of_the_independent_run(page: Page, each: BacktestResult) -> None:
    for style in STYLES:
        (trace,) = page.traces("pnl", name=style)
        assert sum(trace["y"]) == pytest.approx(1.0)
    assert "Every decision by itself: each chain against holding the coin" in page.text


def test_page_says_at_its_top_that_candles_are_simulated(
    book: BacktestResult, tmp_path: Path, page: Page
) -> None:
    assert "SIMULATED CANDLES" not in page.text
    simulated = Page(write_page(book, klines=FRAME, path=tmp_path / "s.html", simulated=True))
    assert "SIMULATED CANDLES" in simulated.text.split("Covered calls on")[1]


def test_same_arguments_give_the_same_bytes_and_nothing_is_overwritten(
    book: BacktestResult, tmp_path: Path
) -> None:
    first = write_page(book, klines=FRAME, path=tmp_path / "a.html", windows=WINDOWS)
    second = write_page(book, klines=FRAME, path=tmp_path / "b.html", windows=WINDOWS)
    assert first.read_bytes() == second.read_bytes()
    with pytest.raises(FileExistsError, match="exists already"):
        write_page(book, klines=FRAME, path=first, windows=WINDOWS, title="another")
    assert first.read_bytes() == second.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.html", "b.html"]


def test_texts_cannot_break_out_of_the_page(book: BacktestResult, tmp_path: Path) -> None:
    evil = "</script><script>alert(1)</script><b>"
    path = write_page(book, klines=FRAME, path=tmp_path / "e.html", title=evil, note=evil, settings=evil)
    html = path.read_text()
    assert "<script>alert" not in html
    assert Page(path).text.count("alert(1)") == 4, "as text: in head, heading, note and settings"


@pytest.mark.parametrize("styles", [STYLES, ["tp_and_roll"]])
def test_page_of_a_book_alone_is_about_the_book(styles: list[str], tmp_path: Path) -> None:
    alone = simulate("sequential", exit_styles=styles)
    shown = Page(write_page(alone, klines=FRAME, path=tmp_path / "p.html"))
    assert "Every decision by itself" not in shown.text
    assert "No regime windows were given" in shown.text
    assert set(shown.charts) == {"equity", "pnl", *(f"trades-{s.replace('_', '-')}" for s in styles)}


def test_page_without_a_book_says_so_and_draws_every_decision(each: BacktestResult, tmp_path: Path) -> None:
    shown = Page(write_page(each, klines=FRAME, path=tmp_path / "p.html"))
    assert "There is no book" in shown.text
    assert "calls overlap" in shown.text
    assert "equity" not in shown.charts


def test_page_without_any_trade_says_so(tmp_path: Path) -> None:
    idle = simulate("sequential", policy=NeverPolicy())
    shown = Page(write_page(idle, klines=FRAME, path=tmp_path / "p.html", windows=WINDOWS))
    assert "No call was sold, so there is no P&L to show." in shown.text
    assert "Policy: never" in shown.text
    assert re.search(r"hit rate \(ahead of HODL\), %\s+–\s+–", shown.text), "no trade has no hit rate"


def test_runs_that_do_not_belong_together_are_refused(
    each: BacktestResult, book: BacktestResult, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="book is an independent run; run it with mode='sequential'"):
        write_page(each, book=each, klines=FRAME, path=tmp_path / "p.html")
    other = run(FRAME, "2024-02-05", "2024-03-16", mode="sequential", underlying="ETH", max_candidates=10)
    with pytest.raises(ValueError, match="book is of ETH_1h and the result of BTC_1h"):
        write_page(each, book=other, klines=FRAME, path=tmp_path / "p.html")
    assert not any(tmp_path.iterdir())


def test_long_runs_are_drawn_coarser_and_keep_their_deepest_fall() -> None:
    closes = pd.date_range("2024-01-01 01:00", periods=MOST_POINTS + 24, freq="1h", tz="UTC")
    hodl = pd.Series(100.0, index=range(len(closes)))
    hodl[1000] = 60.0  # for an hour in the middle of a day
    equity = pd.DataFrame(
        {"close_time": closes, "exit_style": "hold_to_expiry", "equity_usd": hodl * 1.1, "hodl_usd": hodl}
    )
    ahead, under, worth, *_ = equity_figure(equity).data
    assert len(worth.x) == 101
    assert worth.x[0] == "2024-01-02 00:00", "a mark at midnight belongs to the day that it ends"
    assert min(under.y) == pytest.approx(-40)
    assert ahead.y == pytest.approx(10)


def test_many_candles_are_joined_without_losing_an_extreme() -> None:
    few = coarse_candles(FRAME.head(100))
    pd.testing.assert_frame_equal(few, FRAME.head(100)[["open_time", "open", "high", "low", "close"]])
    many = coarse_candles(FRAME)
    assert len(many) == len(FRAME) / 4
    assert (many["high"].max(), many["low"].min()) == (FRAME["high"].max(), FRAME["low"].min())
    assert many["close"].iloc[0] == FRAME["close"].iloc[3]
    assert many["open"].iloc[1] == FRAME["open"].iloc[4]
