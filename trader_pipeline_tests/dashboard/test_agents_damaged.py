"""The page Agents over folders that are old, damaged, or on simulated candles beside real ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from trader_pipeline.dashboard.agent_grid import grid_table
from trader_pipeline.dashboard.agent_overview import DAMAGED
from trader_pipeline.dashboard.page import Context
from trader_pipeline.dashboard.pages import agents
from trader_pipeline.profile import Profile
from trader_pipeline_tests.agents.scripted import reply
from trader_pipeline_tests.dashboard.conftest import context_of
from trader_pipeline_tests.dashboard.pages_data import words_of, write_agent_run
from trader_pipeline_tests.dashboard.reading import body_rows, components

KEYS = {"validation runs": ["a"], "test runs": ["b"]}


@pytest.fixture
def two(tmp_path: Path, profile: Profile) -> Context:
    """A run on real candles, one on simulated ones, and a finished grid whose table and runs are gone."""
    write_agent_run(tmp_path, [reply("buy", 5_000.0)], name="real one", simulated=False)
    write_agent_run(tmp_path, [reply("buy", 5_000.0)], name="other", simulated=True)
    grid = tmp_path / "agents" / "grid"
    grid.mkdir()
    (grid / "grid.json").write_text(json.dumps(KEYS))
    (grid / "report.json").write_text("{}")
    return context_of(tmp_path, profile)


def overview(layout: Any) -> dict[str, dict[str, str]]:
    """The rows of the first table by their name and head."""
    table = components(layout, "Table")[0]
    heads = [words_of(head) for head in components(table, "Th")]
    rows = [[words_of(cell) for cell in row.children] for row in body_rows(table)]
    return {row[0]: dict(zip(heads, row, strict=True)) for row in rows}


def banners(layout: Any) -> list[str]:
    return [words_of(d) for d in components(layout, "Div") if getattr(d, "className", "") == "banner"]


def problems(layout: Any) -> list[str]:
    return [words_of(d) for d in components(layout, "Div") if getattr(d, "className", "") == "problem"]


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("other/run.json", "{}"), ("other/run.json", "[]"), ("other/run.json", '{"metrics": null}'),
        ("other/run.json", "{"), ("grid/grid.json", "{"), ("grid/grid.json", "{}"), ("grid/grid.json", "null"),
        ("grid/report.json", "null"), ("grid/report.json", "{"), ("grid/report.json", '{"best": {"point": 9}}'),
    ],
)  # fmt: skip
def test_a_damaged_folder_is_named_and_all_others_stand(two: Context, file: str, text: str) -> None:
    name = file.split("/")[0]
    (two.data_root / "agents" / file).write_text(text)
    layout = agents.layout({"name": "real one"}, two)
    assert DAMAGED in overview(layout)[name]["state"]
    assert overview(layout)["real one"]["state"] == "finished"
    assert "Every decision" in words_of(layout)
    damaged = agents.layout({"name": name}, two)
    assert problems(damaged)
    assert str(two.data_root / "agents" / name) in words_of(damaged)
    assert "real one" in overview(damaged)
    assert "Run or grid" in words_of(damaged)


def test_a_run_whose_states_are_empty_leaves_the_choice(two: Context) -> None:
    (two.data_root / "agents" / "other" / "states.csv").write_text("")
    layout = agents.layout({"name": "other"}, two)
    assert len(problems(layout)) == 1
    assert set(overview(layout)) == {"grid", "other", "real one"}


def test_a_link_that_leads_nowhere_counts_for_nothing(two: Context) -> None:
    (two.data_root / "agents" / "real one" / "x").symlink_to("/nowhere/at/all")
    (two.data_root / "agents" / "other" / "run.json").unlink()
    (two.data_root / "agents" / "other" / "x").symlink_to("/nowhere/at/all")
    assert "last written 2" in overview(agents.layout({"name": "real one"}, two))["other"]["state"]


def test_a_run_from_before_candles_were_hashed_is_shown_without_the_hash(two: Context) -> None:
    summary = two.data_root / "agents" / "real one" / "run.json"
    known = json.loads(summary.read_text())
    del known["candles_sha256"]
    summary.write_text(json.dumps(known))
    words = words_of(agents.layout({"name": "real one"}, two))
    assert "On real candles of BTC_1h." in words
    assert "SHA-256" not in words


def test_simulated_runs_are_told_from_real_ones_whichever_is_chosen(two: Context) -> None:
    real, simulated = (agents.layout({"name": name}, two) for name in ("real one", "other"))
    for layout in (real, simulated):
        assert [overview(layout)[n]["candles"] for n in ("real one", "other")] == ["real", "simulated"]
    assert banners(real) == []
    assert len(banners(simulated)) == 1
    assert banners(simulated)[0].startswith("SIMULATED CANDLES")
    assert "of this run" in banners(simulated)[0]


@pytest.mark.parametrize(("inside", "expected"), [("real one", 0), ("other", 1)])
def test_an_unfinished_grid_names_simulated_candles(two: Context, inside: str, expected: int) -> None:
    folder = two.data_root / "agents"
    (folder / "grid" / "report.json").unlink()
    (folder / "grid" / "runs").mkdir()
    (folder / inside).rename(folder / "grid" / "runs" / "a")
    layout = agents.layout({"name": "grid"}, two)
    assert "1 of 2 runs" in words_of(layout)
    assert len(banners(layout)) == expected


def test_falls_are_sizes_as_on_the_other_pages(two: Context) -> None:
    known = json.loads((two.data_root / "agents" / "other" / "run.json").read_text())["metrics"]
    assert known["max_drawdown"] < 0
    shown = overview(agents.layout({"name": "other"}, two))["other"]["drawdown\u00a0%"]
    assert shown == f"{-100 * known['max_drawdown']:.2f}"


def test_falls_in_a_grid_s_table_are_sizes_and_sort_as_such() -> None:
    names = ("sharpe", "excess_return", "accumulated_return", "max_drawdown", "trades", "faults", "cost_usd")
    figures = {f"{window}_{name}": [0.0, 0.0] for window in ("validation", "test") for name in names}
    settings = {"prompt": ["a", "b"], "model": "m", "window_size": 4, "initial_balance": 1.0}
    table = pd.DataFrame({"point": [0, 1], **figures, **settings}).assign(test_max_drawdown=[-0.01, -0.05])
    rows = body_rows(grid_table({"sort": "-test_max_drawdown"}, table, "/agents"))
    assert [words_of(row.children[0]) for row in rows] == ["1", "0"]
    assert "5.00" in [words_of(cell) for cell in rows[0].children]
