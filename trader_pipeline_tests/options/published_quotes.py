"""Quotes in the columns in which others publish them."""

import pandas as pd


def published(quotes: pd.DataFrame) -> pd.DataFrame:
    """Quotes in the columns in which others publish them."""
    frame = quotes.rename(
        columns={
            "quote_time": "timestamp",
            "instrument": "instrument_name",
            "forward": "underlying_price",
            "iv": "mark_iv",
        }
    )
    return frame.assign(currency="BTC")
