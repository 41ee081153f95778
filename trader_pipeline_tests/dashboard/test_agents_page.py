"""The page Agents: actions with their reasons on the candles, against HODL, faults by kind, and grids."""

from __future__ import annotations

import fcntl
import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from trader_pipeline.agents import grid, run_folder
from trader_pipeline.agents.asking import FAULTS, AgentReply
from trader_pipeline.agents.metrics import hodl_curve
from trader_pipeline.agents.params import AgentParams
from trader_pipeline.agents.run import run_agent
from trader_pipeline.dashboard import agent_views
from trader_pipeline.dashboard.agent_views import actions_figure, hodl_values, read_run
from trader_pipeline.dashboard.page import BadChoiceError, Context
from trader_pipeline.dashboard.pages import agents
from trader_pipeline.profile import Profile
from trader_pipeline_tests.agents.grid_askers import by_what_is_seen, grid_params, small_grid
from trader_pipeline_tests.agents.scripted import ScriptedAsker, hourly_candles, reply, whole
from trader_pipeline_tests.dashboard.conftest import context_of
from trader_pipeline_tests.dashboard.pages_data import MARKUP, words_of, write_agent_run
from trader_pipeline_tests.dashboard.reading import components

REPLIES = [
    reply("buy", 5_000.0, f"It rose. {MARKUP}", cost_usd=0.01),
    reply("hold", 0.0, "Wait."),
    AgentReply(fault="timeout", attempts=3),
    reply("sell", 1.0, "It fell."),
]


@pytest.fixture
def ran(tmp_path: Path, profile: Profile) -> Context:
    write_agent_run(tmp_path, REPLIES)
    return context_of(tmp_path, profile)


@pytest.fixture(scope="module")
def grid_root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("grid")
    params = grid_params(prompts=("bullish", "neutral"), window_sizes=(4, 8))
    small_grid(root / "agents" / "tried", open_asker=by_what_is_seen, params=params)
    return root


def first_run(context: Context):
    return read_run(context.data_root / "agents" / "first")


def test_file_names_are_those_that_runs_and_grids_write():
    ours = (agent_views.STATES, agent_views.DECISIONS, agent_views.SUMMARY)
    assert ours == (run_folder.STATES, run_folder.DECISIONS, run_folder.SUMMARY)
    assert (agent_views.SUMMARY, agent_views.GRID_REPORT) == (grid.SUMMARY, grid.REPORT)


def test_an_empty_folder_says_how_an_agent_is_run(empty_context):
    assert "trader-pipeline agents run" in words_of(agents.layout({}, empty_context))


def test_every_decision_is_on_the_candles_with_its_reason(ran):
    traces = {t.name: t for t in actions_figure(first_run(ran)).data}
    assert [len(traces[name].x) for name in ("buy", "sell", "no trade", "fault")] == [1, 1, 9, 1]
    assert "It fell." in traces["sell"].text[0]
    assert "no answer (timeout)" in traces["fault"].text[0]


def test_a_fill_stands_at_its_time_and_price(ran):
    run = first_run(ran)
    buy = next(t for t in actions_figure(run).data if t.name == "buy")
    assert buy.y[0] == run.states["SPOT_open"].iloc[1]
    assert buy.x[0] == "2024-01-01 01:00"


def test_markup_of_a_model_stays_text(ran):
    buy = next(t for t in actions_figure(first_run(ran)).data if t.name == "buy")
    assert "&lt;img" in buy.text[0]
    assert "<img" not in buy.text[0]
    cells = [c.children for c in components(agents.layout({}, ran), "Td")]
    assert any(MARKUP in str(c) for c in cells)
    assert not components(agents.layout({}, ran), "Markdown")


def test_the_benchmark_is_the_one_that_the_figures_rest_on(ran):
    klines = hourly_candles(12)
    made = run_agent(klines, params=AgentParams(), asker=ScriptedAsker(REPLIES), window=whole(klines))
    expected = hodl_curve(made)["net_balance"].tolist()
    assert hodl_values(first_run(ran)).tolist() == pytest.approx(expected, rel=1e-12)


def test_faults_of_all_kinds_are_counted_those_that_never_happened_too(ran):
    frame = agent_views.faults_frame(first_run(ran).summary)
    assert dict(zip(frame["fault"], frame["decisions"], strict=True)) == {
        kind.replace("_", " "): int(kind == "timeout") for kind in FAULTS
    }


def test_an_unknown_price_is_said_and_not_shown_as_nothing_paid(ran):
    assert "price not known" in words_of(agents.layout({}, ran))


def test_a_run_without_its_summary_is_not_finished(ran):
    (ran.data_root / "agents" / "first" / run_folder.SUMMARY).unlink()
    assert "not finished" in words_of(agents.layout({}, ran))


def test_a_name_that_leads_out_of_the_folder_is_refused(ran):
    with pytest.raises(BadChoiceError, match="choose one of first"):
        agents.layout({"name": "../first"}, ran)


def test_many_candles_are_joined_and_none_is_lost(tmp_path):
    times = pd.date_range("2024-01-01", periods=9000, freq="h", tz="UTC")
    prices = pd.Series(range(9000), dtype=float)
    states = pd.DataFrame(
        {"SPOT_open_time": times, **{f"SPOT_{n}": prices for n in ("open", "high", "low", "close")}}
    )
    bars = agent_views.candles_of(states)
    assert len(bars) <= 2_001
    assert (bars["low"].min(), bars["high"].max()) == (0.0, 8999.0)
    assert bars["close"].iloc[-1] == 8999.0


@pytest.mark.slow
def test_a_grid_shows_its_verdict_and_both_windows_of_every_point(grid_root, profile):
    layout = agents.layout({}, context_of(grid_root, profile))
    report = json.loads((grid_root / "agents" / "tried" / "report.json").read_text())
    assert report["test"]["minus_hodl"]["verdict"] in words_of(layout)
    table = components(layout, "Table")[-1]
    assert len(table.children[2].children) == 4
    links = [a.href for a in components(table, "Link")]
    assert "/agents?name=tried&point=0&window=test#content" in links
    best = pd.read_csv(grid_root / "agents" / "tried" / "grid.csv").iloc[0]
    assert f"{100 * best['test_accumulated_return']:+.2f}" in words_of(table.children[2].children[0])


@pytest.mark.slow
def test_a_point_of_a_grid_is_shown_as_a_run(grid_root, profile):
    context = context_of(grid_root, profile)
    words = words_of(agents.layout({"point": "1", "window": "test"}, context))
    assert "Point 1 over the window" in words
    assert "Value of the book" in words


@pytest.mark.slow
def test_a_point_that_the_grid_has_not_is_refused(grid_root, profile):
    with pytest.raises(BadChoiceError, match="point 99"):
        agents.layout({"point": "99"}, context_of(grid_root, profile))


@pytest.mark.slow
def test_a_grid_is_sorted_as_the_url_says(grid_root, profile):
    def points(sort: str) -> list[str]:
        table = components(agents.layout({"sort": sort}, context_of(grid_root, profile)), "Table")[-1]
        return [words_of(row.children[0]) for row in table.children[2].children]

    assert points("point") == ["0", "1", "2", "3"]
    assert points("-point") == ["3", "2", "1", "0"]


def test_a_grid_under_way_tells_how_far_it_is(tmp_path, profile):
    folder = tmp_path / "agents" / "begun"
    (folder / "runs" / "a").mkdir(parents=True)
    (folder / "runs" / "a" / "run.json").write_text("{}")
    (folder / "grid.json").write_text(json.dumps({"validation runs": ["a", "b"], "test runs": ["c", "d"]}))
    assert "1 of 4 runs" in words_of(agents.layout({}, context_of(tmp_path, profile)))


def test_a_grid_that_is_held_is_being_worked_on(tmp_path, profile):
    folder = tmp_path / "agents" / "begun"
    folder.mkdir(parents=True)
    (folder / "grid.json").write_text(json.dumps({"validation runs": ["a"], "test runs": ["b"]}))
    context = context_of(tmp_path, profile)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "being worked on: 0 of 2 runs" in words_of(agents.layout({}, context))
    shown = words_of(agents.layout({}, context))
    assert "Nobody works on it" in shown
    assert "--help" not in shown


def test_finished_runs_of_a_grid_under_way_lead_to_themselves(ran):
    folder = ran.data_root / "agents" / "begun"
    (folder / "runs").mkdir(parents=True)
    (ran.data_root / "agents" / "first").rename(folder / "runs" / "a")
    (folder / "grid.json").write_text(json.dumps({"validation runs": ["b", "a"], "test runs": ["c", "d"]}))
    links = [a.href for a in components(agents.layout({}, ran), "Link")]
    assert "/agents?name=begun&point=1&window=validation#content" in links
    assert "Value of the book" in words_of(agents.layout({"point": "1", "window": "validation"}, ran))


def test_all_runs_stand_side_by_side_and_a_finished_one_is_shown(ran):
    (ran.data_root / "agents" / "a grid").mkdir()
    (ran.data_root / "agents" / "a grid" / "grid.json").write_text(
        '{"validation runs": ["a"], "test runs": ["b"]}'
    )
    layout = agents.layout({}, ran)
    rows = [[words_of(cell) for cell in row.children] for row in components(layout, "Tbody")[0].children]
    metrics = first_run(ran).summary["metrics"]
    assert [row[0] for row in rows] == ["a grid", "first"]
    assert rows[0][7] == "grid, stopped: 0 of 2 runs"
    assert rows[1][1:3] == [f"{100 * metrics[name]:+.2f}" for name in ("accumulated_return", "excess_return")]
    assert rows[1][7] == "finished"
    assert "Every decision" in words_of(layout)


def test_a_damaged_summary_leaves_the_other_runs_standing(ran):
    shutil.copytree(ran.data_root / "agents" / "first", ran.data_root / "agents" / "second")
    (ran.data_root / "agents" / "first" / "run.json").write_text("{}")
    assert "Every decision" in words_of(agents.layout({"name": "second"}, ran))


@pytest.mark.parametrize("simulated", [True, False])
def test_a_run_names_its_candles(tmp_path, profile, simulated):
    write_agent_run(tmp_path, REPLIES, simulated=simulated)
    context = context_of(tmp_path, profile)
    own = first_run(context).summary
    kind = "simulated" if simulated else "real"
    expected = f"On {kind} candles of BTC_1h; SHA-256 of those of the window {own['candles_sha256'][:16]}"
    assert expected in words_of(agents.layout({}, context))


def test_a_yearly_figure_of_a_few_hours_warns(ran):
    assert "of 0.5 days it means little" in words_of(agents.layout({}, ran))


@pytest.mark.parametrize("simulated", [True, False])
def test_a_grid_names_simulated_candles(grid_root, tmp_path, profile, simulated):
    root = Path(shutil.copytree(grid_root, tmp_path / "grid"))
    report = root / "agents" / "tried" / grid.REPORT
    report.write_text(json.dumps(json.loads(report.read_text()) | {"simulated": simulated}))
    assert ("SIMULATED CANDLES" in words_of(agents.layout({}, context_of(root, profile)))) is simulated
