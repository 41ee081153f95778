"""Names and manifests of exports: which stamp is free, which files belong to one run, what each file is.

Belongs here: how finished files get their names beside what lies in the folder already. Their content is made in
`exports`. Files are written into a hidden folder beside the final names and take those under a lock on the folder, so
several processes can export into it at once, and a kill leaves nothing under a final name that is not whole.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path

from trader_pipeline.store import write_atomic

MANIFEST_SUFFIX = ".manifest.json"
KINDS = {
    "chain_csv": ("dataset", "csv"),
    "chain_jsonl": ("dataset", "jsonl"),
    "candidates_csv": ("candidates", "csv"),
}
"""The files of one run: word in the name, ending."""


@dataclass(frozen=True)
class Manifest:
    """What stands beside an exported file."""

    file: str
    sha256: str
    rows: int
    simulated: bool | None
    """None where the exporter was not told."""
    parents: Mapping[str, str]
    """Content hashes of what the rows were made from, by name."""
    run: str = ""
    """Hash of the backtest that the rows come from; files of the same run share a stamp."""

    def to_json(self) -> bytes:
        return (json.dumps(asdict(self), indent=2, sort_keys=True) + "\n").encode()


def manifest_path(path: Path) -> Path:
    return path.with_name(path.name + MANIFEST_SUFFIX)


def place(
    staged: Mapping[str, tuple[Path, Manifest]], folder: Path, *, span: str, stamp: datetime
) -> dict[str, Path]:
    """Give finished files (by kind, with their manifests) their names in `folder`; what lies there is never replaced.

    The stamp is that of a file of the same run where the names are free under it, else `stamp` or the first second
    after it under which no file of any kind lies. Manifests come last.
    """
    with _locked(folder):
        run = next(iter(staged.values()))[1].run
        found = _stamp_of_run(folder, span, run, list(staged)) if run else None
        paths = _paths(folder, span, found or _free_stamp(folder, span, stamp))
        while not _link({paths[kind]: file for kind, (file, _) in staged.items()}):
            stamp += timedelta(seconds=1)
            paths = _paths(folder, span, _free_stamp(folder, span, stamp))
        for kind, (_, manifest) in staged.items():
            own = Manifest(**{**asdict(manifest), "file": paths[kind].name})
            write_atomic(manifest_path(paths[kind]), own.to_json())
    return {kind: paths[kind] for kind in staged}


def _link(files: Mapping[Path, Path]) -> bool:
    """Give each file its name; False, and nothing done, where another program took one since the look at the folder."""
    done: list[Path] = []
    try:
        for name, file in files.items():
            os.link(file, name)
            done.append(name)
    except FileExistsError:
        for name in done:
            name.unlink()
        return False
    return True


def _paths(folder: Path, span: str, stamp: str) -> dict[str, Path]:
    return {kind: folder / f"training_{word}_{span}_{stamp}.{end}" for kind, (word, end) in KINDS.items()}


def _is_free(paths: Sequence[Path]) -> bool:
    return not any(os.path.lexists(p) or os.path.lexists(manifest_path(p)) for p in paths)


def _free_stamp(folder: Path, span: str, moment: datetime) -> str:
    while not _is_free(list(_paths(folder, span, stamp := f"{moment:%Y%m%d_%H%M%S}").values())):
        moment += timedelta(seconds=1)
    return stamp


def _stamp_of_run(folder: Path, span: str, run: str, kinds: Sequence[str]) -> str | None:
    """The newest stamp under which a file of this run lies and these kinds are free."""
    stamps = set()
    for word, end in set(KINDS.values()):
        head, tail = f"training_{word}_{span}_", f".{end}{MANIFEST_SUFFIX}"
        for path in folder.glob(f"{head}*{tail}"):
            if json.loads(path.read_text()).get("run") == run:
                stamps.add(path.name.removeprefix(head).removesuffix(tail))
    for stamp in sorted(stamps, reverse=True):
        paths = _paths(folder, span, stamp)
        if _is_free([paths[kind] for kind in kinds]):
            return stamp
    return None


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keeps other exports from choosing names in the folder; a process that dies lets go."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
