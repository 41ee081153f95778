"""The address of MLflow: asked before work begins, its errors told in one line, its password never told.

Belongs here: what every caller of MLflow needs before and after a call. Does not belong here: what is recorded
(`tracking`) or who the champion is (`evaluation.champion`). MLflow is imported inside functions: it is slow.
"""

import os
import re
import shlex
import socket
from pathlib import Path
from urllib.parse import unquote, urlsplit

SQLITE = "sqlite:///"
_SECRET = re.compile(
    r"(?i)([?&;#][\w.-]*(?:password|passwd|passphrase|pwd|token|secret|api[_-]?key|access[_-]?key|signature|auth)="
    r")[^&;#\s'\"]+"
)
"""A query's or fragment's field that holds a secret, by its name."""


class TrackingError(ValueError):
    """MLflow cannot be used as it was asked to. The message says which address, why, and what to do."""


def mlflow_errors() -> tuple[type[Exception], ...]:
    """What MLflow raises where its server or database cannot be used; sets up how patient and how talkative it is."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # decided when mlflow is first imported
    os.environ.setdefault("DO_NOT_TRACK", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # the address, password and all
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "15")
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return (MlflowException, SQLAlchemyError, OSError, ImportError)


def refuse_silent_server(tracking_uri: str) -> None:
    """Fail in seconds where no server listens: MLflow itself asks again for minutes.

    Raises:
        TrackingError: nothing listens at an http address.
    """
    address = urlsplit(tracking_uri)
    if address.scheme not in ("http", "https"):
        return
    port = address.port or (443 if address.scheme == "https" else 80)
    try:
        socket.create_connection((address.hostname or "", port), timeout=5).close()
    except OSError as error:
        raise TrackingError(
            f"no MLflow server answers at {masked(tracking_uri, tracking_uri)} ({error}); start it with"
            " 'trader-pipeline ui', give sqlite:///FILE, which needs no server, or leave MLflow out"
        ) from None  # the text of the cause may hold the password


def make_database_folder(tracking_uri: str) -> None:
    if tracking_uri.startswith(SQLITE):
        Path(tracking_uri.removeprefix(SQLITE)).parent.mkdir(parents=True, exist_ok=True)


def masked(text: str, tracking_uri: str) -> str:
    """The text with `***` for the user and password of `tracking_uri`, and for those of any other address in it."""
    login = tracking_uri.partition("://")[2].rpartition("@")[0]
    if login and not login.startswith("/"):  # no path of a file
        password = login.partition(":")[2]
        for secret in (login, password, unquote(password)):
            text = text.replace(secret, "***") if secret else text
    text = re.sub(r"://[^\s/?#]*@", "://***@", text)
    return _SECRET.sub(r"\1***", text)


def web_page(tracking_uri: str) -> str:
    """Where the runs are to be seen: the server itself without its login, else where MLflow's page opens by itself."""
    address = urlsplit(tracking_uri)
    if address.scheme not in ("http", "https"):
        return "http://127.0.0.1:5000"
    return f"{address.scheme}://{address.netloc.rpartition('@')[2]}{address.path.rstrip('/')}"


def page_command(tracking_uri: str) -> str | None:
    """The command that shows the runs of a database; None where a server shows them already."""
    if urlsplit(tracking_uri).scheme in ("http", "https"):
        return None
    address = shlex.quote(masked(tracking_uri, tracking_uri))
    return f"mlflow ui --backend-store-uri {address} --host 127.0.0.1 --port 5000"


def first_line(error: Exception, tracking_uri: str) -> str:
    """The first line of the error, masked, at most 300 characters."""
    lines = masked(str(error), tracking_uri).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
