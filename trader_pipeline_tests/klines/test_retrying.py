"""Retries with real errors: of `requests` and of ccxt, from a server on this machine."""

import contextlib
import threading
import time
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import ccxt
import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from trader_pipeline.klines.contact import Contact, is_unreachable
from trader_pipeline.klines.retrying import (
    AddressRefusedError,
    BaseUrl,
    RetryParams,
    SourceRefusedError,
    UnusableAnswerError,
    call_with_retries,
    checked_address,
    is_temporary,
    refuse_redirects,
    seconds_to_wait,
)
from trader_pipeline_tests.klines.redirecting import redirecting

QUICK = RetryParams(attempts=4, first_wait_seconds=0.001, longest_wait_seconds=0.004, timeout_seconds=5)
Answer = tuple[int, dict[str, str], bytes]


class _Answers:
    """A server that gives one answer after the other; the last one again and again."""

    def __init__(self, *answers: Answer) -> None:
        self.answers, self.asked = list(answers), 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, headers, body = outer.answers[min(outer.asked, len(outer.answers) - 1)]
                outer.asked += 1
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Silence."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(
            target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        ).start()

    def get(self) -> str:
        with requests.Session() as session:
            session.trust_env = False
            answer = session.get(self.url, timeout=5)
        answer.raise_for_status()
        return answer.text


@pytest.fixture
def serve() -> Iterator[type[_Answers]]:
    servers: list[_Answers] = []

    class Serving(_Answers):
        def __init__(self, *answers: Answer) -> None:
            super().__init__(*answers)
            servers.append(self)

    yield Serving
    for server in servers:
        server.server.shutdown()
        server.server.server_close()


@pytest.mark.parametrize("status", [408, 418, 425, 429, 500, 502, 503, 504])
def test_passing_failures_are_asked_again(serve: type[_Answers], status: int) -> None:
    heard: list[str] = []
    server = serve((status, {}, b""), (status, {}, b"busy"), (200, {}, b"fine"))
    assert call_with_retries(server.get, what="a page", params=QUICK, on_retry=heard.append) == "fine"
    assert server.asked == 3
    assert [h.split(" after HTTP ")[0] for h in heard] == ["waiting 0.001 s", "waiting 0.002 s"]
    assert str(status) in heard[0]


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        (400, "check exchange"),
        (401, "no key"),
        (403, "not served there"),
        (404, "check exchange"),
        (451, "not served"),
    ],
)
def test_permanent_refusals_are_raised_at_once(serve: type[_Answers], status: int, advice: str) -> None:
    server = serve((status, {}, b'{"msg": "no"}'))
    with pytest.raises(
        SourceRefusedError, match=rf"^BTC candles: refused with HTTP {status} .*{advice}"
    ) as caught:
        call_with_retries(server.get, what="BTC candles", params=QUICK)
    assert (server.asked, caught.value.status) == (1, status)
    assert isinstance(caught.value, OSError)


def test_used_up_attempts_say_how_many_and_what_came_last(serve: type[_Answers]) -> None:
    server = serve((503, {}, b"<html>maintenance</html>"))
    with pytest.raises(
        SourceRefusedError, match=r"a page: 4 attempts failed, the last with HTTP 503 .*HTML page"
    ):
        call_with_retries(server.get, what="a page", params=QUICK)
    assert server.asked == 4


def test_retry_after_is_waited_even_beyond_the_longest_wait(serve: type[_Answers]) -> None:
    server = serve((429, {"Retry-After": "0.15"}, b""), (200, {}, b"fine"))
    begun = time.perf_counter()
    assert call_with_retries(server.get, what="a page", params=QUICK) == "fine"
    assert time.perf_counter() - begun >= 0.15


def test_retry_after_beyond_the_stated_maximum_is_a_refusal(serve: type[_Answers]) -> None:
    server = serve((418, {"Retry-After": "259200"}, b"banned"))
    with pytest.raises(
        SourceRefusedError, match=r"asks to wait 259200 s, longer than .*\(900\); run again after"
    ):
        call_with_retries(server.get, what="a page", params=QUICK)
    assert server.asked == 1


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("", None),
        ("soon", None),
        ("nan", None),
        ("7", 7),
        (" 2.5 ", 2.5),
        ("-3", 0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
    ],
)  # fmt: skip
def test_the_header_is_seconds_or_a_date_or_nothing(header: str, seconds: float | None) -> None:
    assert seconds_to_wait(header) == seconds


def test_retry_after_may_be_a_date(serve: type[_Answers]) -> None:
    tomorrow = format_datetime(datetime.now(UTC) + timedelta(days=1), usegmt=True)
    server = serve((503, {"Retry-After": tomorrow}, b""))
    with pytest.raises(SourceRefusedError, match=r"asks to wait 86[34]"):
        call_with_retries(server.get, what="a page", params=QUICK)
    garbled = serve((503, {"Retry-After": "soon"}, b""), (200, {}, b"fine"))
    assert call_with_retries(garbled.get, what="a page", params=QUICK) == "fine"


def test_refused_connection_is_asked_again_and_named() -> None:
    def ask() -> None:
        requests.get("http://127.0.0.1:1/", timeout=1, proxies={"http": "", "https": ""})

    with pytest.raises(SourceRefusedError, match=r"4 attempts failed.*Connection refused"):
        call_with_retries(ask, what="a page", params=QUICK)


def test_answer_found_unusable_is_asked_for_again() -> None:
    left = [UnusableAnswerError("half a file")] * 2

    def ask() -> str:
        if left:
            raise left.pop()
        return "whole"

    assert call_with_retries(ask, what="a file", params=QUICK) == "whole"


def test_errors_that_do_not_come_from_the_source_pass_through_unchanged() -> None:
    calls: list[int] = []

    def ask() -> None:
        calls.append(1)
        raise PermissionError("disk is read-only")

    with pytest.raises(PermissionError, match="read-only"):
        call_with_retries(ask, what="a page", params=QUICK)
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("error", "temporary"),
    [
        (ccxt.RequestTimeout("late"), True),
        (ccxt.NetworkError("reset"), True),
        (ccxt.RateLimitExceeded("slow down"), True),
        (ccxt.OnMaintenance("back soon"), True),
        (ccxt.BadResponse("?"), True),
        (ccxt.BadSymbol("BTC/MOON"), False),
        (ccxt.AuthenticationError("who?"), False),
        (ccxt.RestrictedLocation("not here"), False),
        (ccxt.NotSupported("fetchOHLCV"), False),
        (requests.exceptions.ChunkedEncodingError("cut"), True),
        (requests.exceptions.InvalidURL("http:/"), False),
        (requests.exceptions.SSLError("CERTIFICATE_VERIFY_FAILED"), False),
        (ConnectionResetError(), True),
        (FileNotFoundError(), False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_errors_are_told_apart(error: Exception, temporary: bool) -> None:
    assert is_temporary(error) is temporary


@pytest.mark.parametrize(
    ("status", "temporary"), [(403, False), (404, False), (451, False), (429, True), (502, True)]
)
def test_status_behind_an_error_of_ccxt_decides(serve: type[_Answers], status: int, temporary: bool) -> None:
    """ccxt calls a geo block "exchange not available", which would be asked again for ever."""
    client = ccxt.binance({"timeout": 5000})
    client.urls["api"]["public"] = serve((status, {}, b"")).url
    with pytest.raises(ccxt.NetworkError) as caught:
        client.public_get_time()
    assert is_temporary(caught.value) is temporary


@settings(max_examples=50, deadline=None)
@given(failures=st.integers(0, 8), attempts=st.integers(1, 8))
def test_number_of_calls_never_exceeds_attempts(failures: int, attempts: int) -> None:
    calls: list[int] = []

    def ask() -> int:
        calls.append(1)
        if len(calls) <= failures:
            raise TimeoutError("late")
        return len(calls)

    params = RetryParams(attempts=attempts, first_wait_seconds=0)
    if failures < attempts:
        assert call_with_retries(ask, what="a page", params=params) == failures + 1
    else:
        with pytest.raises(SourceRefusedError):
            call_with_retries(ask, what="a page", params=params)
    assert len(calls) == min(failures + 1, attempts)


def test_settings_that_cannot_work_are_refused() -> None:
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        RetryParams(attempts=0)
    with pytest.raises(ValidationError, match="Extra inputs"):
        RetryParams(retries=3)


@pytest.mark.parametrize(
    "address",
    [
        "http://user:SECRET@127.0.0.1:9", "https://SECRET@mirror.example", "user:SECRET@mirror.example",
        "ftp://user:SECRET@mirror.example/x", "https://mirror.example/?key=SECRET", "https://mirror.example/#SECRET",
    ],
)  # fmt: skip
def test_address_with_a_secret_is_refused_and_not_quoted(address: str) -> None:
    class Settings(BaseModel):
        base_url: BaseUrl

    for ask in (lambda: checked_address(address), lambda: Settings(base_url=address)):
        with pytest.raises(AddressRefusedError, match=r"netrc|write http") as caught:
            ask()
        chain = "".join(traceback.format_exception(caught.value))
        assert "SECRET" not in str(caught.value)
        assert "input_value" not in chain, "pydantic's own error would quote the address"
        assert ("~/.netrc" in str(caught.value)) == ("@" in address)


@pytest.mark.parametrize(
    "address",
    ["", "127.0.0.1:9", "http://", "file:///etc/passwd", "ftp://x", "https://x:99999", "https://[x"],
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(AddressRefusedError, match=r"write http:// or https://, a host"):
        checked_address(address)


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:9", "https://mirror.example/a/b/", "HTTPS://[::1]:8443"]
)
def test_plain_addresses_pass_unchanged(address: str) -> None:
    assert checked_address(address) == address


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_is_refused_at_once_with_both_hosts_and_the_other_is_not_asked(
    serve: type[_Answers], status: int
) -> None:
    other = serve((200, {}, b"fine"))
    with redirecting(other.url.replace("127.0.0.1", "u:SECRET@localhost"), status=status) as first:

        def ask() -> str:
            with requests.Session() as session:
                session.trust_env = False
                refuse_redirects(session)
                return session.get(first.url, timeout=5).text

        with pytest.raises(SourceRefusedError) as caught:
            call_with_retries(ask, what="a page", params=QUICK)
    assert f"http://127.0.0.1 sends on to http://localhost (HTTP {status})" in str(caught.value)
    assert "SECRET" not in str(caught.value)
    assert (len(first.asked), other.asked, caught.value.status) == (1, 0, status)


def _ask_nobody() -> str:
    """A port on which nobody listens."""
    return requests.get(
        "http://127.0.0.1:1/a/b/page.zip?x=1", timeout=1, proxies={"http": "", "https": ""}
    ).text


def test_host_that_was_never_reached_is_given_up_soon_and_the_error_says_so() -> None:
    heard: list[str] = []
    with pytest.raises(
        SourceRefusedError,
        match=r"^a page: the host could not be reached, in 3 attempts \(ConnectionRefusedError: .*refused\);"
        r" check the network, the proxy \(.*\) and base_url",
    ):
        call_with_retries(
            _ask_nobody,
            what="a page",
            params=QUICK.model_copy(update={"attempts": 8}),
            on_retry=heard.append,
            contact=Contact(),
        )
    assert heard == [
        f"waiting {wait} s after ConnectionRefusedError: [Errno 111] Connection refused"
        for wait in (0.001, 0.002)
    ]


@pytest.mark.parametrize("first", [(200, {}, b"fine"), (503, {}, b""), (404, {}, b"")])
def test_host_that_has_answered_is_asked_with_full_patience(serve: type[_Answers], first: Answer) -> None:
    contact, server = Contact(), serve(first)
    with contextlib.suppress(SourceRefusedError):
        call_with_retries(server.get, what="a page", params=QUICK, contact=contact)
    assert contact.made
    with pytest.raises(
        SourceRefusedError, match="a page: 4 attempts failed, the last with ConnectionRefused"
    ):
        call_with_retries(_ask_nobody, what="a page", params=QUICK, contact=contact)


def test_connection_that_drops_is_no_host_that_is_not_there(serve: type[_Answers]) -> None:
    calls: list[int] = []

    def ask() -> None:
        calls.append(1)
        raise requests.exceptions.ChunkedEncodingError("cut")

    with pytest.raises(SourceRefusedError, match="4 attempts failed"):
        call_with_retries(ask, what="a page", params=QUICK, contact=Contact())
    assert len(calls) == QUICK.attempts


def test_nothing_is_asked_again_once_the_run_has_ended() -> None:
    contact, calls, patient = Contact(), [], QUICK.model_copy(update={"first_wait_seconds": 60.0})

    def ask() -> None:
        calls.append(1)
        raise TimeoutError("late")

    threading.Timer(0.1, contact.ended.set).start()
    begun = time.perf_counter()
    with pytest.raises(SourceRefusedError, match="the run has ended"):
        call_with_retries(
            ask,
            what="a page",
            params=patient.model_copy(update={"longest_wait_seconds": 60.0}),
            contact=contact,
        )
    assert len(calls) == 1
    assert time.perf_counter() - begun < 10


def test_name_without_an_address_and_a_proxy_that_is_not_there_are_told_from_a_slow_answer() -> None:
    with pytest.raises(requests.ConnectionError) as unknown:
        requests.get("http://no-such-host.invalid/", timeout=5, proxies={"http": "", "https": ""})
    assert is_unreachable(unknown.value)
    with pytest.raises(requests.ConnectionError) as proxied:
        requests.get("http://example.invalid/", timeout=5, proxies={"http": "http://127.0.0.1:1"})
    assert is_unreachable(proxied.value)
    assert is_unreachable(requests.ConnectTimeout("late"))
    assert not is_unreachable(requests.ReadTimeout("late"))
    assert not is_unreachable(ConnectionResetError())


def test_of_an_address_the_host_and_the_last_part_are_shown_so_that_the_reason_is_too() -> None:
    heard: list[str] = []
    long = "https://mirror.example/" + "folder/" * 40 + "BTC.zip?limit=5 answered no JSON: 'sign in'"

    def ask() -> str:
        if heard:
            return "fine"
        raise UnusableAnswerError(long)

    call_with_retries(ask, what="a page", params=QUICK, on_retry=heard.append)
    assert heard[0].endswith("UnusableAnswerError: mirror.example/../BTC.zip answered no JSON: 'sign in'")
