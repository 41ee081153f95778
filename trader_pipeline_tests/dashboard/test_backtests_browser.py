"""The page Backtests in a browser: a press always starts what the form says, and the run is seen to go and to end."""

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from trader_pipeline.dashboard import backtest_jobs, backtest_run
from trader_pipeline.dashboard.backtest_jobs import BacktestJobs
from trader_pipeline_tests.dashboard.run_folder import tiny_profile, write_candles
from trader_pipeline_tests.dashboard.serving import served

_WAITS_FOR_GO = 'while [ ! -e "$0" ]; do sleep 0.05; done; exec "$@"'

pytestmark = pytest.mark.slow


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    write_candles(tmp_path)
    with served(tmp_path, tiny_profile()) as address:
        yield f"{address}/backtests"


@pytest.fixture
def processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[subprocess.Popen[bytes]]]:
    """The processes that were started; they wait for the file `go` before they begin."""
    started: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def held(command: list[str], **how: Any) -> subprocess.Popen[bytes]:
        started.append(popen(["sh", "-c", _WAITS_FOR_GO, str(tmp_path / "go"), *command], **how))
        return started[-1]

    monkeypatch.setattr(backtest_jobs.subprocess, "Popen", held)
    yield started
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
def tab(browser: Any) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    yield context.new_page()
    context.close()


def slow_down(monkeypatch: pytest.MonkeyPatch, where: object, name: str, seconds: float) -> None:
    """`name` of `where` takes so much longer from now on: a layout of the page, or a start."""
    real = getattr(where, name)
    monkeypatch.setattr(where, name, lambda *a: (time.sleep(seconds), real(*a))[1])


def run_of(tab: Any, root: Path) -> dict[str, Any]:
    """The settings of the run that the address names."""
    folder = root / "dashboard" / "backtests" / f".{tab.url.split('run=')[1]}"
    held: dict[str, Any] = json.loads((folder / "job.json").read_text())
    return held


@pytest.mark.parametrize(("layout_s", "start_s"), [(0.0, 0.0), (0.4, 0.0), (0.0, 0.8)])
@pytest.mark.parametrize("held_ms", [0, 30, 150, 700])
def test_a_press_right_after_typing_starts_what_was_typed(
    tab: Any, address: str, tmp_path: Path, processes: list[subprocess.Popen[bytes]],
    monkeypatch: pytest.MonkeyPatch, held_ms: int, layout_s: float, start_s: float,
) -> None:  # fmt: skip
    tab.goto(address)
    tab.wait_for_selector("#backtest-run")
    slow_down(monkeypatch, backtest_run, "show_running", layout_s)
    slow_down(monkeypatch, BacktestJobs, "start_or_say", start_s)
    tab.fill("#field-threshold", "5.25")
    tab.click("#backtest-run", delay=held_ms)
    tab.wait_for_selector("progress", timeout=20_000)
    tab.wait_for_url("**threshold=5.25&run=*")
    assert run_of(tab, tmp_path)["backtest"]["score_threshold"] == 5.25
    assert len(processes) == 1


@pytest.mark.parametrize("held_ms", [0, 150, 700])
def test_a_press_right_after_a_choice_starts_what_was_chosen(
    tab: Any, address: str, tmp_path: Path, processes: list[subprocess.Popen[bytes]],
    monkeypatch: pytest.MonkeyPatch, held_ms: int,
) -> None:  # fmt: skip
    tab.goto(address)
    tab.wait_for_selector("#backtest-run")
    slow_down(monkeypatch, backtest_run, "show_running", 0.4)
    tab.select_option("select[name=exit]", "tp_and_roll")
    tab.click("#backtest-run", delay=held_ms)
    tab.wait_for_selector("progress", timeout=20_000)
    assert run_of(tab, tmp_path)["exit_styles"] == ["tp_and_roll"]
    assert len(processes) == 1


def test_a_wrong_value_that_was_just_mended_is_run(
    tab: Any, address: str, tmp_path: Path, processes: list[subprocess.Popen[bytes]]
) -> None:
    tab.goto(f"{address}?threshold=11")
    tab.click("#backtest-run")
    tab.wait_for_selector("text=Mend what is marked above")
    tab.fill("#field-threshold", "6")
    tab.click("#backtest-run", delay=700)  # the button would move as the sentence above it goes
    tab.wait_for_selector("progress", timeout=20_000)
    assert run_of(tab, tmp_path)["backtest"]["score_threshold"] == 6
    assert len(processes) == 1


def test_a_second_press_while_one_runs_shows_what_runs(
    tab: Any, address: str, processes: list[subprocess.Popen[bytes]]
) -> None:
    tab.goto(address)
    tab.click("#backtest-run")
    tab.wait_for_selector("progress", timeout=20_000)
    tab.fill("#field-threshold", "5")
    tab.click("#backtest-run")
    tab.wait_for_selector("h2:text-is('Running now')")
    tab.wait_for_selector("text=another backtest can be started once it is done")
    assert len(processes) == 1
    processes[0].kill()
    tab.wait_for_selector("h2:text-is('Running now')", state="detached")


def test_a_folder_that_cannot_be_written_is_seen_and_can_be_tried_again(
    tab: Any, address: str, tmp_path: Path, processes: list[subprocess.Popen[bytes]]
) -> None:
    (tmp_path / "dashboard").write_text("a file where the folder should be")
    tab.goto(address)
    tab.click("#backtest-run")
    tab.wait_for_selector(".problem:has-text('Nothing was started')")
    (tmp_path / "dashboard").unlink()
    tab.click("#backtest-run")
    tab.wait_for_selector("progress", timeout=20_000)
    assert len(processes) == 1


def test_a_backtest_is_started_on_the_page_and_seen_to_finish(
    tab: Any, address: str, tmp_path: Path, processes: list[subprocess.Popen[bytes]], screenshots: Path
) -> None:
    from axe_playwright_python.sync_playwright import Axe

    heard = list[str]()
    tab.on("console", lambda message: heard.append(message.text))
    tab.on("pageerror", lambda error: heard.append(str(error)))
    tab.goto(address)
    tab.fill("#field-threshold", "5")
    tab.press("#field-threshold", "Enter")
    tab.wait_for_url("**threshold=5")
    tab.click("#backtest-run")
    tab.wait_for_selector("progress", timeout=60_000)
    (tmp_path / "go").touch()
    tab.wait_for_selector("h2:text-is('Recent Chains')", timeout=60_000)
    assert "run=" in tab.url
    tab.click("#exports-run")
    tab.wait_for_selector("text=training_candidates_BTC_", timeout=60_000)
    tab.click("#recent-steps ~ div td a >> nth=0")
    tab.wait_for_selector("h2:text-is('One step')")
    tab.wait_for_selector(".chart .main-svg")
    serious = [f for f in Axe().run(tab).response["violations"] if f["impact"] in ("serious", "critical")]
    tab.screenshot(path=screenshots / "backtest_finished_1280.png", full_page=True)
    assert len(processes) == 2
    assert not serious
    assert heard == []
