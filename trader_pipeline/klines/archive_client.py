"""Asking Binance's public archive for one file: it arrives whole and with the checksum that the archive states.

Belongs here: HTTP, checksums. Does not belong here: which files are wanted (`klines.archive_source`), or what they hold
(`klines.archive_files`).
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable
from pathlib import Path

import requests

from trader_pipeline.klines.archive_files import LARGEST_BYTES, ArchiveFile
from trader_pipeline.klines.contact import Contact, QuickConnectAdapter
from trader_pipeline.klines.files import KlineFileError
from trader_pipeline.klines.retrying import (
    RetryParams,
    SourceRefusedError,
    UnusableAnswerError,
    call_with_retries,
    checked_address,
    refuse_redirects,
)

_CHUNK = 2**16
_CHECKSUM = re.compile(r"([0-9a-fA-F]{64})\s+\*?(\S+)\s*")


class ArchiveClient:
    """Brings one file to disk, whole and with the checksum that the archive states. Used by several threads.

    Raises:
        AddressRefusedError: `base_url` is no address, or holds a password.
    """

    def __init__(
        self,
        *,
        base_url: str,
        retries: RetryParams,
        workers: int,
        scratch: Path,
        on_retry: Callable[[str], None],
    ) -> None:
        self.base_url, self.retries = checked_address(base_url).rstrip("/"), retries
        self.scratch, self.on_retry = scratch, on_retry
        self.session = requests.Session()
        refuse_redirects(self.session)
        self.session.mount("http://", QuickConnectAdapter(pool_maxsize=workers))
        self.session.mount("https://", QuickConnectAdapter(pool_maxsize=workers))
        self.contact, self.failed = Contact(), threading.Event()

    def end(self) -> None:
        """From now on nothing is asked again: downloads under way in other threads end with their next failure."""
        self.contact.ended.set()

    def download(self, file: ArchiveFile) -> tuple[Path, str] | None:
        """The zip's path and SHA-256, or None where the archive has no such file.

        Once a file has failed for good none is begun: files are begun in the order of time, so the later ones would not
        be stored.

        Raises:
            SourceRefusedError: the checksum is missing, or wrong twice; a permanent refusal, or used-up retries.
            KlineFileError: larger than any candle file.
        """
        if self.failed.is_set():
            raise SourceRefusedError(f"{file.name} was not asked for: an earlier file has failed")
        try:
            return self._download(file)
        except BaseException:
            self.failed.set()
            raise

    def _download(self, file: ArchiveFile) -> tuple[Path, str] | None:
        target = self.scratch / f"{file.name}.zip"
        url = f"{self.base_url}/{file.path}"
        found = expected = ""
        for _ in range(2):  # a wrong checksum may be a bad transfer, or a file that is being replaced
            answer = self._ask(url, lambda response: _stream(response, target))
            if answer is None:
                return None
            found, expected = answer, self._expected(url, target.name)
            if found == expected:
                return target, found
        raise SourceRefusedError(
            f"{url}: its checksum is wrong, twice: SHA-256 {expected} expected, {found} found; nothing of it was"
            " stored. Try again later, or fetch with source ccxt"
        )

    def _expected(self, url: str, name: str) -> str:
        def parse(response: requests.Response) -> str:
            match = _CHECKSUM.fullmatch(response.text)
            if match is None or match.group(2) != name:
                raise UnusableAnswerError(f"not a checksum of {name}: {response.text[:80]!r}")
            return match.group(1).lower()

        expected = self._ask(f"{url}.CHECKSUM", parse)
        if expected is None:
            raise SourceRefusedError(
                f"{url}.CHECKSUM is missing: the file cannot be verified, and was not stored. Try again later, or fetch"
                " with source ccxt",
                status=404,
            )
        return expected

    def _ask(self, url: str, read: Callable[[requests.Response], str]) -> str | None:
        """What `read` makes of the answer; None for HTTP 404."""

        def question() -> str | None:
            timeout = self.retries.timeout_seconds
            with self.session.get(url, stream=True, timeout=timeout) as response:
                if response.status_code == 404:
                    return None
                if not response.ok:
                    _ = response.content  # read before the connection is closed: the error quotes it
                response.raise_for_status()
                return read(response)

        return call_with_retries(
            question, what=url, params=self.retries, on_retry=self.on_retry, contact=self.contact
        )


def _stream(response: requests.Response, target: Path) -> str:
    """Write the body to `target` as it comes; its SHA-256."""
    digest, size = hashlib.sha256(), 0
    with target.open("wb") as file:
        for chunk in response.iter_content(_CHUNK):
            size += len(chunk)
            if size > LARGEST_BYTES:
                raise KlineFileError(f"{response.url}: larger than {LARGEST_BYTES} bytes; no candle file is")
            digest.update(chunk)
            file.write(chunk)
    return digest.hexdigest()
