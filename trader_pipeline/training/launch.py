"""The same command in several processes on this machine, which train one model together.

Belongs here: starting them, and asking which one this is. Does not belong here: what they share while training (the
trainer and accelerate do that), which device each takes (`devices`).
"""

import logging
import multiprocessing
import os
import runpy
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from trader_pipeline.training.devices import has_cuda
from trader_pipeline.training.model_params import ModelError

_LOOPBACK = "127.0.0.1"
_LOOPBACK_INTERFACE = "lo0" if sys.platform == "darwin" else "lo"
_HEAD_START_SECONDS = 1.0  # what fails in every process alike, the first one reports


def is_main_process() -> bool:
    """Whether this process is the one that writes, logs and prints; true where there is only one."""
    return os.environ.get("RANK", "0") == "0"


def run_in_processes(arguments: Sequence[str], num_processes: int) -> None:
    """Run `trader-pipeline <arguments>` in that many processes, which find each other as accelerate expects.

    They meet on the loopback address alone, on a free port. Only the first one's output is seen; if another one fails,
    what it wrote last is printed.

    Raises:
        ModelError: fewer GPUs than processes, or a process failed; the others have been ended.
    """
    import torch

    if has_cuda() and num_processes > torch.cuda.device_count():
        raise ModelError(
            f"{num_processes} processes need as many GPUs, there are {torch.cuda.device_count()};"
            " set --num-processes to that or less"
        )
    with loopback_store() as port, tempfile.TemporaryDirectory() as logs:
        _start_and_wait(list(arguments), num_processes, port, logs)


@contextmanager
def loopback_store() -> Iterator[int]:
    """Port of a store that processes meet at; torchrun's own listens on every interface, this one on loopback."""
    from torch.distributed import TCPStore

    listener = socket.create_server((_LOOPBACK, 0))
    port = listener.getsockname()[1]
    store = TCPStore(
        _LOOPBACK, port, is_master=True, wait_for_workers=False, master_listen_fd=listener.detach()
    )
    try:
        yield port
    finally:
        del store  # which ends it


def _start_and_wait(arguments: list[str], num_processes: int, port: int, logs: str) -> None:
    from torch.multiprocessing import ProcessExitedException, ProcessRaisedException, start_processes

    logging.getLogger("torch.multiprocessing.spawn").setLevel(
        logging.ERROR
    )  # it tells of every process it ends
    try:
        start_processes(
            _run_one,
            args=(arguments, num_processes, port, logs),
            nprocs=num_processes,
            start_method="spawn",
        )
    except (ProcessExitedException, ProcessRaisedException) as error:
        with suppress(FileNotFoundError):  # the first process has no log: it writes to the terminal
            sys.stderr.write(_log_of(error.error_index, logs).read_text()[-4000:])
        raise ModelError(
            f"process {error.error_index} of {num_processes} failed; its message stands above"
        ) from error


def _run_one(rank: int, arguments: list[str], num_processes: int, port: int, logs: str) -> None:
    import torch

    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(num_processes),
        LOCAL_WORLD_SIZE=str(num_processes),
        MASTER_ADDR=_LOOPBACK,
        MASTER_PORT=str(port),
        TORCHELASTIC_USE_AGENT_STORE="True",  # the store is there already: every process is a client
        GLOO_SOCKET_IFNAME=_LOOPBACK_INTERFACE,
        NCCL_SOCKET_IFNAME=_LOOPBACK_INTERFACE,
    )
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // num_processes))
    if rank > 0:
        with _log_of(rank, logs).open("w") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
    sys.argv = ["trader-pipeline", *arguments]
    try:
        runpy.run_module("trader_pipeline.cli", run_name="__main__")
    except BaseException:
        if rank > 0:
            time.sleep(_HEAD_START_SECONDS)
        raise


def _end_with_parent() -> None:
    """However the parent ends: torch asks for an interrupt then, which processes in the background ignore."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


def _log_of(rank: int, logs: str) -> Path:
    return Path(logs) / f"process-{rank}.log"
