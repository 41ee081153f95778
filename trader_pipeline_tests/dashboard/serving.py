"""The dashboard on a free port of loopback, for tests with a browser."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from werkzeug.serving import make_server

from trader_pipeline.dashboard.app import create_app
from trader_pipeline.profile import Profile


@contextmanager
def served(root: Path, profile: Profile) -> Iterator[str]:
    """Serves the tables of `root` as long as the block lasts; gives the address."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = make_server("127.0.0.1", 0, create_app(profile, data_root=root).server, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.port}"
    server.shutdown()
    thread.join()
    server.server_close()
