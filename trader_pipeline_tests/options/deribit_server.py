"""A local venue: real HTTP on loopback in Deribit's JSON-RPC format, answering from quotes, with faults on request.

`Venue` says what there is to know, `serve` answers from it. A fault is taken from `Venue.faults` for each request
until there are none left: "429", "500", "drop" (the connection ends within the body), "html" (a proxy's page); ""
is none.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from threading import Thread
from urllib.parse import parse_qsl, urlsplit

import pandas as pd

EPOCH = pd.Timestamp(0, tz="UTC")
HOUR_MS = 3_600_000
TABLE = [  # strike, call's mark, iv, call's bid, call's ask: an evening of 2025, expiry of 16 January 2026
    (80_000, 0.1102, 0.4631, 0.108, 0.112),
    (88_000, 0.0365, 0.4012, 0.0355, 0.0375),
    (95_000, 0.0098, 0.3904, 0.0095, 0.0105),
    (100_000, 0.0031, 0.3924, 0.0029, 0.0033),
    (120_000, 0.0001, 0.5210, None, 0.0002),
]


def millis(moment: pd.Timestamp) -> int:
    return int((moment - EPOCH) / pd.Timedelta(milliseconds=1))


def built_in_quotes() -> pd.DataFrame:
    """Five BTC calls with 16 days left, in the columns of `OPTION_QUOTES` (without delta and vega)."""
    rows = [
        {
            "quote_time": pd.Timestamp("2025-12-30 17:31:15.944", tz="UTC"),
            "instrument": f"BTC-16JAN26-{strike}-C",
            "strike": float(strike),
            "expiry": pd.Timestamp("2026-01-16 08:00", tz="UTC"),
            "forward": 88_728.95,
            "index_price": 88_530.6,
            "bid_price": bid,
            "ask_price": ask,
            "mark_price": mark,
            "iv": iv,
            "delta": 0.5,
            "vega": 28.9,
            "open_interest": 12.5,
        }
        for strike, mark, iv, bid, ask in TABLE
    ]
    return pd.DataFrame(rows).astype({"bid_price": float})


def with_puts(calls: pd.DataFrame) -> pd.DataFrame:
    """The calls and a put beside each: its mark by put-call parity in coin, its volatility the call's."""
    puts = calls.assign(
        instrument=calls["instrument"].str.removesuffix("C") + "P",
        mark_price=(calls["mark_price"] - 1 + calls["strike"] / calls["forward"]).clip(lower=0.0001),
        bid_price=None,
        delta=calls["delta"] - 1,
    ).astype({"bid_price": float})
    both = [calls.assign(option_type="call"), puts.assign(option_type="put")]
    return pd.concat(both, ignore_index=True)


@dataclass
class Venue:
    """What the local venue knows. `candles` are (open ms, open, high, low, close) in percent, hour by hour."""

    quotes: pd.DataFrame
    now: pd.Timestamp
    underlying: str = "BTC"
    candles: list[list[float]] = field(default_factory=list)
    delivery_prices: dict[str, float] = field(default_factory=dict)
    """By day, as YYYY-MM-DD."""
    page_hours: int = 1000
    longest_count: int = 1000
    faults: list[str] = field(default_factory=list)
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    """Method and parameters of every request, faults included."""

    def get_instruments(self, currency: str, kind: str, expired: str) -> list[dict[str, object]]:
        return [
            {
                "instrument_name": q.instrument,
                "kind": kind,
                "option_type": q.option_type,
                "strike": q.strike,
                "expiration_timestamp": millis(q.expiry),
                "base_currency": currency,
                "quote_currency": currency,
                "settlement_currency": currency,
                "instrument_type": "reversed",
                "is_active": True,
            }
            for q in self._quotes_of(currency)
        ]

    def get_book_summary_by_currency(self, currency: str, kind: str) -> list[dict[str, object]]:
        return [
            {
                "instrument_name": q.instrument,
                "base_currency": currency,
                "quote_currency": currency,
                "bid_price": _none_if_nan(q.bid_price),
                "ask_price": _none_if_nan(q.ask_price),
                "mid_price": None,
                "last": None,
                "mark_price": _none_if_nan(q.mark_price),
                "mark_iv": round(q.iv * 100, 2),
                "open_interest": q.open_interest,
                "underlying_index": "SYN." + q.instrument.rsplit("-", 2)[0],
                "underlying_price": q.forward,
                "estimated_delivery_price": q.index_price,
                "interest_rate": 0.0,
                "volume": 0.0,
                "creation_timestamp": millis(q.quote_time),
            }
            for q in self._quotes_of(currency)
        ]

    def ticker(self, instrument_name: str) -> dict[str, object]:
        quote = next(q for q in self._quotes_of(self.underlying) if q.instrument == instrument_name)
        return {
            "instrument_name": instrument_name,
            "timestamp": millis(quote.quote_time) + 700,
            "best_bid_price": _none_if_nan(quote.bid_price) or 0.0,
            "best_ask_price": _none_if_nan(quote.ask_price) or 0.0,
            "mark_price": quote.mark_price,
            "mark_iv": round(quote.iv * 100, 2),
            "open_interest": quote.open_interest,
            "underlying_price": quote.forward,
            "index_price": quote.index_price,
            "greeks": {"delta": quote.delta, "vega": quote.vega, "gamma": 0.0, "theta": 0.0, "rho": 0.0},
            "state": "open",
        }

    def get_volatility_index_data(
        self, currency: str, start_timestamp: str, end_timestamp: str, resolution: str
    ) -> dict[str, object]:
        """The newest page of the span, and where the next older one ends. The present, unfinished hour is served."""
        assert resolution == "3600"
        self._check(currency)
        span = range(int(start_timestamp), int(end_timestamp) + 1)
        inside = [c for c in self.candles if int(c[0]) in span]
        page, older = inside[-self.page_hours :], inside[: -self.page_hours]
        return {"data": page, "continuation": older[-1][0] if older else None}

    def get_delivery_prices(self, index_name: str, offset: str, count: str) -> dict[str, object]:
        self._check(index_name.removesuffix("_usd").upper())
        newest_first = [
            {"date": day, "delivery_price": price}
            for day, price in sorted(self.delivery_prices.items(), reverse=True)
        ]
        start, length = int(offset), min(int(count), self.longest_count)
        return {"data": newest_first[start : start + length], "records_total": len(newest_first)}

    def asked(self, method: str) -> list[dict[str, str]]:
        """Parameters of every request for a method, in order."""
        return [parameters for name, parameters in self.requests if name == method]

    def _quotes_of(self, currency: str) -> list:
        self._check(currency)
        return list(self.quotes.itertuples())

    def _check(self, currency: str) -> None:
        if currency != self.underlying:
            raise LookupError(currency)


@contextmanager
def serve(venue: Venue) -> Iterator[str]:
    """The address of a server that answers for `venue` until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            method = parts.path.removeprefix("/api/v2/public/")
            parameters = dict(parse_qsl(parts.query))
            venue.requests.append((method, parameters))
            if venue.faults and (fault := venue.faults.pop(0)):
                self._fail(fault)
                return
            try:
                result = getattr(venue, method)(**parameters)
            except LookupError:
                reason = {"reason": "invalid currency", "param": "currency"}
                self._rpc(400, error={"code": -32602, "message": "Invalid params", "data": reason})
                return
            self._rpc(200, result=result)

        def _fail(self, fault: str) -> None:
            if fault == "429":
                self._rpc(429, error={"code": 10028, "message": "too_many_requests"})
            elif fault == "500":
                self._rpc(500, error={"code": 11094, "message": "internal_server_error"})
            elif fault == "html":
                self._send(200, b"<html><body>Please log in to the proxy</body></html>", "text/html")
            else:
                self._send(200, b'{"jsonrpc":"2.0","result":[', "application/json", missing=4000)
                self.close_connection = True

        def _rpc(self, status: int, **content: object) -> None:
            stamp = millis(venue.now) * 1000
            frame = {"jsonrpc": "2.0", **content, "usIn": stamp - 36, "usOut": stamp, "usDiff": 36}
            self._send(status, json.dumps({**frame, "testnet": False}).encode(), "application/json")

        def _send(self, status: int, body: bytes, kind: str, *, missing: int = 0) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body) + missing))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def hourly_candles(start: pd.Timestamp, hours: int) -> list[list[float]]:
    """A volatility index that wanders a little, hour by hour, in percent."""
    levels = [55 + (i * 7 % 23) / 10 for i in range(hours + 1)]
    return [
        [millis(start) + i * HOUR_MS, a, round(max(a, b) + 0.3, 2), round(min(a, b) - 0.3, 2), b]
        for i, (a, b) in enumerate(pairwise(levels))
    ]


def _none_if_nan(value: float) -> float | None:
    return None if pd.isna(value) else value
