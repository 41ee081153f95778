"""The table of slices and the vectorised paths say what the formulas say, moment by moment."""

import numpy as np
import pytest

from trader_pipeline.backtest import BacktestParams, prepare_market
from trader_pipeline.backtest.kernels import make_scratch
from trader_pipeline.backtest.legs import World
from trader_pipeline.options.parallel import run_parts
from trader_pipeline.options.slices import Call, mark_path, slice_known
from trader_pipeline.options.surface_kernels import mark_on, slice_at
from trader_pipeline_tests.options.markets import random_candles, without

FRAME = without(random_candles(3, "2024-01-01", 24 * 80), "2024-02-20 03:00", "2024-02-20 09:00")


@pytest.fixture(scope="module")
def world() -> World:
    settings = [BacktestParams(min_dte_days=0.0, max_dte_days=20.0)]
    prepared = prepare_market(klines=FRAME, market="BTC_1h", start="2024-02-05", settings=settings)
    return World(prepared.candles, prepared.shelf(1.0))


def test_table_holds_the_slice_of_every_expiry_at_every_close_while_it_may_be_open(world: World) -> None:
    candles, shelf = world.candles, world.shelf
    slices, ends = shelf.slices, shelf.expiries.time
    rows = 0
    for e in range(0, len(ends), 5):
        for h in range(slices.first[e], slices.last[e], 7):
            close = candles.close_time[h]
            assert max(0, ends[e] - 20 * 86_400) <= close < ends[e]
            known = slice_known(
                e, h, close, candles.level[h], candles.close_time, ends, shelf.surface, slices
            )
            assert known == slice_at(candles.level[h], close, ends[e], shelf.surface)
            row = slices.start[e] + h
            assert slices.forward[row] == pytest.approx(np.exp(slices.log_forward[row]), rel=1e-13)
            rows += 1
    assert rows > 100


@pytest.mark.parametrize(("iv_ratio", "basis"), [(1.0, np.nan), (0.8, np.nan), (1.3, 0.05)])
def test_path_of_a_call_is_its_mark_at_each_close(world: World, iv_ratio: float, basis: float) -> None:
    candles, shelf, path = world.candles, world.shelf, make_scratch(world, 0).path
    slices, ends = shelf.slices, shelf.expiries.time
    e = int(np.argmax(slices.last - slices.first))
    since = int(slices.first[e]) + 3
    for moneyness in (0.7, 1.0, 1.4):
        strike = float(candles.close[since] * moneyness)
        count = mark_path(Call(e, strike, iv_ratio, np.nan, basis), since, candles, ends, slices, path)
        assert count == slices.last[e] - since
        for i in range(0, count, 11):
            h = since + i
            part = slice_at(candles.level[h], candles.close_time[h], ends[e], shelf.surface)
            mark = mark_on(part, candles.close[h], strike, iv_ratio, basis)[0]
            assert path.marks[i] == pytest.approx(mark, rel=1e-12, abs=1e-15)


def test_parts_cover_a_range_once_on_any_number_of_threads() -> None:
    for count, threads in ((0, 1), (1, 2), (5, 3), (1000, 1), (1000, 2)):
        seen = np.zeros(count, dtype=int)

        def work(begin: int, end: int, seen: np.ndarray = seen) -> None:
            seen[begin:end] += 1

        shares: list[float] = []
        run_parts(work, np.arange(count), threads=threads, on_progress=shares.append)
        assert (seen == 1).all()
        assert shares == sorted(shares)
        assert shares[-1] == 1.0
    with pytest.raises(ValueError, match="a whole number, 1 or more"):
        run_parts(lambda a, b: None, np.ones(3), threads=0)
