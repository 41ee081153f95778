"""Asking a source again when it fails for a while, and giving up with one clear error when it refuses.

Belongs here: which failures pass, how long to wait, what the final error says, which addresses are never asked; for
ccxt's clients and for `requests`.
Does not belong here: what is asked (`klines.ccxt_source` and its siblings).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Annotated, Any, TypeVar
from urllib.parse import urljoin, urlsplit

import requests
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from tenacity import RetryCallState, Retrying, retry_if_exception, sleep_using_event

from trader_pipeline.klines.contact import Contact, error_chain, is_unreachable

T = TypeVar("T")

# Request time-out, Binance's ban of an address, too early, too many requests.
_TEMPORARY_STATUS = frozenset({408, 418, 425, 429})
_LONGEST_QUOTE = 200
_ADDRESS = re.compile(r"https?://([^\s/'\"]+)/(?:[^\s?'\"]*/)?([^\s/?'\"]*)(?:\?[^\s'\"]*)?")


class RetryParams(BaseModel):
    """How patiently a source is asked."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    attempts: int = Field(
        default=8, ge=1, description="how often one question is asked before it is given up"
    )
    unreachable_attempts: int = Field(
        default=3,
        ge=1,
        description="attempts while the host cannot even be reached and has not answered anything before",
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


class AddressRefusedError(OSError):
    """An address that nobody is asked at. No `ValueError`: pydantic would quote the address, and a password in it."""


def checked_address(base_url: str) -> str:
    """`base_url` where it is an address of http or https with a host, and names no user and no password.

    An address is stored, logged and printed as part of the settings and of errors, so a secret has no place in it.

    Raises:
        AddressRefusedError: it is none. The message does not quote it.
    """
    try:
        parts = urlsplit(base_url)
        host, named_port = parts.hostname, parts.port != 0
    except ValueError:
        host, named_port = None, False
    if "@" in base_url:
        raise AddressRefusedError(
            "base_url holds a user name or password, which settings and messages would show: name the address without"
            " them, and put them into ~/.netrc, or, those of a proxy, into the variable HTTPS_PROXY"
        )
    if not (host and named_port and parts.scheme in ("http", "https")) or parts.query or parts.fragment:
        raise AddressRefusedError(
            "base_url is no address: write http:// or https://, a host and where needed a path, such as"
            " https://mirror.example/binance"
        )
    return base_url


BaseUrl = Annotated[str, AfterValidator(checked_address)]
"""A setting that `checked_address` has seen. Clients look again: a copy of the settings skips validation."""


def refuse_redirects(session: requests.Session) -> None:
    """Make `session` raise `SourceRefusedError` where an answer sends it elsewhere; the other address is not asked."""

    def refuse(response: requests.Response, *_: Any, **__: Any) -> None:
        if response.is_redirect:
            asked, target = (
                urlsplit(response.url),
                urlsplit(urljoin(response.url, response.headers["Location"])),
            )
            raise SourceRefusedError(
                f"{asked.scheme}://{asked.hostname} sends on to {target.scheme}://{target.hostname}"
                f" (HTTP {response.status_code}), and redirects are not followed; if that is the address to ask, set"
                " base_url to it. A proxy that asks for a login answers so too",
                status=response.status_code,
            )

    session.hooks["response"].append(refuse)


def call_with_retries(
    function: Callable[[], T],
    *,
    what: str,
    params: RetryParams,
    on_retry: Callable[[str], None] | None = None,
    contact: Contact | None = None,
) -> T:
    """The result of `function`, called until it succeeds, at most `params.attempts` times.

    `function` asks one question, through a ccxt client or `requests` (call `raise_for_status()` there); it sets its
    own time-out (`params.timeout_seconds`). What it returns is not looked at: raise `UnusableAnswerError` for an answer
    that cannot be right. `what` names the question in messages: "binance, BTC/USDT 1h from 2024-01-01".

    Asked again: time-outs, dropped connections, HTTP 408, 418, 425, 429 and 5xx, what ccxt calls a failed operation,
    `UnusableAnswerError`. The wait doubles from `first_wait_seconds` to `longest_wait_seconds`, without chance, and is
    never shorter than the `Retry-After` of the answer. `on_retry` hears of each wait, in words. With a `contact`, a
    host that has not answered anything yet and cannot be reached at all is tried `unreachable_attempts` times only.

    Raises:
        SourceRefusedError: a permanent refusal (other HTTP 4xx, unknown symbol, no permission), at once; the last
            attempt failed; or `Retry-After` is longer than `longest_retry_after_seconds`. One sentence: what was asked,
            what came back, what to do.
        Exception: an error of `function` that does not come from the source passes through unchanged.
    """

    def before_sleep(state: RetryCallState) -> None:
        if on_retry is not None and state.next_action is not None:
            on_retry(f"waiting {state.next_action.sleep:g} s after {_cause(_error_of(state))}")

    known = contact or Contact()
    known.made |= contact is None  # a question without its run's knowledge is asked with full patience
    retrying = Retrying(
        sleep=sleep_using_event(known.ended),
        stop=lambda state: _is_enough(state, params, known),
        wait=lambda state: _wait_seconds(state, params),
        retry=retry_if_exception(lambda error: _worth_another(error, params)),
        before_sleep=before_sleep,
        reraise=True,
    )
    try:
        return retrying(_heeding(function, known))
    except Exception as error:
        if isinstance(error, SourceRefusedError) or not _from_source(error):
            raise
        attempts = int(retrying.statistics["attempt_number"])
        if not known.made and is_unreachable(error):
            raise _unreached(error, what, attempts) from error
        raise _refusal(error, what, params, attempts) from error


def _heeding(function: Callable[[], T], contact: Contact) -> Callable[[], T]:
    """`function`, noting whether the host answered, be it with a refusal."""

    def ask() -> T:
        if contact.ended.is_set():
            raise SourceRefusedError("not asked: the run has ended")
        try:
            answer = function()
        except Exception as error:
            contact.made |= _response(error) is not None or isinstance(error, UnusableAnswerError)
            raise
        contact.made = True
        return answer

    return ask


def _is_enough(state: RetryCallState, params: RetryParams, contact: Contact) -> bool:
    unreached = not contact.made and is_unreachable(_error_of(state))
    most = min(params.attempts, params.unreachable_attempts) if unreached else params.attempts
    return state.attempt_number >= most


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
    """Seconds that the answer asks to wait."""
    response = _response(error)
    return None if response is None else seconds_to_wait(response.headers.get("Retry-After", ""))


def seconds_to_wait(retry_after: str) -> float | None:
    """The header `Retry-After` in seconds from now: it holds them, or a date (RFC 9110, 10.2.3); None for neither."""
    try:
        seconds = float(retry_after)
        return None if math.isnan(seconds) else max(seconds, 0.0)
    except ValueError:
        pass
    try:
        return max((parsedate_to_datetime(retry_after) - datetime.now(UTC)).total_seconds(), 0.0)
    except (TypeError, ValueError):
        return None


def _came_back(error: BaseException) -> str:
    wrapped = _response(error) is None and _root(error) is not error
    return _cause(error) + (" (" + _shortened(f"{type(error).__name__}: {error}") + ")" if wrapped else "")


def _cause(error: BaseException) -> str:
    """The answer, or the first error of the chain, in few words."""
    response = _response(error)
    if response is None:
        root = _root(error)
        return _shortened(f"{type(root).__name__}: {root}")
    text = response.text
    body = "an HTML page" if text.lstrip().lower().startswith("<") else _shortened(text)
    return f"HTTP {response.status_code} {response.reason or ''}".rstrip() + (f" ({body})" if body else "")


def _root(error: BaseException) -> BaseException:
    """The first error of the chain: "connection refused" says more than the libraries' wrappings of it."""
    *_, first = error_chain(error)
    return first


def _shortened(text: str) -> str:
    """One line of bounded length; of an address the host and the last part stay, so that the reason has room."""
    line = _ADDRESS.sub(r"\1/../\2", " ".join(text.split()))
    return line if len(line) <= _LONGEST_QUOTE else line[:_LONGEST_QUOTE] + "..."


def _unreached(error: BaseException, what: str, attempts: int) -> SourceRefusedError:
    return SourceRefusedError(
        f"{what}: the host could not be reached, in {attempts} attempts ({_cause(error)}); check the"
        " network, the proxy (HTTPS_PROXY, NO_PROXY) and base_url, then run again"
    )


def _refusal(error: BaseException, what: str, params: RetryParams, attempts: int) -> SourceRefusedError:
    came, status, wait = _came_back(error), _status(error), _retry_after(error)
    if not is_temporary(error):
        message = f"{what}: refused with {came}; {_advice(error, status)}"
    elif wait is not None and wait > params.longest_retry_after_seconds:
        message = (
            f"{what}: {came} asks to wait {wait:g} s, longer than retries.longest_retry_after_seconds"
            f" ({params.longest_retry_after_seconds:g}); run again after that time"
        )
    else:
        message = f"{what}: {attempts} attempts failed, the last with {came}; run again later"
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
