"""Binance's public archive on this machine: real HTTP, real zips made from candles, with their CHECKSUM files.

As the archive does, it writes milliseconds without a header before 2025, microseconds with a header since.
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pandas as pd

HEADER = (
    "open_time", "open", "high", "low", "close", "volume", "close_time", "quote_volume", "count",
    "taker_buy_volume", "taker_buy_quote_volume", "ignore",
)  # fmt: skip
_PATH = re.compile(
    r"/data/spot/(monthly|daily)/klines/(\w+)/(\w+)/(\2-\3-(\d{4}-\d\d(?:-\d\d)?))\.zip(\.CHECKSUM)?"
)
_FAR = pd.Timestamp("2100-01-01", tz="UTC")
_MICROSECONDS_SINCE = pd.Timestamp("2025-01-01", tz="UTC")


@dataclass
class ArchiveServer:
    """Serves `candles` (frames of KLINES by `BTCUSDT-1h`). Use it as a context manager.

    A month exists once it ended before `published_until`, a day likewise; neither where it has no candle. `absent`
    names files (or CHECKSUM files) that are not there. `faults` is what befalls a file's next requests, one after the
    other: `wrong` (other bytes than the checksum's), `cut` (less than Content-Length says), `500`, `429`. `replace`
    gives a file other bytes, with the right checksum for them.
    """

    candles: Mapping[str, pd.DataFrame]
    published_until: pd.Timestamp = _FAR
    absent: set[str] = field(default_factory=set)
    faults: dict[str, list[str]] = field(default_factory=dict)
    replace: dict[str, bytes] = field(default_factory=dict)
    pause_seconds: float = 0.0
    refuse_with: int = 0
    requests: Counter[str] = field(default_factory=Counter)

    def __enter__(self) -> ArchiveServer:
        self.lock = threading.Lock()
        self.server = _Server(("127.0.0.1", 0), _Handler, self)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(
            target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        ).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def asked(self) -> dict[str, int]:
        """Requests by file name since the last call; then counting starts anew."""
        with self.lock:
            asked, self.requests = dict(self.requests), Counter()
        return asked

    def answer(self, path: str) -> tuple[int, bytes, str]:
        """Status, body and the fault that goes with it."""
        match = _PATH.fullmatch(path)
        name = path.rsplit("/", 1)[-1]
        with self.lock:
            self.requests[name] += 1
            fault = self.faults[name].pop(0) if self.faults.get(name) else ""
        if self.refuse_with or fault.isdigit():
            return self.refuse_with or int(fault), b"<html>not today</html>", ""
        content = self.zip_bytes(match) if match and name not in self.absent else None
        if match is None or content is None:
            return 404, b"<Error><Code>NoSuchKey</Code></Error>", ""
        if match.group(6):
            return 200, f"{hashlib.sha256(content).hexdigest()}  {match.group(4)}.zip\n".encode(), fault
        return 200, content[::-1] if fault == "wrong" else content, fault

    def zip_bytes(self, match: re.Match[str]) -> bytes | None:
        """The file's bytes, the same at every call; None where it does not exist."""
        period, symbol, timeframe, name, day, _ = match.groups()
        if f"{name}.zip" in self.absent or f"{symbol}-{timeframe}" not in self.candles:
            return None
        start = pd.Timestamp(day, tz="UTC")
        end = start + (pd.DateOffset(months=1) if period == "monthly" else pd.Timedelta(days=1))
        frame = self.candles[f"{symbol}-{timeframe}"]
        rows = frame[(frame["open_time"] >= start) & (frame["open_time"] < end)]
        if rows.empty or end > self.published_until:
            return None
        return self.replace.get(f"{name}.zip") or zipped({f"{name}.csv": csv_bytes(rows)})


def csv_bytes(rows: pd.DataFrame) -> bytes:
    """Candles as the archive writes them."""
    micro = rows["open_time"].iloc[0] >= _MICROSECONDS_SINCE
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if micro:
        writer.writerow(HEADER)
    divisor = 1 if micro else 1000
    for row in rows.itertuples(index=False):
        opened, closed = (int(t.value // 1000) // divisor for t in (row.open_time, row.close_time))
        prices = [repr(float(v)) for v in (row.open, row.high, row.low, row.close, row.volume)]
        writer.writerow([opened, *prices, closed - 1, f"{row.volume * row.close:.8f}", 47, "0.0", "0.0", "0"])
    return text.getvalue().encode()


def zipped(members: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name, (2024, 1, 1, 0, 0, 0)), content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(
        self, address: tuple[str, int], handler: Callable[..., BaseHTTPRequestHandler], archive: ArchiveServer
    ) -> None:
        super().__init__(address, handler)
        self.archive = archive

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hung up (it was killed) is no error here."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        time.sleep(self.server.archive.pause_seconds)
        status, body, fault = self.server.archive.answer(self.path)
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if status == 429:
            self.send_header("Retry-After", "0.01")
        self.end_headers()
        if fault == "cut":
            self.wfile.write(body[: len(body) // 2])
            self.close_connection = True
        else:
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""
