"""Deribit's public API: option snapshots, the volatility index (DVOL) and delivery prices. No key, no order.

Belongs here: asking and paging. What the answers mean is in `options.deribit_answers`, what is kept on disk in
`options.recordings`. The client is ccxt's (`ccxt.deribit`), which also keeps to the venue's rate limit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from trader_pipeline.klines.contact import Contact
from trader_pipeline.klines.retrying import (
    BaseUrl,
    RetryParams,
    UnusableAnswerError,
    call_with_retries,
    checked_address,
    refuse_redirects,
)
from trader_pipeline.options.deribit_answers import (
    TICKER_NAMES,
    answered_at,
    check_delivery_page,
    check_instruments,
    check_summaries,
    check_ticker,
    check_volatility_page,
    conformed,
    epoch_millis,
    expiry_of,
    quotes_frame,
    summary_rows,
    volatility_frame,
)
from trader_pipeline.schema.tables import DELIVERY_PRICES

VOLATILITY_INDEX_SINCE = pd.Timestamp("2021-03-24", tz="UTC")
"""First day of the volatility index, BTC and ETH."""
DELIVERY_PAGE = 1000


class DeribitParams(BaseModel):
    """Whether recorded quotes are used, where files of them lie, and how the exchange is asked."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: Literal["none", "files", "api"] = Field(
        default="none",
        description="none: recordings alone; files: and the files named below; api: also record from the exchange",
    )
    quotes_path: str | None = Field(default=None, description="file or folder of quotes to import")
    volatility_index_path: str | None = Field(
        default=None, description="file or folder of hourly DVOL values to import"
    )
    delivery_prices_path: str | None = Field(
        default=None, description="file or folder of delivery prices to import"
    )
    base_url: BaseUrl | None = Field(
        default=None, description="address of the API; none: the exchange's own (https://www.deribit.com)"
    )
    max_dte_days: float = Field(
        default=100, gt=0, description="options with more time to expiry are left out (days)"
    )
    option_types: tuple[Literal["call", "put"], ...] = Field(
        default=("call", "put"), min_length=1, description="which options are kept"
    )
    include_greeks: bool = Field(
        default=False,
        description="ask for every option's ticker: the venue's own delta and vega, one call each",
    )
    retries: RetryParams = RetryParams()

    @property
    def paths(self) -> dict[str, str | None]:
        """The import path of each kind of recording."""
        return {
            "quotes": self.quotes_path,
            "volatility_index": self.volatility_index_path,
            "delivery_prices": self.delivery_prices_path,
        }

    def import_path(self, kind: str) -> str | None:
        """What is imported of a kind; None where `source` says that nothing is."""
        return None if self.source == "none" else self.paths[kind]


@dataclass(frozen=True)
class SnapshotReport:
    """What a snapshot held."""

    underlying: str
    quote_time: pd.Timestamp | None
    rows: int
    missing_bids: int
    missing_asks: int
    crossed: int
    left_out: dict[str, int] = field(default_factory=dict)
    """Options that are not in the snapshot, by reason."""

    def summary(self) -> str:
        """One line of text."""
        if self.quote_time is None:
            return f"{self.underlying}: no quotes{self._reasons()}"
        return (
            f"{self.underlying} at {self.quote_time:%Y-%m-%d %H:%M:%S}: {self.rows} quotes, {self.missing_bids} without"
            f" a bid, {self.missing_asks} without an ask, {self.crossed} crossed{self._reasons()}"
        )

    def _reasons(self) -> str:
        return "".join(f", {n} left out ({reason})" for reason, n in self.left_out.items())


def deribit_client(params: DeribitParams) -> Any:
    """ccxt's client for the public API. Share one between calls: it spaces them out.

    Raises:
        AddressRefusedError: `base_url` is no address, or holds a password.
    """
    import ccxt  # takes a second to import, and most runs ask no exchange

    client = ccxt.deribit(
        {
            "enableRateLimit": True,
            "requests_trust_env": True,  # a proxy given in the environment
            "timeout": int(params.retries.timeout_seconds * 1000),
        }
    )
    if params.base_url is not None:
        client.urls["api"] = {"rest": checked_address(params.base_url).rstrip("/")}
    refuse_redirects(client.session)
    client.options["contact"] = Contact()  # a host that never answers is given up soon
    return client


def fetch_option_snapshot(
    underlying: str, params: DeribitParams, *, client: Any = None
) -> tuple[pd.DataFrame, SnapshotReport]:
    """All quotes of one coin's options at one moment (columns of `OPTION_QUOTES`, sorted by key), and the report.

    Two calls: the list of instruments and their book summaries. `quote_time` is the latest of the exchange's stamps
    on them: the snapshot is known once its last row is. `index_price` is the estimated delivery price of the farthest
    expiry, which equals the index (a near expiry's is already an average in its last half hour).

    Summaries carry no greeks. `delta` is then computed as the venue displays it, Black-Scholes on the forward:
    `N(d1)` of a call, `N(d1) - 1` of a put, from `iv`, forward, strike and the time left; `vega` is null. With
    `include_greeks` every option's ticker is asked for instead, and all its figures are the ticker's own.

    Left out and counted: options beyond `max_dte_days` or of another type, at or after expiry, without a mark, with
    a volatility that is not above 0 or above 2,000 %, with a negative or infinite figure, calls whose mark is a whole
    coin, and what is not in the list of instruments.

    Raises:
        SourceRefusedError: the exchange refuses, or its answer is not in its own format.
    """
    client = client or deribit_client(params)
    request = {"currency": underlying, "kind": "option"}
    listing = {**request, "expired": "false"}
    instruments = _ask(client, "publicGetGetInstruments", listing, params, check=check_instruments)
    summaries = _ask(client, "publicGetGetBookSummaryByCurrency", request, params, check=check_summaries)
    rows, left_out = summary_rows(
        underlying,
        instruments["result"],
        summaries["result"],
        max_dte_days=params.max_dte_days,
        option_types=params.option_types,
    )
    if params.include_greeks and len(rows):
        rows = _with_tickers(rows, client, params)
    frame = quotes_frame(rows, underlying, left_out)
    return frame, SnapshotReport(
        underlying=underlying,
        quote_time=frame["quote_time"].iloc[0] if len(frame) else None,
        rows=len(frame),
        missing_bids=int(frame["bid_price"].isna().sum()),
        missing_asks=int(frame["ask_price"].isna().sum()),
        crossed=int((frame["bid_price"] > frame["ask_price"]).sum()),
        left_out=dict(sorted((+left_out).items())),
    )


def fetch_volatility_index(
    underlying: str,
    params: DeribitParams,
    *,
    start: pd.Timestamp | None = None,
    end: pd.Timestamp,
    client: Any = None,
) -> pd.DataFrame:
    """Hourly volatility index with `open_time` from `start` on (columns of `VOLATILITY_INDEX`, iv as a decimal).

    `start` None is the index's beginning; `end` (UTC) is the caller's present. The hour that has not closed by then,
    or by the exchange's own clock where that is behind, is never returned. Missing hours stay missing.

    Raises:
        SourceRefusedError: as above.
    """
    client = client or deribit_client(params)
    first = max(start or VOLATILITY_INDEX_SINCE, VOLATILITY_INDEX_SINCE)
    rows: list[list[float]] = []
    last, known = epoch_millis(end), end
    while last >= epoch_millis(first):
        request = {
            "currency": underlying,
            "start_timestamp": epoch_millis(first),
            "end_timestamp": last,
            "resolution": "3600",
        }
        answer = _ask(client, "publicGetGetVolatilityIndexData", request, params, check=check_volatility_page)
        known = min(known, answered_at(answer, end))
        page, continuation = answer["result"]["data"], answer["result"].get("continuation")
        rows += page
        if not page or continuation is None or int(continuation) >= last:
            break
        last = int(continuation)
    return volatility_frame(rows, underlying, first=first, known=known)


def fetch_delivery_prices(
    underlying: str, params: DeribitParams, *, after: pd.Timestamp | None = None, client: Any = None
) -> pd.DataFrame:
    """Delivery prices of the expiries after `after`, all of them without it (columns of `DELIVERY_PRICES`).

    Raises:
        SourceRefusedError: as above.
    """
    client = client or deribit_client(params)
    found: dict[pd.Timestamp, float] = {}
    offset = 0
    while True:
        request = {"index_name": f"{underlying.lower()}_usd", "offset": offset, "count": DELIVERY_PAGE}
        answer = _ask(client, "publicGetGetDeliveryPrices", request, params, check=check_delivery_page)
        result = answer["result"]
        page = {expiry_of(row["date"]): float(row["delivery_price"]) for row in result["data"]}
        found |= page
        offset += len(result["data"])
        # Newest first: once a page reaches what is known, so do all later ones.
        if not page or offset >= int(result["records_total"]) or (after is not None and min(page) <= after):
            break
    kept = sorted((expiry, price) for expiry, price in found.items() if after is None or expiry > after)
    frame = pd.DataFrame(kept, columns=["expiry", "delivery_price"]).assign(underlying=underlying)
    return conformed(frame, DELIVERY_PRICES) if kept else DELIVERY_PRICES.empty()


def _ask(
    client: Any,
    method: str,
    request: Mapping[str, Any],
    params: DeribitParams,
    *,
    check: Callable[[Any], None],
) -> dict[str, Any]:
    """The whole answer, its `result` as `check` wants it; any other is taken for a fault that passes."""

    def question() -> dict[str, Any]:
        answer = getattr(client, method)(dict(request))
        if not isinstance(answer, dict) or "result" not in answer:
            raise UnusableAnswerError(f"no answer in Deribit's format but {str(answer)[:80]!r}")
        check(answer["result"])
        return answer

    words = " ".join(f"{name}={value}" for name, value in request.items())
    what = f"Deribit, {method.removeprefix('publicGet')} {words}"
    return call_with_retries(question, what=what, params=params.retries, contact=client.options["contact"])


def _with_tickers(rows: pd.DataFrame, client: Any, params: DeribitParams) -> pd.DataFrame:
    """The rows with every quote replaced by its ticker's, which names some figures otherwise."""
    tickers = []
    for name in rows["instrument_name"]:
        answer = _ask(client, "publicGetTicker", {"instrument_name": name}, params, check=check_ticker)
        result = answer["result"]
        renamed = {ours: result.get(theirs) for theirs, ours in TICKER_NAMES.items()}
        tickers.append({**renamed, **{g: result["greeks"].get(g) for g in ("delta", "vega")}})
    figures = pd.DataFrame(tickers).apply(pd.to_numeric, errors="coerce")
    return rows.drop(columns=figures.columns.intersection(rows.columns)).join(figures)
