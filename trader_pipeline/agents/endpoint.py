"""An OpenAI-compatible server on loopback, with the project's base model or an adapter behind it.

Belongs here: HTTP, errors in OpenAI's shape, starting and stopping. Does not belong here: the model (`local_model`),
what is answered (`constrained`).

    GET  /v1/models              the one model, and that its answers are constrained
    POST /v1/chat/completions    messages, tools, tool_choice, response_format, max_tokens; not streamed
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trader_pipeline.agents.constrained import RULES, ChatAnswer, ChatQuestion, UnanswerableError
from trader_pipeline.agents.local_model import LocalModel
from trader_pipeline.agents.turns import Turns
from trader_pipeline.training.model_params import ModelError

HOST = "127.0.0.1"
MAX_BODY_BYTES = 1_000_000
_START_SECONDS = 30.0
_HUNG_UP = 499
"""Nobody reads it; servers call it so."""
_CREATED = 1_700_000_000
"""Clients want a time of creation; a fixed one keeps answers the same."""


def create_endpoint(model: LocalModel, *, max_body_bytes: int = MAX_BODY_BYTES) -> Starlette:
    """The application. Only names of this machine are answered, so that no web page can ask through a browser.

    Questions are answered one at a time, see `turns`; one whose client hung up meanwhile is dropped.
    """
    turns = Turns()

    async def list_models(_: Request) -> Response:
        entry = {"id": model.name, "object": "model", "created": _CREATED, "owned_by": "trader-pipeline"}
        return JSONResponse({"object": "list", "data": [{**entry, "description": RULES}]})

    async def complete(request: Request) -> Response:
        _refuse_web_page(request)
        question = _question(await _body(request, max_body_bytes))
        if question.model != model.name:
            raise HTTPException(404, f"there is no model {question.model!r} here; ask for {model.name!r}")
        async with turns.take(begun=question.begun):
            if await request.is_disconnected():
                return Response(status_code=_HUNG_UP)
            answer, read, written = await run_in_threadpool(model.answer, question)
        return JSONResponse(_completion(model.name, answer, read=read, written=written))

    return Starlette(
        routes=[
            Route("/v1/models", list_models),
            Route("/v1/chat/completions", complete, methods=["POST"]),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])],
        exception_handlers={
            HTTPException: _http_error,
            UnanswerableError: _unanswerable,
            ModelError: _unloadable,
            Exception: _failed,
        },
    )


@dataclass(frozen=True)
class Endpoint:
    """Where a started server listens, and what its model is called."""

    base_url: str
    model: str


@contextlib.contextmanager
def local_endpoint(model: LocalModel, *, port: int = 0) -> Iterator[Endpoint]:
    """The server in a thread of this process, stopped at the end; port 0 takes a free one.

    Raises:
        OSError: the port is taken.
    """
    server, listener = _server(model, port)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="endpoint", daemon=True)
    thread.start()
    try:
        _await_start(server, thread)
        yield _endpoint(model, listener)
    finally:
        server.should_exit = True
        thread.join(timeout=_START_SECONDS)
        listener.close()


def serve_forever(model: LocalModel, *, port: int, on_ready: Callable[[Endpoint], None]) -> None:
    """Load the model and serve in this thread until Ctrl-C or SIGTERM; `on_ready` hears where.

    Raises:
        OSError: the port is taken.
        ModelError: the model cannot be loaded.
    """
    server, listener = _server(model, port)
    with listener, contextlib.suppress(KeyboardInterrupt):
        model.load()
        on_ready(_endpoint(model, listener))
        server.run(sockets=[listener])


def _endpoint(model: LocalModel, listener: socket.socket) -> Endpoint:
    return Endpoint(f"http://{HOST}:{listener.getsockname()[1]}/v1", model.name)


def _server(model: LocalModel, port: int) -> tuple[uvicorn.Server, socket.socket]:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen()  # who comes before the server runs waits, and is not turned away
    except OSError as error:
        listener.close()
        raise OSError(
            f"port {port} on {HOST} is taken: stop what listens there, or choose another with --port {port + 1}"
        ) from error
    config = uvicorn.Config(create_endpoint(model), log_level="warning", access_log=False, lifespan="off")
    return uvicorn.Server(config), listener


def _await_start(server: uvicorn.Server, thread: threading.Thread) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not server.started:
        if not thread.is_alive() or time.monotonic() > deadline:
            raise OSError("the local endpoint did not start; see the messages above")
        time.sleep(0.01)


def _refuse_web_page(request: Request) -> None:
    """What a page of another site can send without the browser asking first is refused."""
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
        raise HTTPException(403, f"a page of {origin} cannot ask here; leave out the header Origin")
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise HTTPException(415, f"the body is {kind or 'of no type'}; send Content-Type: application/json")


def _question(body: bytes) -> ChatQuestion:
    try:
        content = json.loads(body)
        json.dumps(content, ensure_ascii=False).encode()  # half a character (a lone surrogate) is no text
        return ChatQuestion.model_validate(content)
    except ValidationError as error:
        raise HTTPException(400, _first_problem(error)) from error
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, "the body is no JSON text") from error


async def _body(request: Request, most: int) -> bytes:
    """The body, read no further than allowed, whatever its header says."""
    read = bytearray()
    async for piece in request.stream():
        read += piece
        if len(read) > most:
            raise HTTPException(413, f"the body is longer than {most} bytes; ask for fewer candles")
    return bytes(read)


def _completion(name: str, answer: ChatAnswer, *, read: int, written: int) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": answer.text, "refusal": None}
    if answer.tool is not None:
        function = {"name": answer.tool, "arguments": answer.text}
        message |= {
            "content": None,
            "tool_calls": [{"id": "call_1", "type": "function", "function": function}],
        }
    choice = {"index": 0, "message": message, "finish_reason": answer.finish_reason, "logprobs": None}
    usage = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
    return {
        "id": "chatcmpl-local",
        "object": "chat.completion",
        "created": _CREATED,
        "model": name,
        "choices": [choice],
        "usage": usage,
    }


def _first_problem(error: ValidationError) -> str:
    problem = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in problem["loc"])
    return f"{where or 'the body'}: {problem['msg']}"


def _error(status: int, message: str, *, code: str | None = None) -> JSONResponse:
    kind = "server_error" if status >= 500 else "invalid_request_error"
    return JSONResponse(
        {"error": {"message": message, "type": kind, "param": None, "code": code}}, status_code=status
    )


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = "model_not_found" if error.status_code == 404 else None
    return _error(error.status_code, str(error.detail), code=code)


async def _unanswerable(_: Request, error: Exception) -> Response:
    return _error(400, str(error), code=getattr(error, "code", None))


async def _unloadable(_: Request, error: Exception) -> Response:
    return _error(400, str(error))  # asking again does not help


async def _failed(_: Request, error: Exception) -> Response:
    return _error(500, f"the local model failed: {type(error).__name__}")
