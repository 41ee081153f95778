"""What is known at a moment, and the calls listed then: the arrays that chain and backtest share.

Belongs here: the two types. Modelled listings are built in `chain`, recorded ones in `recorded_chain`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

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

    def with_costs(self, multiplier: float) -> Listing:
        """Quoted half-spreads scaled; a bid above the mark gets no better by higher costs."""
        share = np.where(self.bid_share > 0, self.bid_share * multiplier, self.bid_share)
        return replace(self, bid_share=share)
