"""The report's page: self-contained, deterministic, honest about simulation and about what the adapter did not do."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from trader_pipeline.backtest.page.markup import Field as TableField
from trader_pipeline.backtest.page.markup import table
from trader_pipeline.evaluation.overview import comparisons, label_balance, verdicts
from trader_pipeline.evaluation.report import write_report
from trader_pipeline.evaluation.report.findings import best_trivial, build_findings
from trader_pipeline.evaluation.report.page import link_list
from trader_pipeline.evaluation.report.plots import differences_figure, equity_figure
from trader_pipeline.schema.tables import KLINES, POLICY_EQUITY, VOLATILITY_INDEX, WINDOW_QUOTES
from trader_pipeline.store import TableStore
from trader_pipeline_tests.evaluation.report_store import (
    DAY,
    START,
    mixed_metrics,
    policy_metrics,
    rows_of,
    write_store,
)
from trader_pipeline_tests.options.deribit_server import built_in_quotes

MARKETS = ["BTC_1h"]
BANNER = "SIMULATED CANDLES"
HODL = "never (HODL)"


class Page(HTMLParser):
    """What a browser would load, the ids, and the text that a reader sees."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.charts: dict[str, dict[str, Any]] = {}
        self.text = ""
        self._script: dict[str, str | None] | None = None
        self._skip = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.tags.append(tag)
        self.ids += [v for v in [values.get("id")] if v]
        self.loads += [v for name, v in attrs if v and (name == "src" or (tag == "link" and name == "href"))]
        self._script = values if tag == "script" else None
        self._skip = tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        if tag in ("script", "style"):
            self._script, self._skip = None, False

    def handle_data(self, data: str) -> None:
        if self._script is not None and (name := self._script.get("data-chart")):
            self.charts[name] = json.loads(data)
        if not self._skip:
            self.text += f"{data} "


def read_page(path: Path) -> Page:
    return Page(path.read_text())


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> TableStore:
    return write_store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def report(store: TableStore, tmp_path_factory: pytest.TempPathFactory) -> Page:
    return read_page(write_report(store, MARKETS, path=tmp_path_factory.mktemp("report") / "report.html"))


def test_page_loads_nothing_and_holds_plotly_once(report: Page, store: TableStore, tmp_path: Path) -> None:
    assert report.loads == ["data:,"]  # the empty icon, so that no browser asks for one
    assert not {"iframe", "img", "object", "embed", "base"} & set(report.tags)
    html = write_report(store, MARKETS, path=tmp_path / "r.html").read_text()
    style = re.search(r"<style>(.*?)</style>", html, re.DOTALL)
    assert style
    assert not re.search(r"@import|url\(", style[1])
    assert html.count("plotly.js v") == 1
    assert len(html) < 15e6


def test_page_says_where_the_option_prices_come_from(tmp_path: Path) -> None:
    def page_of(name: str, simulated: bool, **tables: pd.DataFrame) -> str:
        store = TableStore(tmp_path / name)
        window = (MARKETS[0], "bull_20240101_20240201")
        for kind, partition in ((VOLATILITY_INDEX, ()), (WINDOW_QUOTES, window)):
            frame = tables.get(kind.name, kind.empty())
            store.write(frame, kind, partition=partition, simulated=simulated)
        return read_page(write_report(store, MARKETS, path=tmp_path / f"{name}.html")).text

    hour = pd.Timestamp("2024-01-01", tz="UTC")
    index = VOLATILITY_INDEX.empty()
    index.loc[0] = ["BTC", hour, 0.6, 0.6, 0.6, 0.6, hour + pd.Timedelta(hours=1)]
    index = index.astype(VOLATILITY_INDEX.empty().dtypes.to_dict())
    assert "modelled, with volatility forecast from the candles" in page_of("none", False)
    assert "with volatility from the recorded index" in page_of("index", False, volatility_index=index)
    assert "with volatility forecast" in page_of("simulated", True, volatility_index=index)
    quotes = built_in_quotes().assign(underlying="BTC", option_type="call")[WINDOW_QUOTES.column_names]
    assert "Option quotes: recorded snapshots" in page_of("quotes", False, window_quotes=quotes)


def test_same_tables_give_same_bytes_and_replace_the_page(store: TableStore, tmp_path: Path) -> None:
    first = write_report(store, MARKETS, path=tmp_path / "r.html").read_bytes()
    assert write_report(store, MARKETS, path=tmp_path / "r.html").read_bytes() == first
    assert [p.name for p in tmp_path.iterdir()] == ["r.html"]


def test_every_chart_has_its_own_place(report: Page) -> None:
    assert len(set(report.ids)) == len(report.ids)
    assert set(report.charts) < set(report.ids)
    assert set(report.charts) == {
        "chart-differences-hold-to-expiry",
        "chart-candles-btc-1h",
        "chart-equity-btc-hold-to-expiry",
        "chart-loss",
        "chart-pnl",
    }


def test_banner_stands_only_over_simulated_candles(report: Page, tmp_path: Path) -> None:
    assert BANNER in report.text
    real = write_store(tmp_path / "real", simulated=False)
    assert BANNER not in write_report(real, MARKETS, path=tmp_path / "real.html").read_text()


def test_one_simulated_table_is_enough_for_the_banner(tmp_path: Path) -> None:
    store = write_store(tmp_path / "mixed", simulated=False)
    store.write(store.read(KLINES, ("BTC_1h",)), KLINES, partition=("ETH_1h",), simulated=True)
    assert BANNER in read_page(write_report(store, MARKETS, path=tmp_path / "r.html")).text


def test_text_from_tables_and_settings_is_escaped(tmp_path: Path) -> None:
    attack = "</script><script>alert(1)</script><img src=x onerror=alert(2)>&"
    store = write_store(tmp_path / "store", symbol=attack)
    links = {attack: "javascript:alert(3)", "page": 'report.html"><script>alert(4)</script>'}
    page = read_page(write_report(store, MARKETS, path=tmp_path / "r.html", profile_text=attack, links=links))
    assert "img" not in page.tags
    assert page.tags.count("script") == len(page.charts) + 2
    assert page.text.count(attack) == 2  # settings and link label, as text
    trade = page.charts["chart-candles-btc-1h"]["data"][-1]["text"][0]
    assert "<img" not in trade
    assert "&lt;img" in trade


def test_link_of_another_scheme_is_not_a_link() -> None:
    assert "href" not in link_list({"x": "javascript:alert(1)"})
    assert (
        link_list({"x": "../a b.csv"})
        == '<ul class="links"><li>x: <a href="../a b.csv"><code>../a b.csv</code></a></li></ul>'
    )


@pytest.mark.parametrize("markets", [[], ["BTC_1h"]])
def test_empty_store_gives_a_sentence_in_every_section(markets: list[str], tmp_path: Path) -> None:
    page = read_page(write_report(TableStore(str(tmp_path / "none")), markets, path=tmp_path / "r.html"))
    for sentence in (
        "The adapter has not been evaluated",
        "No sequential backtest was run",
        "The adapter has not been trained",
        "No labelled tables yet",
        "The teacher sold nothing",
        "No regime windows have been dated",
        "No tables have been built",
        "The settings were not given",
    ):
        assert sentence in page.text
    assert page.charts == {}
    assert BANNER not in page.text


@pytest.mark.parametrize(
    "missing",
    [
        "paper_replay",
        "replay_evaluations",
        "regime_windows",
        "policy_decisions",
        "policy_equity",
        "policy_metrics",
        "klines",
    ],
)
def test_any_single_table_may_be_missing(missing: str, tmp_path: Path) -> None:
    store = write_store(tmp_path / "store")
    for file in (tmp_path / "store").rglob(f"{missing}/**/*.parquet"):
        file.unlink()
    page = read_page(write_report(store, MARKETS, path=tmp_path / "r.html"))
    expected = {"paper_replay": "no paper trades", "policy_decisions": "No held-out steps to mark"}
    assert expected.get(missing, "Lineage") in page.text


def test_empty_equity_of_a_run_without_sequential_backtest(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store")
    store.write(POLICY_EQUITY.empty(), POLICY_EQUITY, simulated=True)
    page = read_page(write_report(store, MARKETS, path=tmp_path / "r.html"))
    assert "No sequential backtest was run" in page.text


def test_candles_chart_shows_trades_windows_and_held_out_steps(report: Page) -> None:
    figure = report.charts["chart-candles-btc-1h"]
    by_name = {trace.get("name"): trace for trace in figure["data"]}
    assert by_name["candle"]["x"][0] == "2021-01-01 00:00"
    won, lost = by_name["paper trade that beat HODL"], by_name["paper trade that did not"]
    assert (won["x"], won["y"]) == (["2021-01-04 00:00"], [40_000.0])
    assert (lost["x"], lost["y"]) == (["2021-01-10 00:00"], [42_000.0])
    assert "strike $40,000, premium 0.0125 coin" in won["text"][0]
    assert "P&amp;L against HODL +1.25 % of the coin, judged GOOD" in won["text"][0]
    rectangles = [s for s in figure["layout"]["shapes"] if s["type"] == "rect"]
    lines = [s["x0"] for s in figure["layout"]["shapes"] if s["type"] == "line"]
    assert [(r["x0"], r["x1"]) for r in rectangles] == [
        ("2021-01-01", "2021-01-16"),
        ("2021-01-16", "2021-02-01"),
    ]
    assert lines == ["2021-01-26 00:00", "2021-01-30 00:00"]
    assert "Regime labels are hindsight" in report.text


def test_teachers_pnl_is_of_the_chosen_rows_in_percent_of_the_coin(report: Page) -> None:
    # 8 sales a style: half make 800 of 40,000 (bull), half lose 400 (dump)
    assert "BTC_1h hold_to_expiry 8 +0.500 +0.500 -1.00 50.0" in report.text
    assert "bull BTC_1h tp_and_roll 4 +2.000 +2.000 +2.00 100.0" in report.text


def test_equity_is_thinned_to_the_last_mark_of_a_day() -> None:
    hours = [START + i * pd.Timedelta(hours=1) for i in range(1, 50)]
    equity = rows_of(
        POLICY_EQUITY,
        policy=["adapter"] * 49,
        close_time=hours,
        equity_usd=np.arange(49.0),
        hodl_usd=[2.0] * 49,
    )
    ratio, usd = equity_figure(equity).data
    assert ratio.x == ("2021-01-02 00:00", "2021-01-03 00:00", "2021-01-03 01:00")
    assert list(usd.y) == [23.0, 47.0, 48.0]
    assert list(ratio.y) == [11.5, 23.5, 24.0]


def test_differences_are_drawn_where_they_are(report: Page) -> None:
    (points,) = report.charts["chart-differences-hold-to-expiry"]["data"]
    assert points["y"] == ["never (HODL) ", "largest premium "]  # from below
    figure = differences_figure(comparisons(mixed_metrics()))
    assert list(figure.data[0].x) == [-0.5, 0.1]
    assert list(figure.data[0].error_x.array) == pytest.approx([0.4, 0.3])
    assert list(figure.data[0].error_x.arrayminus) == pytest.approx([0.4, 0.3])
    assert figure.layout.scattermode is None  # grouped points would be drawn beside their value


def test_tie_and_loss_are_said_to_be_not_ahead(report: Page) -> None:
    assert "The adapter is not ahead of HODL on held-out steps (hold_to_expiry)" in report.text
    assert "a tie" in report.text
    assert "not ahead of the best trivial baseline (largest premium)" in report.text
    assert "not ahead of the most accurate trivial baseline (never (HODL), 70.0 %" in report.text
    assert "The adapter is ahead of HODL, but not ahead of always." in report.text


def findings_of(mean: float, low: float, high: float, **changes: Any) -> list[tuple[bool, str]]:
    metrics = policy_metrics(
        pnl={"adapter": mean, HODL: 0.0, "constant 1": -0.3},
        accuracy={"adapter": 0.8, HODL: 0.7, "constant 1": 0.1},
        intervals={HODL: (mean, low, high), "constant 1": (mean + 0.3, low + 0.3, high + 0.3)},
        **changes,
    )
    return [(f.ahead, f.text) for f in build_findings(metrics)]


def test_adapter_is_ahead_only_with_its_whole_interval_above_zero() -> None:
    assert [ahead for ahead, _ in findings_of(0.5, 0.1, 0.9)] == [True, True]
    assert [ahead for ahead, _ in findings_of(0.5, 0.0, 0.9)] == [False, True]
    assert [ahead for ahead, _ in findings_of(-0.5, -0.9, -0.1)] == [False, True]


def test_hodl_as_best_trivial_baseline_is_named_once() -> None:
    (_, pnl), _ = findings_of(-0.5, -0.9, -0.1)
    assert "not ahead of HODL, which is also the best trivial baseline" in pnl
    assert "a tie" not in pnl


def test_missing_interval_never_counts_as_ahead() -> None:
    assert findings_of(0.5, float("nan"), float("nan"))[0][0] is False


def test_few_decisions_and_a_constant_policy_are_pointed_out() -> None:
    (_, pnl), (_, answers) = findings_of(0.5, 0.1, 0.9, decisions=10, sold=0.0)
    assert "fewer than 30 count as a tie" in pnl
    assert "as a policy it is HODL" in answers
    assert "fewer than" not in findings_of(0.5, 0.1, 0.9)[0][1]


@pytest.mark.parametrize(
    ("lead", "ahead", "words"),
    [
        (-1.0, False, "is not ahead of HODL"),
        (0.0, False, "is not ahead of HODL"),
        (3.0, True, "and of every trivial book"),
    ],
)
def test_book_must_beat_hodl_and_the_best_trivial_book(lead: float, ahead: bool, words: str) -> None:
    *_, (last_ahead, text) = findings_of(0.5, 0.1, 0.9, books={"adapter": lead, "never": 0.0, "always": -2.0})
    assert last_ahead is ahead
    assert words in text


def test_best_trivial_baseline_is_never_a_model_or_the_teacher() -> None:
    figures = mixed_metrics().pivot_table(index="policy", columns="metric", values="value")
    assert best_trivial(figures, "mean_pnl_vs_hodl_pct") == "largest premium"
    assert best_trivial(figures, "accuracy") == HODL
    assert best_trivial(figures.loc[["adapter", "teacher"]], "accuracy") is None


def test_comparisons_read_the_paired_intervals() -> None:
    rows = comparisons(mixed_metrics()).set_index("against")
    assert rows["standing"].to_dict() == {HODL: "tied with", "largest premium": "behind"}
    assert list(rows[["mean", "low", "high", "decisions"]].loc[HODL]) == [0.1, -0.2, 0.4, 80]
    assert verdicts(mixed_metrics())[0].startswith(
        "adapter is tied with never (HODL) (hold_to_expiry): +0.100 %"
    )


def test_label_balance_counts_answers_and_leaves_out_what_is_missing(
    store: TableStore, tmp_path: Path
) -> None:
    balance = dict(label_balance(store, MARKETS).set_index(["table", "label"])["rows"].items())
    assert balance[("chain_dataset", "SELL_CALL")] == 6
    assert balance[("candidate_dataset", "SKIP")] == 16
    assert balance[("replay_evaluations", "GOOD")] == 1
    assert balance[("mixed_corpus train, pick_candidate", "an index")] == 2
    assert label_balance(TableStore(str(tmp_path)), MARKETS).empty


def test_table_shows_nulls_dates_and_marks_the_named_row() -> None:
    frame = pd.DataFrame({"policy": ["adapter", "a<b"], "value": [1.5, np.nan], "day": [START, START + DAY]})
    html = table(
        frame,
        {"policy": TableField("who"), "value": TableField("P&L", "+.2f"), "day": TableField("day")},
        strong="adapter",
    )
    assert "<tr class=strong><td>adapter</td><td class=number>+1.50</td><td>2021-01-01</td></tr>" in html
    assert "<tr><td>a&lt;b</td><td class=number>–</td><td>2021-01-02</td></tr>" in html
    assert "<th class=number>P&amp;L</th>" in html
