"""A server on loopback that speaks OpenAI's wire and fails as it is told: real HTTP for tests of asking."""

import json
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MODELS = ["small-1", "small-2"]
USAGE = {"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13}


@dataclass
class Wire:
    """What is answered in turn, the last one for ever; what was asked."""

    base_url: str
    script: list
    asked: list = field(default_factory=list)
    headers: list = field(default_factory=list)


def says(text, *, usage=USAGE):
    """A completion with this text."""
    return {"body": completion({"role": "assistant", "content": text}, usage=usage)}


def says_json(**fields):
    return says(json.dumps(fields))


def refuses():
    return {"body": completion({"role": "assistant", "content": None, "refusal": "I cannot help."})}


def calls(name, arguments, *, times=1):
    """A completion that calls a tool."""
    function = {"name": name, "arguments": arguments}
    each = [{"id": f"call_{n}", "type": "function", "function": function} for n in range(times)]
    message = {"role": "assistant", "content": None, "tool_calls": each}
    return {"body": completion(message, reason="tool_calls")}


def sends_to(address):
    """A redirect that keeps the question."""
    return {"status": 307, "body": {}, "headers": {"Location": f"{address}/chat/completions"}}


def fails(status, message="it went wrong", *, code=None, param=None, headers=None):
    error = {"message": message, "type": "error", "param": param, "code": code}
    return {"status": status, "body": {"error": error}, "headers": headers or {}}


def raw(text, *, content_type="application/json"):
    """Bytes that are no completion, with HTTP 200."""
    return {"raw": text, "content_type": content_type}


def is_slow(seconds):
    return {"sleep": seconds, **says("too late")}


def hangs_up():
    return {"hang_up": True}


def completion(message, *, usage=USAGE, reason="stop"):
    choice = {"index": 0, "message": message, "finish_reason": reason, "logprobs": None}
    fixed = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "small-1"}
    return {**fixed, "choices": [choice], "usage": usage}


@contextmanager
def wire_server(*script, port=0):
    """The server; `script` is what it answers in turn, the last one again and again. Port 0 takes a free one."""
    server = ThreadingHTTPServer(("127.0.0.1", port), _Handler)
    server.daemon_threads = True
    server.wire = Wire(f"http://127.0.0.1:{server.server_port}/v1", list(script))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server.wire
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self._send(200, json.dumps({"object": "list", "data": [_model(name) for name in MODELS]}).encode())

    def do_POST(self):
        wire = self.server.wire
        wire.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        wire.headers.append({name.lower(): value for name, value in self.headers.items()})
        step = wire.script.pop(0) if len(wire.script) > 1 else wire.script[0]
        time.sleep(step.get("sleep", 0))
        if step.get("hang_up"):
            self.close_connection = True
            self.connection.close()
            return
        body = step["raw"].encode() if "raw" in step else json.dumps(step["body"]).encode()
        kind = step.get("content_type", "application/json")
        self._send(step.get("status", 200), body, kind=kind, headers=step.get("headers", {}))

    def _send(self, status, body, *, kind="application/json", headers=None):
        try:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the client no longer waits

    def log_message(self, *_):
        pass


def _model(name):
    return {"id": name, "object": "model", "created": 1, "owned_by": "tests"}
