"""Asking a source again when it fails for a while, and giving up with one clear error when it refuses.

Belongs here: which failures pass, how long to wait, what the final error says; for ccxt's clients and for `requests`.
Does not belong here: what is asked (`klines.ccxt_source` and its siblings).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

import requests
from pydantic import BaseModel, ConfigDict, Field
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt

T = TypeVar("T")

# Request time-out, Binance's ban of an address, too early, too many requests.
_TEMPORARY_STATUS = frozenset({408, 418, 425, 429})
_LONGEST_QUOTE = 200


class RetryParams(BaseModel):
    """How patiently a source is asked."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    attempts: int = Field(
        default=8, ge=1, description="how often one question is asked before it is given up"
    )
    first_wait_seconds: float = Field(
        default=1.0, ge=0, description="wait before the second attempt, seconds; it doubles from then on"
    )
    longest_wait_seconds: float = Field(default=60.0, ge=0, description="longest of these waits, seconds")
    longest_retry_after_seconds: float = Field(
        default=900.0,
        ge=0,
        description="longest wait that the source itself may ask for (Retry-After), seconds; more is a refusal",
    )
    timeout_seconds: float = Field(default=20.0, gt=0, description="patience with one attempt, seconds")


class SourceRefusedError(OSError):
    """The source refused for good, or every attempt failed. `status` is the HTTP status where there was one."""

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class UnusableAnswerError(OSError):
    """An answer that is not what the source sends: a proxy's page, half a file. Raise it to be asked again."""


def call_with_retries(
    function: Callable[[], T],
    *,
    what: str,
    params: RetryParams,
    on_retry: Callable[[str], None] | None = None,
) -> T:
    """The result of `function`, called until it succeeds, at most `params.attempts` times.

    `function` asks one question, through a ccxt client or `requests` (call `raise_for_status()` there); it sets its
    own time-out (`params.timeout_seconds`). What it returns is not looked at: raise `UnusableAnswerError` for an answer
    that cannot be right. `what` names the question in messages: "binance, BTC/USDT 1h from 2024-01-01".

    Asked again: time-outs, dropped connections, HTTP 408, 418, 425, 429 and 5xx, what ccxt calls a failed operation,
    `UnusableAnswerError`. The wait doubles from `first_wait_seconds` to `longest_wait_seconds`, without chance, and is
    never shorter than the `Retry-After` of the answer. `on_retry` hears of each wait, in words.

    Raises:
        SourceRefusedError: a permanent refusal (other HTTP 4xx, unknown symbol, no permission), at once; the last
            attempt failed; or `Retry-After` is longer than `longest_retry_after_seconds`. One sentence: what was asked,
            what came back, what to do.
        Exception: an error of `function` that does not come from the source passes through unchanged.
    """

    def before_sleep(state: RetryCallState) -> None:
        if on_retry is not None and state.next_action is not None:
            on_retry(f"waiting {state.next_action.sleep:g} s after {_came_back(_error_of(state))}")

    retrying = Retrying(
        stop=stop_after_attempt(params.attempts),
        wait=lambda state: _wait_seconds(state, params),
        retry=retry_if_exception(lambda error: _worth_another(error, params)),
        before_sleep=before_sleep,
        reraise=True,
    )
    try:
        return retrying(function)
    except Exception as error:
        if isinstance(error, SourceRefusedError) or not _from_source(error):
            raise
        raise _refusal(error, what, params) from error


def is_temporary(error: BaseException) -> bool:
    """True where the same question may be answered later."""
    if isinstance(error, UnusableAnswerError):
        return True
    status = _status(error)
    if status is not None and (status in _TEMPORARY_STATUS or status >= 500):
        return True
    if _from_ccxt(error):
        return _is_failed_operation(error, status)
    if status is not None or "CERTIFICATE_VERIFY_FAILED" in str(error):
        return False
    passing = (
        requests.ConnectionError,
        requests.Timeout,
        requests.exceptions.ChunkedEncodingError,
        requests.exceptions.ContentDecodingError,
        requests.exceptions.JSONDecodeError,
        ConnectionError,
        TimeoutError,
    )
    return isinstance(error, passing)


def _is_failed_operation(error: BaseException, status: int | None) -> bool:
    import ccxt

    # ccxt takes 400, 403, 404 and 451 for an exchange that is down; asked again, they answer the same for ever.
    if status is not None and isinstance(error, ccxt.ExchangeNotAvailable):
        return isinstance(error, ccxt.OnMaintenance)
    return isinstance(error, ccxt.OperationFailed)


def _from_ccxt(error: BaseException) -> bool:
    return type(error).__module__.startswith("ccxt.")


def _from_source(error: BaseException) -> bool:
    known = (requests.RequestException, ConnectionError, TimeoutError, UnusableAnswerError)
    return _from_ccxt(error) or isinstance(error, known)


def _error_of(state: RetryCallState) -> BaseException:
    error = state.outcome.exception() if state.outcome is not None else None
    return error if error is not None else RuntimeError("no error")


def _worth_another(error: BaseException, params: RetryParams) -> bool:
    return is_temporary(error) and (_retry_after(error) or 0.0) <= params.longest_retry_after_seconds


def _wait_seconds(state: RetryCallState, params: RetryParams) -> float:
    doubled = params.first_wait_seconds * 2.0 ** (state.attempt_number - 1)
    return max(min(doubled, params.longest_wait_seconds), _retry_after(_error_of(state)) or 0.0)


def _response(error: BaseException) -> requests.Response | None:
    """The HTTP answer behind an error; ccxt raises its own errors while it handles that of `requests`."""
    behind = (error.__cause__ or error.__context__) if _from_ccxt(error) else error
    return behind.response if isinstance(behind, requests.HTTPError) else None


def _status(error: BaseException) -> int | None:
    response = _response(error)
    return None if response is None else response.status_code


def _retry_after(error: BaseException) -> float | None:
    """Seconds that the answer asks to wait; the header holds them, or a date."""
    response = _response(error)
    text = response.headers.get("Retry-After", "").strip() if response is not None else ""
    if not text:
        return None
    try:
        return max(float(text), 0.0)
    except ValueError:
        pass
    try:
        return max((parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds(), 0.0)
    except (TypeError, ValueError):
        return None


def _came_back(error: BaseException) -> str:
    response = _response(error)
    if response is None:
        root = _root(error)
        cause = "" if root is error else " (" + _shortened(f"{type(root).__name__}: {root}") + ")"
        return _shortened(f"{type(error).__name__}: {error}") + cause
    text = response.text
    body = "an HTML page" if text.lstrip().lower().startswith("<") else _shortened(text)
    return f"HTTP {response.status_code} {response.reason or ''}".rstrip() + (f" ({body})" if body else "")


def _root(error: BaseException) -> BaseException:
    """The first error of the chain: "connection refused" says more than the libraries' wrappings of it."""
    behind = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return error if behind is None else _root(behind)


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST_QUOTE else line[:_LONGEST_QUOTE] + "..."


def _refusal(error: BaseException, what: str, params: RetryParams) -> SourceRefusedError:
    came, status, wait = _came_back(error), _status(error), _retry_after(error)
    if not is_temporary(error):
        message = f"{what}: refused with {came}; {_advice(error, status)}"
    elif wait is not None and wait > params.longest_retry_after_seconds:
        message = (
            f"{what}: {came} asks to wait {wait:g} s, longer than retries.longest_retry_after_seconds"
            f" ({params.longest_retry_after_seconds:g}); run again after that time"
        )
    else:
        message = f"{what}: {params.attempts} attempts failed, the last with {came}; run again later"
    return SourceRefusedError(message, status=status)


def _advice(error: BaseException, status: int | None) -> str:
    names = {c.__name__ for c in type(error).__mro__}
    if status in (403, 451) or names & {"RestrictedLocation", "PermissionDenied"}:
        return "this country or address is not served there: use another exchange, source or base_url"
    if status in (401, 407) or "AuthenticationError" in names:
        return "public data needs no key: check base_url and proxy"
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return "the connection is not trusted: check base_url and proxy"
    return "check exchange, symbol, timeframe, dates and base_url"
