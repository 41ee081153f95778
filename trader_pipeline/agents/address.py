"""Where models are asked: the environment's address, or a server that this program started itself."""

from __future__ import annotations

import os

from trader_pipeline.agents.cache import OWN_SERVER
from trader_pipeline.klines.retrying import checked_address

OPENAI_ADDRESS = "https://api.openai.com/v1"


def address_of_environment() -> str:
    """Where OPENAI_BASE_URL says that models are asked, or OpenAI's own address.

    Raises:
        AddressRefusedError: it is no address, or holds a password.
    """
    return checked_address(os.environ.get("OPENAI_BASE_URL") or OPENAI_ADDRESS)


def asked_address(base_url: str | None = None) -> str:
    """Who answers, in keys and identities: the environment's address, or OWN_SERVER for a `base_url` of our own.

    Raises:
        AddressRefusedError: the environment's is no address, or holds a password.
    """
    return OWN_SERVER if base_url else address_of_environment().rstrip("/")
