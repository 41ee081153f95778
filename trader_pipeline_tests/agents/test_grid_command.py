"""`trader-pipeline agents grid` as a user meets it: what it prints, and what it says of a slip."""

import json

import pytest
from click.testing import CliRunner

from trader_pipeline.agents.grid import run_task
from trader_pipeline.agents.grid_points import WINDOWS, GridParams, tasks_of
from trader_pipeline.agents.params import AgentParams, patient
from trader_pipeline.cli.agents_grid import grid
from trader_pipeline_tests.agents.grid_askers import CANDLES, kept_in

VALIDATION, TEST = "2024-01-02:2024-01-03", "2024-01-03T00:00:2024-01-04T06:00"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Candle files, and an endpoint in the environment at which nobody listens."""
    millis = CANDLES["open_time"].astype("datetime64[ms, UTC]").astype("int64")
    frame = CANDLES[["open", "high", "low", "close", "volume"]].assign(open_time=millis)
    (tmp_path / "candles").mkdir()
    frame.to_parquet(tmp_path / "candles" / "BTCUSDT_1h.parquet")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    return tmp_path


def call(folder, *arguments, **changes):
    given = {"klines": folder / "candles", "market": "BTC_1h", "models": "hosted", "out": folder / "grid"}
    given |= {"validation": VALIDATION, "test": TEST, "prompts": "neutral", "window-sizes": "4", **changes}
    options = [
        str(part) for name, value in given.items() if value is not None for part in (f"--{name}", value)
    ]
    return CliRunner().invoke(grid, [*options, *map(str, arguments)])


def keep_answers(folder):
    """Every answer that the grid will ask for, in the file where it looks for them."""
    given = {"prompts": ("neutral",), "models": ("hosted",), "window_sizes": (4,)}
    windows = {"validation": VALIDATION.split(":"), "test": (TEST[:16], TEST[17:])}
    params = GridParams(**given, **windows)
    for task in [task for name in WINDOWS for task in tasks_of(params, name, CANDLES)]:
        asker = kept_in(folder / "answers.sqlite", task.params, address="http://127.0.0.1:9/v1")
        run_task(
            task, klines=CANDLES, open_asker=lambda _, own=asker: own, out=folder / "before", market="BTC_1h",
            simulated=False,
        )  # fmt: skip


@pytest.mark.slow
def test_a_grid_whose_answers_are_kept_asks_nobody_and_tells_what_came_of_it(folder, monkeypatch):
    keep_answers(folder)
    done = call(folder, "--no-progress")
    assert done.exit_code == 0, done.output
    assert "1 agents, 24 decisions each on validation and 30 on test: 54 questions" in done.output
    assert "Best of 1 points by validation sharpe: neutral, hosted, 4 candles, 10000 USD" in done.output
    assert "Final value against that of holding:" in done.output
    report = json.loads((folder / "grid" / "report.json").read_text())
    assert (report["best"]["decisions"], report["test"]["decisions"]) == (24, 30)
    again = call(folder)
    assert again.exit_code == 2
    assert "holds this grid, finished" in again.output
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:10/v1")
    elsewhere = call(folder)
    assert elsewhere.exit_code == 2
    assert "it asked http://127.0.0.1:9/v1, not http://127.0.0.1:10/v1" in " ".join(elsewhere.output.split())


@pytest.mark.slow
def test_a_grid_that_reaches_nobody_says_so_and_can_be_tried_again(folder):
    refused = call(folder, "--no-progress", retries=0, test="2024-01-03:2024-01-04", price="hosted=1:2")
    assert "A test window of 24 candles tells no edge: 25 are needed" in refused.output
    assert "0.0000 USD paid now, 0.0000 in all" in refused.output
    assert refused.exit_code == 1
    assert isinstance(refused.exception, ValueError), "one line and status 1, by the group of all commands"
    assert "1 of 1 points failed on validation, first neutral, hosted" in str(refused.exception)
    assert "AskingError: no model answers at http://127.0.0.1:9/v1" in str(refused.exception)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"validation": "2024-01-02"}, "'2024-01-02' is no window; write START:END"),
        ({"validation": "2024-01-02:2024-01-03T06:00"}, "both with a time or neither"),
        ({"test": "2024-01-02:2024-01-04"}, "nothing would be held out; begin it there or later"),
        ({"prompts": "bulish"}, "'bulish' is none of bullish, bearish, neutral"),
        ({"prompts": "covered_call"}, "'covered_call' is none of"),
        ({"window-sizes": "4,many"}, "is no list of numbers; write them with commas"),
        ({"window-sizes": "4,4"}, "4 is given twice"),
        ({"balances": "0"}, "greater than 0"),
        ({"models": None}, "name the model of that endpoint"),
        ({"max-cost-usd": 1}, "--max-cost-usd needs the price of hosted: --price hosted=READ:WRITTEN"),
        ({"price": "1:2"}, "names no model; write MODEL=READ:WRITTEN"),
        ({"price": "hosted=free"}, "is no price"),
        ({"workers": 0}, "workers"),
    ],
)
def test_a_slip_is_refused_before_anything_is_asked(folder, changes, message):
    refused = call(folder, **changes)
    assert refused.exit_code == 2, refused.output
    assert message in " ".join(refused.output.split())
    assert not (folder / "grid").exists()


@pytest.mark.parametrize(
    ("timeout", "base_url", "seconds"),
    [
        (None, None, 60),
        (None, "http://127.0.0.1:1/v1", 600),
        (5.0, None, 5),
        (5.0, "http://127.0.0.1:1/v1", 5),
    ],
)
def test_a_model_that_is_served_here_is_waited_for_longer(timeout, base_url, seconds):
    params = AgentParams(**({} if timeout is None else {"timeout_seconds": timeout}))
    assert patient(params, base_url).timeout_seconds == seconds


def test_a_window_with_times_of_day_is_read(folder):
    refused = call(folder, test="2024-01-02T12:00:2024-01-04T00:00")
    assert "begins at 2024-01-02 12:00:00+00:00" in " ".join(refused.output.split())
