"""A real ``mlflow server`` that can be started, killed and started again, and a port that never answers."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from sweep.tracking.store import cache_folder, prepare_sqlite


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def until(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    """Wait for a condition; returns what it gave."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.1)
    return found


class MlflowServer:
    """One process on 127.0.0.1 over a SQLite store in ``folder``.

    Its URI has a user and a password, so that a test can look for them where they must not be.
    """

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.uri = f"http://ann:c4nary@127.0.0.1:{self.port}"
        self.address = f"http://127.0.0.1:{self.port}"
        self.database = folder / "server.db"
        self.artifacts = folder / "server-artifacts"
        self._log = folder / "server.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.launch()
        until(self._answers, 120, "the server answers")

    def launch(self) -> None:
        """Begin to start it, unless it runs; it answers some seconds later."""
        if self._process is not None:
            return
        prepare_sqlite(self.database, cache_folder())
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--backend-store-uri", f"sqlite:///{self.database}", "--workers", "1"]
        command += ["--artifacts-destination", str(self.artifacts)]
        quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, env={**os.environ, **quiet}, stdout=log, stderr=log, start_new_session=True
            )

    def kill(self) -> None:
        """SIGKILL, workers and all; nothing if it does not run."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """An answer of the REST API, which must be JSON by the standard: no NaN, no Infinity."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.address}{path}", data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read(), parse_constant=no_constant)

    def delete_for_good(self, run_id: str) -> None:
        """A run, its row and all, as when a server comes back with another volume."""
        with closing(sqlite3.connect(self.database, timeout=30)) as database, database:
            for (table,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
                columns = {row[1] for row in database.execute(f"PRAGMA table_info({table})")}
                if "run_uuid" in columns:
                    database.execute(f"DELETE FROM {table} WHERE run_uuid = ?", (run_id,))

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.address}/health", timeout=5):
                return True
        except (urllib.error.URLError, OSError):
            return False


@contextmanager
def running(folder: Path) -> Iterator[MlflowServer]:
    """A server that answers, and is killed at the end."""
    server = MlflowServer(folder)
    server.start()
    try:
        yield server
    finally:
        server.kill()


def no_constant(token: str) -> float:
    """For ``json.loads``: NaN and Infinity are Python's alone."""
    raise AssertionError(f"{token} is no JSON")


@contextmanager
def black_hole() -> Iterator[tuple[str, socket.socket]]:
    """A port that takes connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        listener.settimeout(60)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", listener
