"""A file of quotes in the columns in which others publish them."""

import pytest

from trader_pipeline_tests.options.deribit_server import (
    built_in_quotes,
    with_puts,
)
from trader_pipeline_tests.options.published_quotes import published


@pytest.fixture
def quotes_csv(tmp_path):
    path = tmp_path / "quotes.csv"
    published(with_puts(built_in_quotes())).to_csv(path, index=False)
    return path
