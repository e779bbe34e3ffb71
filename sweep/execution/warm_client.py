"""The owner's side of the warm parent: start it, ask it for processes, watch over them."""

from __future__ import annotations

import array
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sweep.errors import ExecutionError
from sweep.execution import warm_parent
from sweep.execution.channel import MessageChannel
from sweep.execution.child import TrialProcess
from sweep.redaction import Redactor, secrets_in

WARM_MODULES = ("objectives.warm",)
TRIAL_MODULE = "sweep.execution.trial_process"
_SINGLE_THREADED = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
_CLOSE_SECONDS = 2.0
_PLACING_ATTEMPTS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmAddress:
    """Where a warm parent listens; of use only on the host and in the boot it names.

    Attributes:
        host: Host name and boot id.
        path: The socket.
    """

    host: str
    path: str

    @property
    def is_here(self) -> bool:
        """Whether a process on this host can reach it."""
        return self.host == host_identity() and Path(self.path).exists()


def host_identity() -> str:
    """Name of this host and of its current boot."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    boot_id = boot.read_text().strip() if boot.exists() else ""
    return f"{socket.gethostname()}/{boot_id}"


def search_path() -> list[str]:
    """Module search path of this process, absolute, with the working folder at its end."""
    here = str(Path.cwd())
    return list(dict.fromkeys([entry or here for entry in sys.path] + [here]))


class WarmParent:
    """A fork server of our own: starts or finds it, asks it for processes. Safe to use from several threads.

    Args:
        modules: Modules it imports before the first request.
        environment: Variables over those of this process and the single-threaded defaults.
        extra_path: Entries added to the end of the module search path.
        attach_to: Warm parent of another process, used while it can be reached from here; then an own one.
    """

    def __init__(
        self,
        modules: Sequence[str] = WARM_MODULES,
        *,
        environment: Mapping[str, str] | None = None,
        extra_path: Sequence[str] = (),
        attach_to: WarmAddress | None = None,
    ) -> None:
        self._modules = (*modules, TRIAL_MODULE)
        self._environment = dict(environment or {})
        self._path = list(dict.fromkeys([*search_path(), *extra_path]))
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: Path | None = None
        self._alive_writer: int | None = None
        self._attached = attach_to
        self._lock = threading.RLock()
        self._is_closed = False

    @property
    def address(self) -> WarmAddress:
        """Where other processes on this host may attach; starts it if it does not run.

        Raises:
            ExecutionError: If it cannot be started.
        """
        with self._lock:
            self.start()
            if self._attached is not None:
                return self._attached
            return WarmAddress(host=host_identity(), path=str(self._socket_path))

    @property
    def pid(self) -> int | None:
        """Process id of the warm parent, if it was started here."""
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        """Start it, without waiting until it is warm; does nothing while it runs.

        Raises:
            ExecutionError: If it cannot be started.
        """
        with self._lock:
            if self._is_closed:
                raise ExecutionError("the warm parent was closed; make another")
            if self._attached is not None:
                if self._attached.is_here:
                    return
                self._attached = None
            if self._process is not None and self._process.poll() is None:
                return
            self._clean_up()
            self._launch()

    def spawn(self, entry: str, request: Mapping[str, Any], log: Path | None, env: Mapping[str, str]) -> TrialProcess:
        """Ask for a process that runs ``entry`` and receives ``request`` as its first message.

        Returns at once; the process begins as soon as the parent is warm.

        Args:
            entry: ``module:function``, called with the process's end of the message socket.
            request: JSON-able first message.
            log: File its output is appended to, or None to drop it.
            env: Variables set in the process.

        Raises:
            ExecutionError: If there is no warm parent to ask, and none can be started.
        """
        order = {
            "entry": entry,
            "env": dict(env),
            "log": str(log) if log is not None else os.devnull,
            "secrets": sorted(secrets_in(request)),
            "cwd": str(Path.cwd()),
        }
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                with self._lock:
                    connection = self._place(json.dumps(order).encode() + b"\n", theirs.fileno())
            except ExecutionError:
                ours.close()
                raise
        process = TrialProcess(MessageChannel(connection), MessageChannel(ours), self._last_words)
        with contextlib.suppress(ExecutionError):  # if it is gone already, its status tells so
            process.send(request)
        return process

    def close(self) -> None:
        """End it and everything forked for this process, for good; idempotent."""
        with self._lock:
            self._is_closed = True
        if self._alive_writer is not None:
            os.close(self._alive_writer)
            self._alive_writer = None
        if self._process is not None:
            try:
                self._process.wait(_CLOSE_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._clean_up()

    @property
    def _socket_path(self) -> Path:
        if self._folder is None:
            raise ExecutionError("the warm parent was not started; start it first")
        return self._folder / "socket"

    def _place(self, order: bytes, descriptor: int) -> socket.socket:
        """Hand an order to a living warm parent; returns the connection its answers come over."""
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))]
        for _ in range(_PLACING_ATTEMPTS):
            path = self.address.path
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                connection.connect(path)
                sent = connection.sendmsg([order], rights)
                connection.sendall(order[sent:])
            except OSError as error:
                connection.close()
                failure = error
                self._abandon()
            else:
                return connection
        raise ExecutionError(f"the warm parent cannot be reached: {failure}. {self._last_words()}") from failure

    def _abandon(self) -> None:
        """Turn away from a warm parent that does not answer; the next ``start`` makes another."""
        self._attached = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _launch(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="sweep-"))  # only its owner may enter
        with contextlib.ExitStack() as stack:
            listener = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            alive_reader, alive_writer = os.pipe()
            stack.callback(os.close, alive_reader)
            try:
                listener.bind(str(self._socket_path))
                self._socket_path.chmod(0o600)
                listener.listen(128)
                config = warm_parent.WarmConfig(
                    listen_fd=listener.fileno(),
                    alive_fd=alive_reader,
                    folder=str(self._folder),
                    path=self._path,
                    modules=self._modules,
                )
                output = stack.enter_context((self._folder / "output").open("wb"))
                self._process = subprocess.Popen(
                    [sys.executable, "-P", warm_parent.__file__, json.dumps(asdict(config))],
                    env={**os.environ, **_SINGLE_THREADED, **self._environment},
                    pass_fds=(listener.fileno(), alive_reader),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
            except OSError as error:
                os.close(alive_writer)
                self._clean_up()
                raise ExecutionError(
                    f"cannot start the warm parent ({sys.executable}): {error}. "
                    "Raise the limit of processes or open files (`ulimit -u`, `ulimit -n`)"
                ) from error
        self._alive_writer = alive_writer

    def _last_words(self) -> str:
        if self._folder is None or not (self._folder / "output").exists():
            return ""
        output = (self._folder / "output").read_text(errors="replace")
        lines = Redactor.from_environment(os.environ).text(output).splitlines()
        return "Its last words:\n" + "\n".join(lines[-10:]) if lines else "It left no message."

    def _clean_up(self) -> None:
        if self._alive_writer is not None:
            os.close(self._alive_writer)
            self._alive_writer = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None
        self._process = None
