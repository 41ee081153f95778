"""Whether anybody is there at all: a host that never answered is given up soon, one that has is asked with patience.

Belongs here: what the questions of one run know of their host, and which errors say that nobody is there.
Does not belong here: how often is asked, and what the final error says (`klines.retrying`).
"""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Iterator

import requests
from requests.adapters import HTTPAdapter

LONGEST_CONNECT_SECONDS = 3.05
"""Patience with the opening of a connection; a host that is there opens one within a second or not at all."""

_NO_WAY = frozenset({errno.ECONNREFUSED, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN})


class Contact:
    """What the questions of one run know of their host together, in whatever thread they are asked."""

    def __init__(self) -> None:
        self.made = False
        """True once the host has answered anything."""
        self.ended = threading.Event()
        """Set when the run is over: nothing is asked again after that."""


class QuickConnectAdapter(HTTPAdapter):
    """Gives up opening a connection after `LONGEST_CONNECT_SECONDS`; the time-out asked for is that of the answer."""

    def send(self, request, stream=False, timeout=None, verify=True, cert=None, proxies=None):  # type: ignore[no-untyped-def]
        if isinstance(timeout, int | float):
            timeout = (min(timeout, LONGEST_CONNECT_SECONDS), timeout)
        return super().send(request, stream, timeout, verify, cert, proxies)


def is_unreachable(error: BaseException) -> bool:
    """True where nobody was there to answer: no address for the name, connection refused, no route, no proxy."""
    for behind in error_chain(error):
        if isinstance(behind, socket.gaierror | requests.ConnectTimeout | requests.exceptions.ProxyError):
            return True
        if isinstance(behind, OSError) and behind.errno in _NO_WAY:
            return True
    return False


def error_chain(error: BaseException) -> Iterator[BaseException]:
    """The error and those behind it, the first that happened last."""
    behind: BaseException | None = error
    while behind is not None:
        yield behind
        behind = behind.__cause__ or (None if behind.__suppress_context__ else behind.__context__)
