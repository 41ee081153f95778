"""Recording Deribit's public data: ask the exchange, store the answer among the recordings.

Belongs here: what is asked for again and from where on, and the note of it. Asking is in `options.deribit`, storing in
`options.recordings`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from trader_pipeline.options.deribit import (
    DeribitParams,
    SnapshotReport,
    deribit_client,
    fetch_delivery_prices,
    fetch_option_snapshot,
    fetch_volatility_index,
)
from trader_pipeline.options.recordings import TABLES, Additions, Kind, add_rows, stored_times
from trader_pipeline.options.row_union import RecordingConflictError
from trader_pipeline.store import write_atomic

HOUR, DAY = pd.Timedelta(hours=1), pd.Timedelta(days=1)


def record_all(
    underlyings: tuple[str, ...], params: DeribitParams, root: Path, *, now: pd.Timestamp
) -> Iterator[str]:
    """Snapshot, volatility index and delivery prices of each coin; yields a line of text as each is stored.

    The snapshots come first: they cannot be had later, and an error in the rest must not cost one.

    Raises:
        SourceRefusedError: the exchange refuses or does not answer; what was stored before stays.
        RecordingConflictError: it now says otherwise than what is stored.
    """
    client = deribit_client(params)
    for coin in underlyings:
        yield record_snapshot(coin, params, root, client=client)[1].summary()
    for coin in underlyings:
        hours = record_volatility_index(coin, params, root, now=now, client=client)
        yield f"{coin}: {hours.summary()}"
        days = record_delivery_prices(coin, params, root, client=client)
        yield f"{coin}: {days.summary()}"


def record_snapshot(
    underlying: str, params: DeribitParams, root: Path, *, client: Any = None
) -> tuple[Additions, SnapshotReport]:
    """Fetch one snapshot of `underlying` and store it.

    Raises:
        SourceRefusedError: the exchange refuses or does not answer; nothing is stored.
        RecordingConflictError: another snapshot of the same second is stored.
    """
    frame, report = fetch_option_snapshot(underlying, params, client=client)
    return add_rows(frame, "quotes", root), report


def record_volatility_index(
    underlying: str, params: DeribitParams, root: Path, *, now: pd.Timestamp, client: Any = None
) -> Additions:
    """Fetch and store the hours that have not been asked for yet; on first use from the index's beginning.

    Raises:
        SourceRefusedError: as above.
        RecordingConflictError: the exchange says otherwise than a stored row, as where an imported file ended with an
            unfinished hour; nothing of the answer is stored.
        ValueError: the note of what was asked for is damaged.
    """

    def fetch(start: pd.Timestamp | None) -> pd.DataFrame:
        return fetch_volatility_index(underlying, params, start=start, end=now, client=client)

    return _top_up("volatility_index", underlying, root, HOUR, fetch)


def record_delivery_prices(
    underlying: str, params: DeribitParams, root: Path, *, client: Any = None
) -> Additions:
    """Fetch and store the delivery prices that have not been asked for yet; on first use all of them.

    Raises:
        SourceRefusedError, RecordingConflictError, ValueError: as above.
    """

    def fetch(start: pd.Timestamp | None) -> pd.DataFrame:
        after = None if start is None else start - DAY
        return fetch_delivery_prices(underlying, params, after=after, client=client)

    return _top_up("delivery_prices", underlying, root, DAY, fetch)


class _Asked(BaseModel):
    """What the exchange has been asked for of one series: `asked.json` beside its month files.

    Stored rows alone do not tell: an import may hold any part of the series, and what lies before or between the parts
    has not been asked for.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    first: AwareDatetime
    """The earliest row that the exchange has."""
    until: AwareDatetime
    """The moment up to which it was asked; the next question begins there."""
    missing: int = Field(ge=0)
    """Rows that it did not have between the two."""

    @property
    def span(self) -> tuple[pd.Timestamp, pd.Timestamp]:
        return pd.Timestamp(self.first).tz_convert("UTC"), pd.Timestamp(self.until).tz_convert("UTC")


def _top_up(
    kind: Kind,
    underlying: str,
    root: Path,
    step: pd.Timedelta,
    fetch: Callable[[pd.Timestamp | None], pd.DataFrame],
) -> Additions:
    """Ask from where the last question ended, or for everything: at first, and where rows went missing since."""
    path = root / kind / underlying / "asked.json"
    asked, stored = _load_asked(path), stored_times(root, kind, underlying)
    if asked is not None and _missing(stored, *asked.span, step) > asked.missing:
        asked = None
    frame = fetch(None if asked is None else asked.span[1])
    try:
        added = add_rows(frame, kind, root)
    except RecordingConflictError as error:
        raise RecordingConflictError(
            f"{error}. To have the exchange's, delete the file named and record again; its other rows come back with it"
        ) from error
    stored = stored_times(root, kind, underlying)
    if len(frame):
        times = frame[TABLES[kind].key[1]]
        first = times.min() if asked is None else asked.span[0]
        until = times.max() + step
        known = _Asked(first=first, until=until, missing=_missing(stored, first, until, step))
        write_atomic(path, known.model_dump_json().encode() + b"\n", overwrite=True)
    if stored.empty:
        return added
    return replace(added, missing=_missing(stored, stored.iloc[0], stored.iloc[-1] + step, step))


def _load_asked(path: Path) -> _Asked | None:
    if not path.exists():
        return None
    try:
        return _Asked.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise ValueError(
            f"{path}: does not say what was asked for; delete it, and the whole series is asked for again"
        ) from error


def _missing(stored: pd.Series, first: pd.Timestamp, until: pd.Timestamp, step: pd.Timedelta) -> int:
    """Steps of [first, until) of which no row is stored."""
    return int((until - first) / step) - int(((stored >= first) & (stored < until)).sum())
