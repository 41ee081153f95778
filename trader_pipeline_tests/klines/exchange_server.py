"""An exchange on this machine: real HTTP in the wire formats of Binance and Bitstamp, with faults on demand.

Binance: `/api/v3/exchangeInfo`, `/api/v3/klines`, `/api/v3/time`, `/api/v3/ping`. Bitstamp, which answers in windows of
`start` to `end`: `/api/v2/markets/`, `/api/v2/ohlc/btcusdt/`. Both serve the last, unfinished candle too.
"""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pandas as pd

from trader_pipeline.klines import SampleParams, simulate_klines

BINANCE_STEPS = {"5m": 300_000, "1h": 3_600_000, "4h": 14_400_000, "1d": 86_400_000}
PAGE_FAULTS = ("duplicate", "unordered", "bad_row", "empty", "stale", "misshapen")
"""Faults of a page's content: they wait for a request of candles. All others befall whatever is asked next."""
HTTP_FAULTS = ("429", "429_later", "418", "500", "503", "503_html", "drop", "late", "html", "down")
FAULTS = (*PAGE_FAULTS, *HTTP_FAULTS)
REFUSALS = ("451", "403_html", "banned")


@dataclass
class Request:
    """A request as it came, and the fault it met (or "")."""

    path: str
    query: dict[str, str]
    fault: str = ""


@dataclass
class ExchangeServer:
    """Serves `candles` (frames of KLINES by Binance's symbol); `clock` is the exchange's own time.

    `faults` are met by successive requests, one each; an empty string is a request that meets none. `forever` is met
    by every request of candles from then on. Use it as a context manager.
    """

    candles: Mapping[str, pd.DataFrame]
    clock: pd.Timestamp
    interval: str = "1h"
    faults: deque[str] = field(default_factory=deque)
    forever: str = ""
    late_seconds: float = 0.8
    pause_seconds: float = 0.0
    requests: list[Request] = field(default_factory=list)

    def __enter__(self) -> ExchangeServer:
        self.closing = threading.Event()
        self.lock = threading.Lock()
        self.server = _Server(("127.0.0.1", 0), _Handler, self)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(
            target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        ).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self.server.shutdown()
        self.server.server_close()

    def asked(self, ending: str) -> list[Request]:
        """The requests whose path ends so: `klines`, `exchangeInfo`, `time`."""
        with self.lock:
            return [r for r in self.requests if r.path.rstrip("/").endswith(ending)]

    def asked_times(self) -> list[pd.Timestamp]:
        """`startTime` of each request of Binance candles."""
        return [pd.Timestamp(int(r.query["startTime"]), unit="ms", tz="UTC") for r in self.asked("klines")]

    def record(self, path: str, query: dict[str, str]) -> str:
        """Note a request and say which fault it meets."""
        is_page = "klines" in path or "ohlc" in path
        with self.lock:
            fault = self.forever if is_page else ""
            if not fault and self.faults and (is_page or self.faults[0] not in PAGE_FAULTS):
                fault = self.faults.popleft()
            self.requests.append(Request(path, query, fault))
        return fault

    def rows(self, symbol: str) -> list[tuple[int, dict[str, Any]]]:
        """Candles that have begun by the clock, as (open time in ms, row); the unfinished one as far as it is."""
        frame = self.candles[symbol]
        begun = frame[frame["open_time"] <= self.clock]
        records = begun.to_dict("records")
        if records and records[-1]["close_time"] > self.clock:
            row = records[-1]
            row |= dict.fromkeys(("high", "low", "close"), row["open"]) | {"volume": row["volume"] / 2}
        return list(zip((begun["open_time"].astype("int64") // 1000).tolist(), records, strict=True))

    def binance_page(self, query: Mapping[str, str]) -> list[list[Any]]:
        step, limit = BINANCE_STEPS[query["interval"]], min(int(query.get("limit", 500)), 1000)
        first, last = int(query.get("startTime", 0)), int(query.get("endTime", 1 << 60))
        rows = [(t, r) for t, r in self.rows(query["symbol"]) if first <= t <= last]
        return [
            _binance_row(t, r, step) for t, r in (rows[:limit] if "startTime" in query else rows[-limit:])
        ]

    def bitstamp_page(self, query: Mapping[str, str]) -> dict[str, Any]:
        first, last = int(query["start"]), int(query["end"])
        rows = [(t // 1000, r) for t, r in self.rows("BTCUSDT") if first <= t // 1000 <= last]
        names = ("open", "high", "low", "close", "volume")
        listed = [{"timestamp": str(t), **{n: repr(r[n]) for n in names}} for t, r in rows]
        return {"data": {"pair": "BTC/USDT", "ohlc": listed[: int(query["limit"])]}}


def simulated_candles(rows: int, *, missing: Iterable[int] = ()) -> pd.DataFrame:
    """Simulated hourly BTC candles from 2021-01-01, without those numbered in `missing`."""
    candles = simulate_klines(SampleParams(years=(rows + 48) / 8760))["BTC"].iloc[:rows]
    return candles.drop(index=list(missing)).reset_index(drop=True)


def _binance_row(time: int, row: dict[str, Any], step: int) -> list[Any]:
    prices = [f"{row[name]:.8f}" for name in ("open", "high", "low", "close", "volume")]
    return [time, *prices, time + step - 1, f"{row['volume'] * row['close']:.8f}", 47, "0.0", "0.0", "0"]


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: type[_Handler], exchange: ExchangeServer) -> None:
        super().__init__(address, handler)
        self.exchange = exchange

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hung up (it timed out, or was killed) is no error here."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet
    server: _Server

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(address.query).items()}
        exchange = self.server.exchange
        fault = exchange.record(address.path, query)
        exchange.closing.wait(exchange.late_seconds if fault == "late" else exchange.pause_seconds)
        if fault == "down":
            self.close_connection = True
        elif fault in _REPLIES:
            status, headers, body = _REPLIES[fault]
            self._send(status, body, headers)
        else:
            status, answer = self._answer(address.path, query)
            body = json.dumps(_spoilt(answer, fault)).encode()
            self._send(status, body, {"Content-Type": "application/json"}, cut=fault == "drop")

    def _answer(self, path: str, query: dict[str, str]) -> tuple[int, Any]:
        exchange = self.server.exchange
        now = int(exchange.clock.timestamp() * 1000)
        if path == "/api/v3/time":
            return 200, {"serverTime": now}
        if path == "/api/v3/exchangeInfo":
            return 200, {"timezone": "UTC", "serverTime": now, "symbols": _binance_symbols(exchange.candles)}
        if path == "/api/v3/klines":
            if query["symbol"] not in exchange.candles:
                return 400, {"code": -1121, "msg": "Invalid symbol."}
            return 200, exchange.binance_page(query)
        if path == "/api/v2/markets/":
            return 200, [_BITSTAMP_MARKET]
        if path == "/api/v2/ohlc/btcusdt/":
            return 200, exchange.bitstamp_page(query)
        return (200, {}) if path == "/api/v3/ping" else (404, {"code": -1, "msg": f"no such path {path}"})

    def _send(self, status: int, body: bytes, headers: Mapping[str, str], *, cut: bool = False) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if cut else body)
        self.close_connection = self.close_connection or cut

    def log_message(self, format: str, *args: object) -> None:
        """Silence: the requests are recorded."""


def _spoilt(answer: Any, fault: str) -> Any:
    """A page of candles with the fault; other answers as they are."""
    if fault == "misshapen":
        return [["nonsense"], {"msg": "not a candle"}]
    if fault == "empty":
        return []
    if fault == "stale":  # a page from long ago, as a cache would send
        return [[row[0] - 10**10, *row[1:]] for row in answer]
    if fault == "duplicate":
        return answer[: len(answer) // 2 + 1] + answer
    if fault == "unordered":
        return answer[::-1]
    if fault == "bad_row" and answer:
        place = len(answer) // 2
        spoilt = [*answer[place][:2], "0.00000001", *answer[place][3:]]
        return [*answer[:place], spoilt, *answer[place + 1 :]]
    return answer


def _binance_symbols(symbols: Iterable[str]) -> list[dict[str, Any]]:
    fixed = {"status": "TRADING", "isSpotTradingAllowed": True, "permissions": ["SPOT"], "quotePrecision": 8}
    filters = [
        {"filterType": "PRICE_FILTER", "minPrice": "0.01", "maxPrice": "1000000.0", "tickSize": "0.01"}
    ]
    return [
        {
            "symbol": s,
            "baseAsset": s[:3],
            "quoteAsset": s[3:],
            "baseAssetPrecision": 8,
            "filters": filters,
            **fixed,
        }
        for s in sorted(symbols)
    ]


_BITSTAMP_MARKET = {
    "name": "BTC/USDT",
    "market_symbol": "btcusdt",
    "base_currency": "BTC",
    "base_decimals": 8,
    "counter_currency": "USDT",
    "counter_decimals": 2,
    "minimum_order_value": "10.0",
    "trading": "Enabled",
    "market_type": "SPOT",
    "description": "Bitcoin / USDT",
}
_HTML = b"<!DOCTYPE html><html><head><title>Attention</title></head><body>Please sign in to the network.</body></html>"
_RESTRICTED = b'{"code": 0, "msg": "Service unavailable from a restricted location"}'
_TOO_MANY = b'{"code": -1003, "msg": "Too many requests"}'
_REPLIES: dict[str, tuple[int, dict[str, str], bytes]] = {
    "429": (429, {"Retry-After": "0"}, _TOO_MANY),
    "429_later": (429, {"Retry-After": "0.05"}, _TOO_MANY),
    "418": (418, {}, _TOO_MANY),
    "500": (500, {}, b'{"code": -1000, "msg": "An unknown error occurred"}'),
    "503": (503, {}, b""),
    "503_html": (503, {"Content-Type": "text/html"}, _HTML),
    "html": (200, {"Content-Type": "text/html"}, _HTML),
    "451": (451, {"Content-Type": "application/json"}, _RESTRICTED),
    "403_html": (403, {"Content-Type": "text/html"}, _HTML),
    "banned": (418, {"Retry-After": "259200"}, _TOO_MANY),
}
