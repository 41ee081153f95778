"""A ccxt client for public data, as this project wants it.

Belongs here: how the client is set up. Does not belong here: what is asked of it.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from trader_pipeline.klines.contact import QuickConnectAdapter
from trader_pipeline.klines.retrying import (
    RetryParams,
    UnusableAnswerError,
    checked_address,
    refuse_redirects,
)


@contextmanager
def open_client(exchange: str, base_url: str | None, retries: RetryParams) -> Iterator[Any]:
    """A ccxt client for public data: no key, the exchange's rate limit kept, spot markets alone.

    An answer that is no JSON raises `UnusableAnswerError`, where ccxt would take a proxy's page for an empty list.
    `base_url` replaces scheme and host of every address of the exchange; the paths stay.

    Raises:
        ValueError: ccxt knows no such exchange; the message names the nearest one.
        AddressRefusedError: `base_url` is no address, or holds a password.
    """
    import ccxt

    if exchange not in ccxt.exchanges:
        near = difflib.get_close_matches(exchange, ccxt.exchanges, 1)
        raise ValueError(f"ccxt knows no exchange {exchange!r}{f'; did you mean {near[0]}?' if near else ''}")
    client = getattr(ccxt, exchange)({"enableRateLimit": True, "requests_trust_env": True})
    client.timeout = int(retries.timeout_seconds * 1000)
    client.has["fetchCurrencies"] = False  # coins' networks and fees: a large answer, or one that needs a key
    market_types = client.options.get("fetchMarkets")
    if isinstance(market_types, dict) and isinstance(market_types.get("types"), list):
        market_types["types"] = ["spot"]
    if base_url is not None:
        client.urls["api"] = _rebased(client.urls["api"], checked_address(base_url).rstrip("/"))
    refuse_redirects(client.session)
    for scheme in ("http://", "https://"):
        client.session.mount(scheme, QuickConnectAdapter())
    client.fetch = _json_only(client.fetch)
    try:
        yield client
    finally:
        client.session.close()


def _rebased(urls: Any, base_url: str) -> Any:
    if isinstance(urls, dict):
        return {name: _rebased(url, base_url) for name, url in urls.items()}
    return base_url + urlsplit(urls).path if isinstance(urls, str) else urls


def _json_only(fetch: Callable[..., Any]) -> Callable[..., Any]:
    def fetch_json(url: str, method: str = "GET", headers: Any = None, body: Any = None) -> Any:
        answer = fetch(url, method, headers, body)
        if not isinstance(answer, dict | list):
            raise UnusableAnswerError(f"{url} answered no JSON: {' '.join(str(answer).split())[:80]!r}")
        return answer

    return fetch_json
