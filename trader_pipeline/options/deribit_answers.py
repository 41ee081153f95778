"""Deribit's answers as the schema's tables: from the wire's names, text and percent to our columns, units and rules.

Belongs here: pure functions of what came back, and which of it has the wrong shape. Asking is in `options.deribit`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from trader_pipeline.klines.retrying import UnusableAnswerError
from trader_pipeline.options.calendar import EXPIRY_HOUR
from trader_pipeline.options.quote_files import MAX_DVOL_PCT
from trader_pipeline.schema import Table, conform
from trader_pipeline.schema.tables import OPTION_QUOTES, VOLATILITY_INDEX

HOUR = pd.Timedelta(hours=1)
EPOCH = pd.Timestamp(0, tz="UTC")
_SECONDS_PER_YEAR = 365.0 * 86_400
_MS = pd.Timedelta(milliseconds=1)
_EARLIEST_MS, _LATEST_MS = 1_230_768_000_000, 4_102_444_800_000  # 2009 to 2100
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


def check_instruments(result: Any) -> None:
    """The list of instruments has what is read of it.

    Raises:
        UnusableAnswerError: it has not; the message names row and field. So do those below.
    """
    fields = {"option_type": _is_option_type, "strike": _is_positive, "expiration_timestamp": _is_millis}
    _check_rows(result, {"instrument_name": _is_text, **fields})


def check_summaries(result: Any) -> None:
    """So has the list of book summaries, each instrument once; a figure may be null."""
    figures = dict.fromkeys(_WIRE[2:], _is_figure)
    _check_rows(result, {"instrument_name": _is_text, "creation_timestamp": _is_millis, **figures})
    counts = Counter(row["instrument_name"] for row in result)
    if twice := [name for name, count in counts.items() if count > 1]:
        raise UnusableAnswerError(f"field instrument_name: {twice[0]} occurs twice")


def check_ticker(result: Any) -> None:
    """So has a ticker."""
    figures = dict.fromkeys(TICKER_NAMES, _is_figure)
    _check_rows(
        [result], {**figures, "timestamp": _is_millis, "greeks": lambda value: isinstance(value, dict)}
    )
    _check_rows([result["greeks"]], {"delta": _is_figure, "vega": _is_figure})


def check_volatility_page(result: Any) -> None:
    """So has a page of the volatility index: rows of a time and four values in percent."""
    data, continuation = _data(result), result.get("continuation")
    for number, row in enumerate(data):
        if not isinstance(row, list) or len(row) < 5 or not _is_millis(row[0]):
            raise UnusableAnswerError(f"field data, row {number}: {_quoted(row)} is no time with four values")
        if not all(_is_positive(value) and float(value) <= MAX_DVOL_PCT for value in row[1:5]):
            raise UnusableAnswerError(
                f"field data, row {number}: {_quoted(row)} holds a value outside 0 to {MAX_DVOL_PCT:.0f} %"
            )
    if continuation is not None and not _is_millis(continuation):
        raise UnusableAnswerError(f"field continuation: {_quoted(continuation)} is no time")


def check_delivery_page(result: Any) -> None:
    """So has a page of delivery prices."""
    _check_rows(_data(result), {"date": _is_day, "delivery_price": _is_positive})
    if _number(result.get("records_total")) is None:
        raise UnusableAnswerError(f"field records_total: {_quoted(result.get('records_total'))} is no number")


def _data(result: Any) -> Sequence[Any]:
    data = result.get("data") if isinstance(result, dict) else None
    if not isinstance(data, list):
        raise UnusableAnswerError(f"field data: a list is expected, found {_quoted(data)}")
    return data


def _check_rows(rows: Any, fields: Mapping[str, Callable[[Any], bool]]) -> None:
    if not isinstance(rows, list):
        raise UnusableAnswerError(f"field result: a list is expected, found {_quoted(rows)}")
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise UnusableAnswerError(f"row {number}: an object is expected, found {_quoted(row)}")
        for name, fits in fields.items():
            if not fits(row.get(name)):
                raise UnusableAnswerError(
                    f"row {number}, field {name}: {_quoted(row.get(name))} cannot be read"
                )


def _number(value: Any) -> float | None:
    """ccxt may hand numbers over as text, to lose no digit."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except ValueError:
        return None


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _is_option_type(value: Any) -> bool:
    return value in ("call", "put")


def _is_figure(value: Any) -> bool:
    return value is None or _number(value) is not None


def _is_positive(value: Any) -> bool:
    return 0 < (_number(value) or 0) < np.inf


def _is_millis(value: Any) -> bool:
    number = _number(value)
    return number is not None and _EARLIEST_MS <= number < _LATEST_MS


def _is_day(value: Any) -> bool:
    try:
        return isinstance(value, str) and _is_millis(epoch_millis(expiry_of(value)))
    except (ValueError, TypeError):
        return False


def _quoted(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:80] + "..."


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
    figures = [*prices, "underlying_price", _INDEX, "open_interest"]
    reasons = {
        "at or after expiry": rows["expiry_ms"] <= known,
        "without volatility": ~(rows["mark_iv"] > 0),
        f"volatility above {MAX_DVOL_PCT:,.0f} %": rows["mark_iv"] > MAX_DVOL_PCT,
        "infinite figure": rows[figures].isin([np.inf, -np.inf]).any(axis=1),
        "open interest below 0": rows["open_interest"] < 0,
        "call at a whole coin or more": (rows["option_type"] == "call") & (rows["mark_price"] >= 1),
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
    values = np.array([row[:5] for row in rows], dtype=float)
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
    stamp = _number(answer.get("usOut"))
    if stamp is None or not _is_millis(stamp / 1000):
        return default
    return EPOCH + pd.Timedelta(microseconds=int(stamp))


def expiry_of(day: str) -> pd.Timestamp:
    return pd.Timestamp(day, tz="UTC") + pd.Timedelta(hours=EXPIRY_HOUR)


def _moment(millis: float) -> pd.Timestamp:
    return EPOCH + pd.Timedelta(milliseconds=int(millis))


def epoch_millis(moment: pd.Timestamp) -> int:
    return int((moment - EPOCH) / _MS)
