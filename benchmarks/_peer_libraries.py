"""The job of `_peer_job` in each library that ours is measured beside, in the form that suits the library best.

Belongs here: one class a library. Making one does all that is not timed: frames, feeds, lists of orders. `run` does one
setting and `sweep` several; both give the coins at the end, which have to be the same everywhere. Every library also
finds the deepest fall of the book, but for optopsy, which keeps no book. A library is imported when its class is made.
"""

from __future__ import annotations

import pkgutil
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd

from benchmarks._peer_job import Job

UNITS = 1_000_000
"""backtesting.py trades whole units only: it is given millionths of a coin and of a call."""


class Peer:
    """One library with the given settings of the job laid out for it."""

    package: str
    module: str
    note: str
    quick = False
    """Whether all settings of a sweep are timed, in more rounds; else a few stand for all."""
    share = 1.0
    """How much of a run is run; times are divided by it."""

    def __init__(self, job: Job, settings: Sequence[int]) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.prepare(job, settings)
        self.name = f"{self.package} {version(self.package)}"

    def prepare(self, job: Job, settings: Sequence[int]) -> None:
        raise NotImplementedError

    def run(self, setting: int) -> float:
        raise NotImplementedError

    def sweep(self, settings: Sequence[int]) -> list[float]:
        return [self.run(s) for s in settings]

    def expected(self, job: Job, setting: int) -> float:
        """The coins that a run of the setting has to end with."""
        return float(job.coins[setting])


class Vectorbt(Peer):
    package = module = "vectorbt"
    quick = True
    note = "all settings as columns of one frame; engine `auto`, which is Rust where that is installed"

    def prepare(self, job: Job, settings: Sequence[int]) -> None:
        self.library = _import_vectorbt()
        # With a time zone it would turn the index into objects, time and again.
        index = job.close_time.tz_localize(None)
        self.price = pd.DataFrame(job.price, index=index)
        self.size = pd.DataFrame(np.where(job.calls == 0, np.nan, job.calls), index=index)
        self.single = {s: (self.price[s].copy(), self.size[s].copy()) for s in settings}

    def _coins(self, price: Any, size: Any) -> Any:
        """The values and numpy: its own two figures of them take it twice as long."""
        book = self.library.Portfolio.from_orders(price, size=size, init_cash=1.0, freq="1h")
        value = book.value().to_numpy()
        (value / np.maximum.accumulate(value, axis=0)).min(axis=0)
        return value[-1]

    def run(self, setting: int) -> float:
        return float(self._coins(*self.single[setting]))

    def sweep(self, settings: Sequence[int]) -> list[float]:
        """All of the job's settings, whichever are asked for."""
        return self._coins(self.price, self.size)[list(settings)].tolist()


def _import_vectorbt() -> Any:
    """Without its themes for plots: the locked plotly refuses kinds of maps that they name."""
    get_data = pkgutil.get_data

    def without_themes(package: str, resource: str) -> bytes | None:
        return b"{}" if resource.startswith("templates/") else get_data(package, resource)

    with mock.patch("pkgutil.get_data", without_themes):
        import vectorbt
    return vectorbt


class BacktestingPy(Peer):
    package = module = "backtesting"
    note = "one strategy whose `next` looks up its order; bought and sold at closes"

    def prepare(self, job: Job, settings: Sequence[int]) -> None:
        from backtesting import Backtest, Strategy

        class Weekly(Strategy):
            orders: Sequence[int] = ()

            def init(self) -> None:
                self.at = 0  # `next` is first called on the second candle

            def next(self) -> None:
                self.at += 1
                order = self.orders[self.at]
                if order > 0:
                    self.buy(size=order)
                elif order < 0:
                    self.position.close()

        def book(setting: int) -> Backtest:
            columns = dict.fromkeys(("Open", "High", "Low", "Close"), job.price[:, setting])
            orders = np.rint(job.calls[:, setting] * UNITS).astype(int).tolist()
            strategy = type("Weekly", (Weekly,), {"orders": orders})
            frame = pd.DataFrame(columns, index=job.close_time)
            return Backtest(frame, strategy, cash=UNITS, trade_on_close=True, finalize_trades=True)

        self.books = {s: book(s) for s in settings}

    def run(self, setting: int) -> float:
        with warnings.catch_warnings(), mock.patch("backtesting.backtesting._tqdm", _no_bar):
            warnings.simplefilter("ignore")
            return float(self.books[setting].run()["Equity Final [$]"]) / UNITS


def _no_bar(rows: Any, **_: Any) -> Any:
    return rows


class Backtrader(Peer):
    package = module = "backtrader"
    note = (
        "preloads its feed within the run, there is no other place; no observers, orders filled at the close"
    )

    def prepare(self, job: Job, settings: Sequence[int]) -> None:
        import backtrader

        class Weekly(backtrader.Strategy):
            params = (("orders", ()),)

            def __init__(self) -> None:
                self.at = -1

            def next(self) -> None:
                self.at += 1
                order = self.p.orders[self.at]
                if order > 0:
                    self.buy(size=order)
                elif order < 0:
                    self.sell(size=-order)

        self.library, self.strategy = backtrader, Weekly
        self.given = {}
        for s in settings:
            columns = dict.fromkeys(("open", "high", "low", "close"), job.price[:, s])
            self.given[s] = (pd.DataFrame(columns, index=job.close_time), job.calls[:, s].tolist())

    def run(self, setting: int) -> float:
        frame, orders = self.given[setting]
        cerebro = self.library.Cerebro(stdstats=False)
        cerebro.adddata(self.library.feeds.PandasData(dataname=frame, volume=None, openinterest=None))
        cerebro.addstrategy(self.strategy, orders=orders)
        cerebro.addanalyzer(self.library.analyzers.DrawDown)
        cerebro.broker.setcash(1.0)
        cerebro.broker.set_coc(True)
        cerebro.run()
        return float(cerebro.broker.getvalue())


class FractalDefi(Peer):
    package = "fractal-defi"
    module = "fractal"
    note = (
        "its spot exchange without fees; observations lie ready; its slower table of results is passed over"
    )

    def prepare(self, job: Job, settings: Sequence[int]) -> None:
        from fractal.core.base import Action, ActionToTake, BaseStrategy, NamedEntity, Observation
        from fractal.core.entities.simple.spot import SimpleSpotExchange, SimpleSpotExchangeGlobalState

        class Weekly(BaseStrategy):
            orders: Sequence[float] = ()

            def set_up(self) -> None:
                self.book = SimpleSpotExchange(trading_fee=0.0)
                self.book.action_deposit(1.0)
                self.register_entity(NamedEntity("BOOK", self.book))
                self.at = -1

            def predict(self) -> list[ActionToTake]:
                self.at += 1
                order = self.orders[self.at]
                if order == 0:
                    return []
                if order > 0:
                    buy = Action("buy", {"amount_in_notional": order * self.book.current_price})
                    return [ActionToTake("BOOK", buy)]
                return [
                    ActionToTake(
                        "BOOK", Action("sell", {"amount_in_product": self.book.internal_state.amount})
                    )
                ]

        self.given = {}
        times = job.close_time.to_pydatetime()
        for s in settings:
            states = (SimpleSpotExchangeGlobalState(p, p, p, p) for p in job.price[:, s].tolist())
            observations = [Observation(t, {"BOOK": state}) for t, state in zip(times, states, strict=True)]
            strategy = type("Weekly", (Weekly,), {"orders": job.calls[:, s].tolist()})
            self.given[s] = (strategy, observations)

    def run(self, setting: int) -> float:
        strategy, observations = self.given[setting]
        value = np.array([balance["BOOK"] for balance in strategy().run(observations).balances])
        (value / np.maximum.accumulate(value)).min()
        return float(value[-1])


class Optopsy(Peer):
    package = module = "optopsy"
    quick = True
    note = "two quotes a call and no book: neither hourly marks nor a fall; a smaller job"

    def prepare(self, job: Job, settings: Sequence[int]) -> None:
        import optopsy

        self.library = optopsy
        self.chains = {s: self._chain(job.trades[s]) for s in settings}
        self.every_call = pd.concat(self.chains.values()).drop_duplicates(ignore_index=True)

    def _chain(self, legs: pd.DataFrame) -> pd.DataFrame:
        call = pd.DataFrame(
            {
                "underlying_symbol": "BTC",
                "option_type": "call",
                "expiration": legs["expiry"],
                "strike": legs["strike"],
            }
        )
        quotes = (("entry_time", "entry_spot", "premium_coin"), ("exit_time", "exit_spot", "exit_cost_coin"))
        rows = [
            call.assign(quote_date=legs[time], underlying_price=legs[spot], bid=legs[price], ask=legs[price])
            for time, spot, price in quotes
        ]
        chain = pd.concat(rows, ignore_index=True)
        for column in ("expiration", "quote_date"):
            chain[column] = chain[column].dt.tz_localize(None).dt.normalize()
        return chain

    def run(self, setting: int) -> float:
        """Coins, each week by itself: what a call brings is not carried over."""
        trades = self.library.short_calls(
            self.chains[setting], max_entry_dte=15, max_otm_pct=1.0, min_bid_ask=1e-9, raw=True
        )
        return 1.0 + float((trades["entry"] - trades["exit"]).sum())

    def averages(self) -> pd.DataFrame:
        """All calls at once: averages by distance and days, no setting's figure."""
        return self.library.short_calls(
            self.every_call, max_entry_dte=15, max_otm_pct=1.0, min_bid_ask=1e-9, otm_pct_interval=0.01
        )

    def expected(self, job: Job, setting: int) -> float:
        return uncompounded_coins(job.trades[setting])


def uncompounded_coins(legs: pd.DataFrame) -> float:
    """One coin and what each call brings to a whole one, added up."""
    return 1.0 + float((legs["premium_coin"] - legs["exit_cost_coin"]).sum())


PEERS: tuple[type[Peer], ...] = (Vectorbt, Optopsy, BacktestingPy, FractalDefi, Backtrader)
