"""Deribit's answers as the schema's tables: from the wire's names, text and percent to our columns, units and rules.

Belongs here: pure functions of what came back. Asking is in `options.deribit`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import pandas as pd

from trader_pipeline.options.calendar import EXPIRY_HOUR
from trader_pipeline.schema import Table, conform
from trader_pipeline.schema.tables import OPTION_QUOTES, VOLATILITY_INDEX

HOUR = pd.Timedelta(hours=1)
EPOCH = pd.Timestamp(0, tz="UTC")
_SECONDS_PER_YEAR = 365.0 * 86_400
_MS = pd.Timedelta(milliseconds=1)
_INDEX = "estimated_delivery_price"
_WIRE = (
    "instrument_name", "creation_timestamp", "bid_price", "ask_price", "mark_price", "mark_iv", "open_interest",
    "underlying_price", _INDEX,
)  # fmt: skip
TICKER_NAMES = {
    "timestamp": "creation_timestamp",
    "best_bid_price": "bid_price",
    "best_ask_price": "ask_price",
    "mark_price": "mark_price",
    "mark_iv": "mark_iv",
    "open_interest": "open_interest",
    "underlying_price": "underlying_price",
    "index_price": _INDEX,
}
"""Names of a ticker's figures, and what a book summary calls them."""


def summary_rows(
    underlying: str,
    instruments: list[Any],
    summaries: list[Any],
    *,
    max_dte_days: float,
    option_types: Collection[str],
) -> tuple[pd.DataFrame, Counter[str]]:
    """Summaries of the options asked for, with what the list of instruments says of them."""
    listed = {
        i["instrument_name"]: i for i in instruments if i.get("settlement_currency", underlying) == underlying
    }
    known = [
        {**s, **_terms(listed[s["instrument_name"]])} for s in summaries if s["instrument_name"] in listed
    ]
    left_out = Counter({"not in the list of instruments": len(summaries) - len(known)})
    rows = pd.DataFrame(known, columns=[*_WIRE, "option_type", "strike", "expiry_ms"])
    numbers = [c for c in rows.columns if c not in ("instrument_name", "option_type")]
    rows[numbers] = rows[numbers].apply(pd.to_numeric, errors="coerce")
    far = rows["expiry_ms"] - rows["creation_timestamp"].max() > max_dte_days * 24 * HOUR / _MS
    other = ~rows["option_type"].isin(option_types)
    left_out["beyond max_dte_days"] = int(far.sum())
    left_out["of another type"] = int((other & ~far).sum())
    return rows[~(far | other)].reset_index(drop=True), left_out


def _terms(instrument: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "option_type": instrument["option_type"],
        "strike": instrument["strike"],
        "expiry_ms": instrument["expiration_timestamp"],
    }


def quotes_frame(rows: pd.DataFrame, underlying: str, left_out: Counter[str]) -> pd.DataFrame:
    """Rows of the wire as a frame of `OPTION_QUOTES`; what is no quote is counted in `left_out`."""
    known = rows["creation_timestamp"].max()
    prices = ["bid_price", "ask_price", "mark_price"]
    reasons = {
        "at or after expiry": rows["expiry_ms"] <= known,
        "without volatility": ~(rows["mark_iv"] > 0),
        "without greeks": rows.get("delta", pd.Series(0.0, index=rows.index)).isna(),
        "without a mark, forward or index": rows[["mark_price", "underlying_price", _INDEX]]
        .isna()
        .any(axis=1),
        "price below 0": (rows[prices] < 0).any(axis=1)
        | (rows[["underlying_price", _INDEX]] <= 0).any(axis=1),
    }
    bad = pd.Series(False, index=rows.index)
    for reason, found in reasons.items():
        left_out[reason] = int((found & ~bad).sum())
        bad |= found
    rows = rows[~bad]
    if rows.empty:
        return OPTION_QUOTES.empty()
    farthest = rows[_INDEX].iloc[int(rows["expiry_ms"].to_numpy().argmax())]
    frame = pd.DataFrame(
        {
            "quote_time": _moment(known),
            "underlying": underlying,
            "instrument": rows["instrument_name"],
            "option_type": rows["option_type"],
            "strike": rows["strike"].astype(float),
            "expiry": EPOCH + pd.to_timedelta(rows["expiry_ms"], unit="ms"),
            "forward": rows["underlying_price"],
            "index_price": rows[_INDEX] if "delta" in rows else farthest,
            "bid_price": rows["bid_price"].where(rows["bid_price"] > 0),
            "ask_price": rows["ask_price"].where(rows["ask_price"] > 0),
            "mark_price": rows["mark_price"],
            "iv": rows["mark_iv"] / 100,
            "vega": rows.get("vega", np.nan),
            "open_interest": rows["open_interest"],
        }
    )
    frame["delta"] = rows["delta"] if "delta" in rows else displayed_delta(frame)
    return conformed(frame, OPTION_QUOTES)


def displayed_delta(quotes: pd.DataFrame) -> np.ndarray:
    """Black-Scholes delta of each quote from its `iv`, forward, strike and time left: `N(d1)`, puts `N(d1) - 1`."""
    from trader_pipeline.options.pricing import call_delta  # numba: loaded where a delta is asked for

    left = (quotes["expiry"] - quotes["quote_time"]).dt.total_seconds()
    delta = call_delta(
        forward=quotes["forward"].to_numpy(dtype=float),
        strike=quotes["strike"].to_numpy(dtype=float),
        iv=quotes["iv"].to_numpy(dtype=float),
        years=left.to_numpy(dtype=float) / _SECONDS_PER_YEAR,
    )
    return delta - (quotes["option_type"] == "put").to_numpy(dtype=float)


def volatility_frame(
    rows: list[Any], underlying: str, *, first: pd.Timestamp, known: pd.Timestamp
) -> pd.DataFrame:
    """Hours of the pages that start at `first` or later and have closed by `known`; percent becomes decimal."""
    if not rows:
        return VOLATILITY_INDEX.empty()
    values = np.array(rows, dtype=float)
    frame = pd.DataFrame(values[:, 1:5] / 100, columns=["iv_open", "iv_high", "iv_low", "iv_close"])
    frame["open_time"] = EPOCH + pd.to_timedelta(values[:, 0].astype("int64"), unit="ms")
    frame["close_time"] = frame["open_time"] + HOUR
    inside = (frame["open_time"] >= first) & (frame["close_time"] <= known)
    # Pages may meet in one hour; the later question may have caught it unfinished, so only closed hours are compared.
    return conformed(frame[inside].drop_duplicates().assign(underlying=underlying), VOLATILITY_INDEX)


def conformed(frame: pd.DataFrame, table: Table) -> pd.DataFrame:
    return conform(frame, table, source="Deribit's answer").to_pandas()


def answered_at(answer: Mapping[str, Any], default: pd.Timestamp) -> pd.Timestamp:
    """The exchange's clock at its answer (`usOut`, microseconds)."""
    stamp = answer.get("usOut")
    return default if stamp is None else EPOCH + pd.Timedelta(microseconds=int(stamp))


def expiry_of(day: str) -> pd.Timestamp:
    return pd.Timestamp(day, tz="UTC") + pd.Timedelta(hours=EXPIRY_HOUR)


def _moment(millis: float) -> pd.Timestamp:
    return EPOCH + pd.Timedelta(milliseconds=int(millis))


def epoch_millis(moment: pd.Timestamp) -> int:
    return int((moment - EPOCH) / _MS)
