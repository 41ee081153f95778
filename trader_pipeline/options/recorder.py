"""Recording Deribit's public data: ask the exchange, store the answer among the recordings.

Belongs here: what is asked for again and from where on. Asking is in `options.deribit`, storing in
`options.recordings`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from trader_pipeline.options.deribit import (
    DeribitParams,
    SnapshotReport,
    deribit_client,
    fetch_delivery_prices,
    fetch_option_snapshot,
    fetch_volatility_index,
)
from trader_pipeline.options.recordings import Additions, add_rows, stored_times


def record_all(
    underlyings: tuple[str, ...], params: DeribitParams, root: Path, *, now: pd.Timestamp
) -> Iterator[str]:
    """Snapshot, volatility index and delivery prices of each coin; yields a line of text as each is stored.

    Raises:
        SourceRefusedError: the exchange refuses or does not answer; what was stored before stays.
        RecordingConflictError: it now says otherwise than what is stored.
    """
    client = deribit_client(params)
    for coin in underlyings:
        yield record_snapshot(coin, params, root, client=client)[1].summary()
        for additions in (
            record_volatility_index(coin, params, root, now=now, client=client),
            record_delivery_prices(coin, params, root, client=client),
        ):
            yield f"{coin}: {additions.summary()}"


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
    """Fetch and store the hours after the last one stored; on first use from the index's beginning.

    Raises:
        SourceRefusedError: as above.
    """
    stored = stored_times(root, "volatility_index", underlying)
    start = stored.max() + pd.Timedelta(hours=1) if len(stored) else None
    frame = fetch_volatility_index(underlying, params, start=start, end=now, client=client)
    return add_rows(frame, "volatility_index", root)


def record_delivery_prices(
    underlying: str, params: DeribitParams, root: Path, *, client: Any = None
) -> Additions:
    """Fetch and store the delivery prices after the last one stored; on first use all of them.

    Raises:
        SourceRefusedError: as above.
    """
    stored = stored_times(root, "delivery_prices", underlying)
    frame = fetch_delivery_prices(
        underlying, params, after=stored.max() if len(stored) else None, client=client
    )
    return add_rows(frame, "delivery_prices", root)
