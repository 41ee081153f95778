"""The page Policies: the order of the leaderboard, who loses, intervals, calibration, figures by regime."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from trader_pipeline.dashboard import policy_views as views
from trader_pipeline.dashboard.page import Context
from trader_pipeline.dashboard.pages import policies
from trader_pipeline.schema.tables import POLICY_DECISIONS, POLICY_METRICS, REGIME_WINDOWS
from trader_pipeline.store import TableStore
from trader_pipeline_tests.dashboard.reading import body_rows, components, section, shown_text
from trader_pipeline_tests.dashboard.run_folder import context_of

STYLE = "hold_to_expiry"
MEANS = {
    "adapter": -0.4,
    "largest score": 0.2,
    "never (HODL)": 0.0,
    "oracle (hindsight)": 2.0,
    "teacher": 0.5,
}


def metrics(steps: int = 100) -> pd.DataFrame:
    rows = [
        (policy, "all", STYLE, name, value, steps)
        for policy, mean in MEANS.items()
        for name, value in (("accuracy", 0.5), ("share_sold", 0.25), ("mean_pnl_vs_hodl_pct", mean))
    ]
    pair = {"mean": -0.4, "low": -0.7, "high": -0.1, "differing": 60.0}
    rows += [("adapter", "all", STYLE, f"minus never (HODL): {k}", v, steps) for k, v in pair.items()]
    return pd.DataFrame(rows, columns=POLICY_METRICS.column_names)


def decisions(log_probability: float | None = np.log(0.8), count: int = 100) -> pd.DataFrame:
    """One policy that is right on four of five steps."""
    times = pd.date_range("2021-02-15", periods=count, freq="D", tz="UTC").as_unit("us")
    frame = pd.DataFrame(
        {"decision_time": times, "policy": "adapter", "underlying": "BTC", "exit_style": STYLE}
    )
    return frame.assign(
        choice="NO_TRADE", teacher_choice="NO_TRADE", correct=(np.arange(count) % 5 > 0).astype("int64"),
        answer_log_probability=log_probability, pnl_vs_hodl=np.where(np.arange(count) < 14, 100.0, -50.0),
    )[POLICY_DECISIONS.column_names].astype({"answer_log_probability": float})  # fmt: skip


@pytest.fixture
def context(tmp_path: Path) -> Context:
    TableStore(str(tmp_path)).write(metrics(), POLICY_METRICS, simulated=False)
    return context_of(tmp_path)


def test_the_best_stands_first_and_losers_are_named_as_losing() -> None:
    board = views.leaderboard(metrics(), exit_style=STYLE, segment="all").set_index("policy")
    assert list(board.index) == ["oracle (hindsight)", "teacher", "largest score", "never (HODL)", "adapter"]
    assert board.loc["adapter", "standing"] == "below 0"
    assert board.loc["never (HODL)", "standing"] == "0"
    assert board.loc["never (HODL)", ["low", "high"]].tolist() == [-0.7, -0.1]
    assert board.loc["never (HODL)", "compared"] == "adapter behind it"
    assert pd.isna(board.loc["teacher", "low"])
    assert board.loc["teacher", ["accuracy_pct", "sold_pct", "steps"]].tolist() == [50.0, 25.0, 100]


def test_a_losing_bar_has_its_own_colour_and_pattern() -> None:
    bar = views.leaderboard_figure(views.leaderboard(metrics(), exit_style=STYLE, segment="all")).data[0]
    looks = dict(zip(bar.y, zip(bar.marker.color, bar.marker.pattern.shape, strict=True), strict=True))
    assert looks["adapter"] != looks["teacher"]
    assert looks["never (HODL)"] == looks["teacher"]


def test_the_page_says_who_is_not_ahead_and_never_calls_the_oracle_the_best(context: Context) -> None:
    content = policies.layout({}, context)
    assert "Not ahead. The adapter is not ahead of HODL" in shown_text(section(content, "Verdict"))
    words = components(section(content, "Leaderboard"), "Figcaption")
    assert "does not know the future is teacher" in shown_text(words[0])
    assert "1 lose to holding" in shown_text(words[0])
    assert len(body_rows(section(content, "Leaderboard"))) == len(MEANS) + 1  # and the pair that was compared


def intervals() -> pd.DataFrame:
    """Of the means above: never and largest score hold 0, the adapter sold on 25 of 100 steps, teacher on 60."""
    ends = {
        "adapter": (-0.7, -0.1),
        "largest score": (-0.1, 0.5),
        "never (HODL)": (0.0, 0.0),
        "teacher": (0.2, 0.8),
    }
    rows = [
        (policy, "all", STYLE, f"mean_pnl_vs_hodl_pct_{side}", value, 90)
        for policy, pair in ends.items()
        for side, value in zip(("low", "high"), pair, strict=True)
    ]
    held = pd.concat([metrics(), pd.DataFrame(rows, columns=POLICY_METRICS.column_names)], ignore_index=True)
    sold = (held["policy"] == "teacher") & (held["metric"] == "share_sold")
    return held.assign(value=held["value"].mask(sold, 0.6))


def test_a_mean_stands_with_its_interval_and_a_tie_is_said() -> None:
    board = views.leaderboard(intervals(), exit_style=STYLE, segment="all").set_index("policy")
    assert list(board.columns[:3]) == ["mean_pnl_vs_hodl_pct", "interval", "tied"]
    assert board.loc["teacher", ["interval", "tied"]].tolist() == ["+0.200 .. +0.800", "not tied"]
    assert board.loc["largest score", ["standing", "tied"]].tolist() == ["above 0", "tied: 0 is in it"]
    assert board.loc["adapter", ["standing", "tied"]].tolist() == ["below 0", "tied: only 25 sales"]
    assert board.loc["oracle (hindsight)", ["interval", "tied"]].tolist() == ["–", "–"]
    assert set(board["steps"]) == {100}


def test_error_bars_end_where_the_intervals_do() -> None:
    bar = views.leaderboard_figure(views.leaderboard(intervals(), exit_style=STYLE, segment="all")).data[0]
    place = list(bar.y).index("teacher")
    assert bar.x[place] + bar.error_x.array[place] == pytest.approx(0.8)
    assert bar.x[place] - bar.error_x.arrayminus[place] == pytest.approx(0.2)
    assert bar.error_x.array[list(bar.y).index("oracle (hindsight)")] == 0.0


def test_the_page_names_the_interval_of_the_best_and_counts_ties(tmp_path: Path) -> None:
    TableStore(str(tmp_path)).write(intervals(), POLICY_METRICS, simulated=False)
    shown = section(policies.layout({}, context_of(tmp_path)), "Leaderboard")
    words = shown_text(components(shown, "Figcaption"))
    assert (
        "teacher with +0.500 % of the coin per decision, interval +0.200 .. +0.800, not tied with HODL"
        in words
    )
    assert "3 of 5 are tied with holding" in words
    heads = [shown_text(cell) for cell in components(components(shown, "Thead")[0], "Th")]
    assert heads[:5] == ["policy", "mean, % of coin", "interval", "with HODL", "sign"]


def test_metrics_without_intervals_are_shown_without_and_it_is_said(context: Context) -> None:
    bar = views.leaderboard_figure(views.leaderboard(metrics(), exit_style=STYLE, segment="all")).data[0]
    assert bar.error_x.array is None
    shown = shown_text(section(policies.layout({}, context), "Leaderboard"))
    assert "made before the means had intervals" in shown
    assert "tied with holding" not in shown


def test_a_policy_that_is_right_as_often_as_it_says_lies_on_the_line() -> None:
    bins = views.calibration(decisions())
    assert bins["probability"].to_numpy() == pytest.approx(0.8)
    assert bins["frequency"].mean() == pytest.approx(0.8)
    assert ((bins["low"] <= 0.8) & (bins["high"] >= 0.8)).all()


def test_a_probability_that_is_not_scaled_gets_no_score(context: Context) -> None:
    never_right = decisions(log_probability=-12.0).assign(correct=0)
    context.tables.store.write(never_right, POLICY_DECISIONS, simulated=False)
    words = shown_text(section(policies.layout({}, context), "Calibration"))
    assert "adapter: 0.0% of 100 answers right" in words
    assert "No Brier score and no ECE is given" in words


def test_a_drawdown_has_no_sign_and_a_gain_has_one() -> None:
    shown = {name: format(16.53, policies._book_format(name)) for name in policies._BOOKS if name != "policy"}
    assert shown["max_drawdown_pct"] == shown["hodl_max_drawdown_pct"] == "16.53"
    assert shown["pnl_vs_hodl_pct"] == shown["return_pct"] == "+16.53"


def test_a_section_that_fails_leaves_the_others(context: Context) -> None:
    context.tables.store.write(decisions(), POLICY_DECISIONS, simulated=False)
    Path(context.tables.store.path(POLICY_DECISIONS)).write_bytes(b"")
    content = policies.layout({}, context)
    assert "cannot be read" in shown_text(section(content, "By regime"))
    assert len(body_rows(section(content, "Leaderboard"))) == len(MEANS) + 1


def test_rules_have_no_calibration_and_the_page_says_so(context: Context) -> None:
    assert views.calibration(decisions(log_probability=None)).empty
    context.tables.store.write(decisions(log_probability=None), POLICY_DECISIONS, simulated=False)
    shown = section(policies.layout({}, context), "Calibration")
    assert "nothing to calibrate" in shown_text(shown)
    assert not components(shown, "Chart")


def test_an_interval_of_a_share_is_wilsons() -> None:
    assert views._wilson(0.5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    assert views._wilson(0.0, 10)[0] == 0.0


def test_a_decision_counts_in_the_regime_it_lies_in() -> None:
    edges = [pd.Timestamp(day, tz="UTC") for day in ("2021-02-15", "2021-03-01", "2021-03-15")]
    windows = pd.DataFrame(
        [
            ("a", "BTC", "bull", edges[0], edges[1], 14, 1.0, False),
            ("b", "BTC", "dump", *edges[1:], 14, -1.0, False),
        ],
        columns=REGIME_WINDOWS.column_names,
    )
    own = decisions(count=28)
    spots = own[["decision_time", "underlying"]].assign(spot=10_000.0)
    table = views.regime_table(own, pd.concat([spots, spots]), windows).iloc[0]
    assert (table["bull"], table["bull steps"]) == (pytest.approx(1.0), 14)
    assert (table["dump"], table["dump steps"]) == (pytest.approx(-0.5), 14)


def test_without_an_evaluation_the_page_says_how_to_make_one(tmp_path: Path) -> None:
    assert "trader-pipeline run" in shown_text(policies.layout({}, context_of(tmp_path)))
