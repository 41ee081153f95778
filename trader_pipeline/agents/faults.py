"""Errors of hosts and models sorted: what is a fault of one answer, what is asked again, what stops the run.

Belongs here: kinds of errors, waits, the sentences for what a user has to mend. Does not belong here: asking
(`openai_asker`), what a fault means for a trade (`strategy`, `covered_calls`).
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Sequence
from urllib.parse import urljoin, urlsplit

import agents
import openai
from tenacity import RetryCallState

from trader_pipeline.agents.asking import AskingError, Fault
from trader_pipeline.klines.retrying import seconds_to_wait

LONGEST_WAIT_SECONDS = 30.0
"""Where the host does not say how long to wait."""
LONGEST_RETRY_AFTER_SECONDS = 120.0
"""A host that asks for a longer wait is not waited for: the answer counts as a rate limit."""
_TEMPORARY_STATUS = (408, 409, 425)
_TOO_LONG = ("context_length_exceeded", "string_above_max_length")
_NO_CREDIT = ("insufficient_quota", "billing_not_active", "billing_hard_limit_reached")
_LONGEST_QUOTE = 200
_NO_CHOICES = "ChatCompletion response has no choices"
"""How openai-agents begins the error of an HTTP 200 that holds no answer: a host in trouble, and no model's answer."""


class UnusableReplyError(Exception):
    """An answer of HTTP 200 that is no chat completion: a proxy's page, half a JSON text."""


def fault_of(error: BaseException) -> Fault | None:
    """What kind of fault an error of one attempt is; None where asking again cannot help, or it is no error of a host.

    Errors that nobody reached the host with are `server`: the caller knows whether it ever answered.
    """
    if isinstance(error, agents.ModelRefusalError):
        return "refusal"
    if isinstance(error, agents.ModelBehaviorError) and str(error).startswith(_NO_CHOICES):
        return "server"
    if isinstance(error, agents.ModelBehaviorError | agents.MaxTurnsExceeded):
        return "malformed"
    if isinstance(error, openai.APITimeoutError | TimeoutError):
        return "timeout"
    if isinstance(error, UnusableReplyError | openai.APIConnectionError | openai.APIResponseValidationError):
        return "server"
    if isinstance(error, openai.APIStatusError):
        return _fault_of_status(error)
    return None


def _fault_of_status(error: openai.APIStatusError) -> Fault | None:
    if error.code in _NO_CREDIT:
        return None
    if error.status_code == 429:
        return "rate_limit"
    if error.status_code >= 500 or error.status_code in _TEMPORARY_STATUS:
        return "timeout" if error.status_code == 408 else "server"
    too_long = error.code in _TOO_LONG or "context length" in str(error.body).lower()
    return "context" if too_long else None


def is_worth_another(error: BaseException) -> bool:
    """True where the same question may be answered when it is put again: not if it is too long."""
    asked_to_wait = retry_after(error) or 0.0
    return fault_of(error) not in (None, "context") and asked_to_wait <= LONGEST_RETRY_AFTER_SECONDS


def wait_seconds(state: RetryCallState, first: float) -> float:
    """Seconds before the next attempt: doubled each time, and never less than the host's Retry-After."""
    error = state.outcome.exception() if state.outcome is not None else None
    doubled = min(first * 2.0 ** (state.attempt_number - 1), LONGEST_WAIT_SECONDS)
    return max(doubled, (retry_after(error) if error is not None else None) or 0.0)


def retry_after(error: BaseException) -> float | None:
    """Seconds that the host asks to wait."""
    if not isinstance(error, openai.APIStatusError):
        return None
    return seconds_to_wait(error.response.headers.get("retry-after", ""))


def names_setting(error: openai.APIStatusError, name: str) -> bool:
    """Whether the host refuses the question over this setting; not every host has a field to say it in."""
    if error.param:
        return error.param == name
    return fault_of(error) is None and re.search(rf"\b{name}\b", json.dumps(error.body)) is not None


def unreachable(address: str, attempts: int, *, silent_seconds: float | None = None) -> AskingError:
    """Nobody ever answered at `address`; silent_seconds: who listens there said nothing for so long."""
    if silent_seconds is not None:
        return AskingError(
            f"{address} never answered, in {attempts} attempts of {silent_seconds:g} seconds: check OPENAI_BASE_URL, or"
            " wait longer with --timeout"
        )
    return AskingError(
        f"no model answers at {address}, in {attempts} attempts: start the server there, or set OPENAI_BASE_URL to the"
        " address of one that runs (trader-pipeline agents serve starts one)"
    )


def stopping(
    error: openai.APIStatusError, *, address: str, model: str, key: str, models: Sequence[str]
) -> AskingError:
    """The one line for an error that no repetition mends; it never holds `key`.

    Args:
        models: what the host says that it has, to name the nearest; empty where it does not say.
    """
    came = f"HTTP {error.status_code}" + (f": {said}" if (said := _quote(error, key)) else "")
    if error.status_code in (401, 403):
        # What a host says about a key often holds part of it: not quoted.
        return AskingError(
            f"{address} does not accept the key (HTTP {error.status_code}): set OPENAI_API_KEY to a key of that"
            f" address that may use {model!r}, then give the same command again"
        )
    if 300 <= error.status_code < 400:
        return AskingError(_sent_on(error, address))
    if error.status_code == 404:
        return AskingError(f"{address} has no model {model!r} ({came}): {_choice(model, models)}")
    if error.code in _NO_CREDIT:
        return AskingError(
            f"{address} asks for payment ({came}): top up the account, then give the command again"
        )
    return AskingError(
        f"{address} refuses the question ({came}): check --model, the temperature and OPENAI_BASE_URL"
    )


def _sent_on(error: openai.APIStatusError, address: str) -> str:
    target = urlsplit(urljoin(address, error.response.headers.get("location", "")))
    return (
        f"{address} sends on to {target.scheme}://{target.hostname} (HTTP {error.status_code}), and redirects are not"
        " followed; if that is the address to ask, set OPENAI_BASE_URL to it"
    )


def _choice(model: str, models: Sequence[str]) -> str:
    if not models:
        return "check --model, and OPENAI_BASE_URL, which usually ends in /v1"
    near = difflib.get_close_matches(model, models, 1, cutoff=0.3)
    known = ", ".join(models[:5]) + (", ..." if len(models) > 5 else "")
    return f"use --model {near[0] if near else models[0]} (known there: {known})"


def _quote(error: openai.APIStatusError, key: str) -> str:
    body = error.body
    text = body.get("message") if isinstance(body, dict) else body
    line = " ".join((text if isinstance(text, str) else json.dumps(body)).split()) if body else ""
    line = line.replace(key, "***") if key else line
    return line if len(line) <= _LONGEST_QUOTE else line[:_LONGEST_QUOTE] + "..."
