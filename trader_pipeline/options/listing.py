"""What is known at a moment, and the calls listed then: the arrays that chain and backtest share.

Belongs here: the two types. Modelled listings are built in `chain`, recorded ones in `recorded_chain`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

QUOTE_COLUMNS = ("strike", "iv", "delta", "mark_price", "bid_price", "ask_price")


@dataclass(frozen=True)
class Moments:
    """Times at which calls are listed, and what is known then: arrays of one length.

    `time` in epoch seconds; `known` is the position of the last candle closed by then, -1 for none; `spot` its
    close; `level` and `realised` its volatilities (see `surface.Levels`).
    """

    time: np.ndarray
    known: np.ndarray
    spot: np.ndarray
    level: np.ndarray
    realised: np.ndarray

    def at(self, positions: np.ndarray) -> Moments:
        """Some of the moments."""
        return Moments(
            self.time[positions],
            self.known[positions],
            self.spot[positions],
            self.level[positions],
            self.realised[positions],
        )


@dataclass(frozen=True)
class Listing:
    """Calls listed at each moment in CSR form: those of moment `m` are rows `offsets[m]:offsets[m + 1]`.

    `expiry` holds positions in the expiries given; `quotes` the columns of `QUOTE_COLUMNS`. `iv_ratio` is a call's
    volatility over the model's (1 where it is modelled), `bid_share` its (mark - bid) / mark, `basis` its forward over
    the index, ln(F / I) per year (both NaN where modelled). `quoted` tells per moment whether there was anything to
    list from: always, where calls are modelled. `forward` is the quoted one; None: the model's.
    """

    offsets: np.ndarray
    expiry: np.ndarray
    quotes: np.ndarray
    iv_ratio: np.ndarray
    bid_share: np.ndarray
    basis: np.ndarray
    quoted: np.ndarray
    forward: np.ndarray | None = None

    @classmethod
    def modelled(cls, offsets: np.ndarray, expiry: np.ndarray, quotes: np.ndarray) -> Listing:
        """Calls that the model lists."""
        count = len(expiry)
        quoted = np.ones(len(offsets) - 1, dtype=bool)
        unknown = np.full(count, np.nan)
        return cls(offsets, expiry, quotes, np.ones(count), unknown, unknown, quoted)

    def at(self, moments: np.ndarray) -> Listing:
        """The listing at some of the moments."""
        rows, counts = self.rows(moments), np.diff(self.offsets)[moments]
        offsets = np.concatenate([[0], np.cumsum(counts)])
        return Listing(
            offsets,
            self.expiry[rows],
            self.quotes[rows],
            self.iv_ratio[rows],
            self.bid_share[rows],
            self.basis[rows],
            self.quoted[moments],
            None if self.forward is None else self.forward[rows],
        )

    def rows(self, moments: np.ndarray) -> np.ndarray:
        """Rows that belong to the given moments, moment by moment."""
        starts, ends = self.offsets[moments], self.offsets[moments + 1]
        if not len(moments):
            return np.array([], dtype=np.int64)
        return np.concatenate([np.arange(a, b) for a, b in zip(starts, ends, strict=True)])
