"""A small data folder, the dashboard over it, and one browser for all tests that need one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest

from trader_pipeline.agents.asking import AgentReply
from trader_pipeline.dashboard.page import Context
from trader_pipeline.dashboard.tables import Tables
from trader_pipeline.defs.resources import PipelineResource
from trader_pipeline.defs.run import run_all
from trader_pipeline.klines import SampleParams, simulate_klines
from trader_pipeline.klines.gaps import build_kline_gaps
from trader_pipeline.profile import Profile
from trader_pipeline.schema import Market
from trader_pipeline.schema.tables import KLINE_GAPS, KLINES, REGIME_WINDOWS, WINDOW_KLINES
from trader_pipeline.settings import load_profile
from trader_pipeline.store import TableStore
from trader_pipeline_tests.agents.scripted import reply
from trader_pipeline_tests.dashboard.pages_data import write_agent_run
from trader_pipeline_tests.dashboard.serving import served
from trader_pipeline_tests.defs.conftest import OVERRIDES

MARKET = ("BTC_1h",)
REGIME = "bull_20210301_20210430"


@pytest.fixture(scope="session")
def profile() -> Profile:
    return load_profile("tiny")


@pytest.fixture(scope="session")
def small_run(tmp_path_factory: pytest.TempPathFactory, profile: Profile) -> Path:
    """A year of simulated candles with a gap, two windows, and the candles of one."""
    root = tmp_path_factory.mktemp("dashboard") / "tiny"
    store = TableStore(str(root))
    klines = (
        simulate_klines(SampleParams(years=1))["BTC"].drop(index=range(3000, 3012)).reset_index(drop=True)
    )
    settings = {"settings/klines": profile.section_hash("klines")}
    made = store.write(klines, KLINES, partition=MARKET, parents=settings, simulated=True)
    gaps = build_kline_gaps(klines, Market.parse(MARKET[0]), profile.klines)
    store.write(gaps, KLINE_GAPS, partition=MARKET, simulated=True)
    store.write(_windows(), REGIME_WINDOWS, simulated=True)
    parents = {"klines/BTC_1h": made.content_hash, "settings/windows": profile.section_hash("windows")}
    part = klines.iloc[:4000].assign(volatility_index=float("nan"))
    store.write(part, WINDOW_KLINES, partition=(*MARKET, REGIME), parents=parents, simulated=True)
    return root


def _windows() -> pd.DataFrame:
    days = [pd.Timestamp(day, tz="UTC") for day in ("2021-03-01", "2021-05-01", "2021-08-01")]
    rows = [(REGIME, "bull", days[0], days[1]), ("dump_20210501_20210731", "dump", days[1], days[2])]
    frame = pd.DataFrame(rows, columns=["regime", "label", "start", "end"])
    return frame.assign(
        underlying="BTC", days=(frame["end"] - frame["start"]).dt.days, return_pct=1.0, provisional=False
    )


def context_of(root: Path, profile: Profile) -> Context:
    return Context(tables=Tables(TableStore(str(root))), profile=profile, data_root=root)


@pytest.fixture
def context(small_run: Path, profile: Profile) -> Context:
    return context_of(small_run, profile)


@pytest.fixture
def empty_context(tmp_path: Path, profile: Profile) -> Context:
    return context_of(tmp_path / "nothing", profile)


@pytest.fixture(scope="session")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of a finished run, from simulated candles to the report, and of an agent beside it."""
    if named := os.environ.get("TRADER_PIPELINE_DASHBOARD_DATA"):
        return Path(named)
    root = tmp_path_factory.mktemp("whole") / "tiny"
    pipeline = PipelineResource(
        profile_name="tiny", data_root=str(root), overrides=[*OVERRIDES, "markets=[BTC_1h]"]
    )
    with pytest.MonkeyPatch.context() as patch, dg.DagsterInstance.ephemeral() as instance:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root / 'mlflow' / 'mlflow.db'}")
        patch.delenv("TRAINING_DATA_DIR", raising=False)
        run_all(pipeline, instance)
    replies = [
        reply("buy", 6_000.0, "It rises."), reply("hold", 0.0, "Wait."), AgentReply(fault="timeout", attempts=3),
        reply("sell", 0.05, "It fell."),
    ]  # fmt: skip
    write_agent_run(root, replies)
    return root


@pytest.fixture(scope="session")
def dashboard_address(whole_run: Path, profile: Profile) -> Iterator[str]:
    """A running dashboard over a whole run: TRADER_PIPELINE_DASHBOARD_DATA names its folder, else one is made."""
    with served(whole_run, profile) as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium: the system's where there is one, else playwright's own."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where screenshots are kept: the folder named by TRADER_PIPELINE_SCREENSHOTS, or a temporary one."""
    named = os.environ.get("TRADER_PIPELINE_SCREENSHOTS")
    folder = Path(named) if named else tmp_path_factory.mktemp("screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder
