"""Worlds and a stretch of decisions, made once for all tests of the prover."""

import pytest

from trader_pipeline.leaks.pipeline import PRODUCTION
from trader_pipeline.leaks.simulated import simulated_worlds
from trader_pipeline.leaks.study import Stretch, make_stretch
from trader_pipeline.leaks.world import Settings, World


@pytest.fixture(scope="session")
def settings() -> Settings:
    return Settings()


@pytest.fixture(scope="session")
def worlds() -> list[World]:
    return simulated_worlds()


@pytest.fixture(scope="session")
def stretches(worlds: list[World], settings: Settings) -> list[Stretch]:
    return [make_stretch(PRODUCTION, worlds[0], settings=settings, seed=3)]
