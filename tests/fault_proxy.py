"""A proxy before a real server that does what networks and gateways do: delays, 500s, stalls, cuts; seeded."""

from __future__ import annotations

import http.client
import random
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "host"}


@dataclass(frozen=True, kw_only=True)
class Faults:
    """What happens to requests; the shares are of all requests and exclude each other.

    Attributes:
        latency_seconds: Before each request is passed on.
        refused: Share answered 500 without being passed on.
        lied: Share passed on, whose answer is replaced by a 500.
        stalled: Share passed on, whose answer never comes.
        cut: Share passed on, whose connection ends half way through the answer.
        hated: Whatever has this in its body is answered 500, always.
    """

    latency_seconds: float = 0.0
    refused: float = 0.0
    lied: float = 0.0
    stalled: float = 0.0
    cut: float = 0.0
    hated: bytes | None = None


class FaultProxy:
    """Listens on 127.0.0.1 and passes requests on to another port there.

    Attributes:
        faults: May be changed at any time.
        counts: What happened so far, by the names of ``Faults``, and ``passed``.
    """

    def __init__(self, port: int, faults: Faults, *, seed: int = 0) -> None:
        self.faults = faults
        self.counts: Counter[str] = Counter()
        self._port = port
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._closing = threading.Event()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                proxy._handle(self)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any

            def log_message(self, format: str, *args: object) -> None:
                """Nothing: a test's output is its own."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False

            def handle_error(self, request: object, client_address: object) -> None:
                """Whoever hung up has its reasons."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        """Take no more connections, and let go of the stalled ones."""
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()

    def _fate(self, body: bytes) -> str:
        if self.faults.hated is not None and self.faults.hated in body:
            with self._lock:
                self.counts["hated"] += 1
            return "hated"
        shares = {name: getattr(self.faults, name) for name in ("refused", "lied", "stalled", "cut")}
        with self._lock:
            (fate,) = self._random.choices([*shares, "passed"], [*shares.values(), 1 - sum(shares.values())])
            self.counts[fate] += 1
            return fate

    def _handle(self, client: BaseHTTPRequestHandler) -> None:
        body = _body_of(client)
        self._closing.wait(self.faults.latency_seconds)
        fate = self._fate(body)
        if fate in ("refused", "hated"):
            _answer(client, 500, {}, b'{"error_code": "INTERNAL_ERROR", "message": "injected"}')
            return
        status, headers, answer = self._pass_on(client, body)
        if fate == "stalled":
            self._closing.wait(60)
            client.close_connection = True
        elif fate == "lied":
            _answer(client, 500, {}, b"<html>bad gateway</html>")
        elif fate == "cut":
            _answer(client, status, headers, answer, sent=len(answer) // 2)
            client.connection.shutdown(socket.SHUT_RDWR)
            client.close_connection = True
        else:
            _answer(client, status, headers, answer)

    def _pass_on(self, client: BaseHTTPRequestHandler, body: bytes) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        headers = {name: value for name, value in client.headers.items() if name.lower() not in _HOP_BY_HOP}
        try:
            connection.request(client.command, client.path, body, headers)
            response = connection.getresponse()
            kept = {name: value for name, value in response.getheaders() if name.lower() not in _HOP_BY_HOP}
            return response.status, kept, response.read()
        except OSError:
            return 502, {}, b"<html>no server</html>"
        finally:
            connection.close()


@contextmanager
def fault_proxy(port: int, faults: Faults, *, seed: int = 0) -> Iterator[FaultProxy]:
    proxy = FaultProxy(port, faults, seed=seed)
    try:
        yield proxy
    finally:
        proxy.close()


def _body_of(client: BaseHTTPRequestHandler) -> bytes:
    if client.headers.get("Transfer-Encoding", "").lower() != "chunked":
        return client.rfile.read(int(client.headers.get("Content-Length") or 0))
    body = b""
    while size := int(client.rfile.readline().split(b";")[0], 16):
        body += client.rfile.read(size)
        client.rfile.readline()
    client.rfile.readline()
    return body


def _answer(
    client: BaseHTTPRequestHandler, status: int, headers: dict[str, str], body: bytes, sent: int | None = None
) -> None:
    client.send_response_only(status)
    for name, value in headers.items():
        client.send_header(name, value)
    client.send_header("Content-Length", str(len(body)))
    client.end_headers()
    client.wfile.write(body[:sent])
    client.wfile.flush()
