"""A small fork server: imports heavy modules once, then forks a clean process for each request.

Run as a script, with one JSON argument (see :class:`WarmConfig`); only the standard library is imported before the
modules it is asked to warm, and nothing of the owner's memory gets here. Each connection to its socket carries
one line of JSON, ``{"entry": "module:function", "env": {…}, "log": path, "secrets": […], "cwd": path or null}``, and by
SCM_RIGHTS one end of a socket pair, which the forked child hands to ``function(socket) -> exit code``. Back come
``{"pid": n}`` and, once the child has ended, ``{"exit": n}`` (a negative number is a signal); or
``{"error": text}``. A connection that sends ``{"signal": n}`` signals the child alone; one that closes early, or sends
``{"kill": true}``, kills it with its whole process group. A child begins with SIGTERM blocked: whoever wants to heed
it has the time to. What a child started ends with it, wherever it went: on Linux, orphans fall to the child while it
lives and then to the warm parent, which kills them. When the owner dies, however it dies, the pipe it holds closes
and everything here ends. All this at once, unless SIGTERM has come here: then the whole machine is told to end, and
children have a while to leave.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import gc
import importlib
import json
import os
import select
import selectors
import shutil
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from sweep.execution.trial_log import TrialLog

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_END_SECONDS = 5.0
_OWNER_GONE = 0
_CHILD_BROKE = 1
_LEAVING_SECONDS = 30
_PAUSE_SECONDS = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmConfig:
    """What the owner passes on the command line.

    Attributes:
        listen_fd: A bound and listening unix socket.
        alive_fd: Read end of a pipe whose write end only the owner holds.
        folder: Private folder of the socket, removed at the end.
        path: Module search path.
        modules: Modules to import before the first fork.
    """

    listen_fd: int
    alive_fd: int
    folder: str
    path: Sequence[str]
    modules: Sequence[str]


@dataclass(slots=True)
class _Client:
    """One connection: a request that is being read, then the child it asked for."""

    connection: socket.socket
    unread: bytes = b""
    descriptors: list[int] = field(default_factory=list)
    pid: int | None = None


def main(arguments: Sequence[str]) -> NoReturn:
    """Warm up and serve until the owner is gone."""
    config = WarmConfig(**json.loads(arguments[0]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the driver's business
    # Who ends a whole machine or container tells everybody: trials need their parent while they leave.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    sys.path[:] = config.path
    for descriptor in (config.listen_fd, config.alive_fd):
        os.set_inheritable(descriptor, False)
    failure = _warm(config)
    gc.collect()
    gc.freeze()
    _Server(config, failure).serve()


def _warm(config: WarmConfig) -> str | None:
    """Import the modules, ready to vanish with the owner meanwhile; returns what went wrong."""
    stop_reader, stop_writer = os.pipe()

    def watch() -> None:
        ready, _, _ = select.select([config.alive_fd, stop_reader], [], [])
        if stop_reader not in ready:
            shutil.rmtree(config.folder, ignore_errors=True)
            os._exit(_OWNER_GONE)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    failure = None
    for name in config.modules:
        try:
            importlib.import_module(name)
        except Exception as error:  # noqa: BLE001  # whatever a module raises while imported goes to the client
            failure = f"cannot import {name}: {type(error).__name__}: {error}\n{traceback.format_exc(limit=-5)}"
            break
    os.close(stop_writer)
    watcher.join()  # no second thread may live while we fork
    os.close(stop_reader)
    return failure


class _Server:
    """Accepts, forks, reaps and kills; never blocks on a client."""

    def __init__(self, config: WarmConfig, failure: str | None) -> None:
        self._config = config
        self._failure = failure
        self._libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
        if self._libc is not None:
            self._libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self._listener = socket.socket(fileno=config.listen_fd)
        self._listener.setblocking(False)
        self._wake_reader, self._wake_writer = socket.socketpair()
        for end in (self._wake_reader, self._wake_writer):
            end.setblocking(False)
        signal.set_wakeup_fd(self._wake_writer.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGALRM, lambda *_: self._kill_unwanted())
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(config.alive_fd, selectors.EVENT_READ)
        self._selector.register(self._wake_reader, selectors.EVENT_READ)
        self._clients: dict[int, _Client] = {}
        self._children: dict[int, _Client | None] = {}
        self._logs: dict[int, TrialLog] = {}

    def serve(self) -> NoReturn:
        """Answer requests until the owner is gone, then end every child and this process."""
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._listener:
                    self._accept()
                elif key.fileobj == self._config.alive_fd:
                    self._end()
                elif key.fileobj is self._wake_reader:
                    self._wake_reader.recv(4096)
                    self._reap()
                elif key.data in self._logs:
                    self._keep_log(key.data)
                elif key.fd in self._clients:  # an earlier event may have closed it
                    self._read(self._clients[key.fd])

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:  # gone again
            return
        connection.setblocking(False)
        self._clients[connection.fileno()] = _Client(connection)
        self._selector.register(connection, selectors.EVENT_READ)

    def _read(self, client: _Client) -> None:
        try:
            data, ancillary, _, _ = client.connection.recvmsg(65536, socket.CMSG_SPACE(4))
        except BlockingIOError:
            return
        except OSError:
            data, ancillary = b"", []
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                client.descriptors += array.array("i", content[: len(content) - len(content) % 4])
        if not data:
            self._drop(client)
            return
        client.unread += data
        while b"\n" in client.unread:
            line, client.unread = client.unread.split(b"\n", 1)
            self._obey(client, json.loads(line))

    def _obey(self, client: _Client, request: dict[str, Any]) -> None:
        if request.get("kill"):
            self._kill(client.pid)
        elif "signal" in request:
            if client.pid in self._children:  # not reaped, so the pid is still this child's
                os.kill(client.pid, request["signal"])
        elif self._failure is not None:
            self._reply(client, {"error": self._failure})
        else:
            self._fork(client, request)

    def _fork(self, client: _Client, request: dict[str, Any]) -> None:
        if not client.descriptors:  # the kernel drops them where this process may open no more files
            self._reply(client, {"error": "the trial's socket did not arrive: too many open files. Raise `ulimit -n`"})
            return
        warm_parent = os.getpid()
        log = _log_of(request)
        try:
            pid = os.fork()
        except OSError as error:
            if log is not None:
                log.hand_over()
                log.close()
            self._reply(client, {"error": f"cannot fork a trial process: {error}"})
            return
        if pid == 0:
            self._become_child(client.descriptors[0], request, log, warm_parent)
        if log is not None:
            log.hand_over()
            self._logs[pid] = log
            self._selector.register(log, selectors.EVENT_READ, data=pid)
        for descriptor in client.descriptors:
            os.close(descriptor)
        client.descriptors.clear()
        client.pid = pid
        self._children[pid] = client
        self._reply(client, {"pid": pid})

    def _become_child(
        self, descriptor: int, request: dict[str, Any], log: TrialLog | None, warm_parent: int
    ) -> NoReturn:
        code = _CHILD_BROKE
        try:
            os.setsid()
            if self._libc is not None:
                self._libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
                self._libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
            if os.getppid() != warm_parent:  # it died before the line above
                os._exit(_CHILD_BROKE)
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, signal.SIGALRM):
                signal.signal(number, signal.SIG_DFL)
            self._selector.close()
            for other in self._clients.values():
                other.connection.close()
            for end in (self._listener, self._wake_reader, self._wake_writer):
                end.close()
            for others in self._logs.values():
                others.close()
            os.close(self._config.alive_fd)
            _redirect(log)
            os.environ.update(request.get("env") or {})
            if request.get("cwd"):
                os.chdir(request["cwd"])
            module, _, function = request["entry"].partition(":")
            code = getattr(importlib.import_module(module), function)(socket.socket(fileno=descriptor)) or 0
        except BaseException:  # noqa: BLE001  # a child must never fall back into the server's loop
            traceback.print_exc()
        finally:
            for stream in (sys.stdout, sys.stderr):
                try:
                    stream.flush()
                except (OSError, ValueError):  # a full disk, or a stream the objective closed
                    code = code or _CHILD_BROKE
            os._exit(code)

    def _reap(self) -> bool:
        """Take leave of what has ended, and of what it left behind; returns whether a child is left."""
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return False
            if ended is None:
                return True
            self._kill(ended.si_pid)  # what it left behind in its group, while the pid is still taken
            for orphan in _children() - self._children.keys():
                with contextlib.suppress(PermissionError):  # it may have become another user
                    os.kill(orphan, signal.SIGKILL)
            _, status = os.waitpid(ended.si_pid, 0)
            self._keep_log(ended.si_pid)
            client = self._children.pop(ended.si_pid, None)
            if client is not None:
                client.pid = None
                self._reply(client, {"exit": os.waitstatus_to_exitcode(status)})
                self._drop(client)

    def _keep_log(self, pid: int) -> None:
        """Write down what a child has said; its log ends once nobody is left who could say more."""
        if pid in self._logs and not self._logs[pid].pump():
            self._selector.unregister(self._logs[pid])
            self._logs.pop(pid).close()

    def _drop(self, client: _Client) -> None:
        if client.connection.fileno() in self._clients:
            del self._clients[client.connection.fileno()]
            self._selector.unregister(client.connection)
        client.connection.close()
        for descriptor in client.descriptors:
            os.close(descriptor)
        client.descriptors.clear()
        if client.pid in self._children:
            self._children[client.pid] = None
            if _is_machine_ending():
                signal.alarm(_LEAVING_SECONDS)
            else:
                self._kill(client.pid)

    def _kill(self, pid: int | None) -> None:
        if pid is None or pid not in self._children:
            return
        for send in (os.killpg, os.kill):  # the second for a child that has not reached setsid yet
            try:
                send(pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                continue

    def _kill_unwanted(self) -> None:
        for pid, client in list(self._children.items()):
            if client is None:
                self._kill(pid)

    def _reply(self, client: _Client, answer: dict[str, Any]) -> None:
        try:
            client.connection.send(json.dumps(answer).encode() + b"\n")
        except OSError:  # nobody listens any more; the closed connection is dropped when it is read
            return

    def _end(self) -> NoReturn:
        deadline = time.monotonic() + _LEAVING_SECONDS
        while _is_machine_ending() and self._reap() and time.monotonic() < deadline:
            time.sleep(_PAUSE_SECONDS)
        for pid in list(self._children):
            self._kill(pid)
        deadline = time.monotonic() + _END_SECONDS
        while self._reap() and time.monotonic() < deadline:
            time.sleep(_PAUSE_SECONDS)
        for pid in list(self._logs):
            self._keep_log(pid)
        shutil.rmtree(self._config.folder, ignore_errors=True)
        os._exit(_OWNER_GONE)


def _is_machine_ending() -> bool:
    """Whether SIGTERM has come; it stays blocked, so that there is a parent to leave from."""
    return signal.SIGTERM in signal.sigpending()


def _children() -> set[int]:
    """Process ids of this process's children, where the system tells; one that ends meanwhile may hide another."""
    try:
        return set(map(int, Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()))
    except OSError:
        return set()


def _log_of(request: dict[str, Any]) -> TrialLog | None:
    """The log a request asks for; None drops what the process prints."""
    if request["log"] == os.devnull:
        return None
    from sweep.execution.trial_log import TrialLog
    from sweep.redaction import Redactor

    redactor = Redactor.from_environment({**os.environ, **(request.get("env") or {})})
    try:
        return TrialLog(Path(request["log"]), redactor.knowing(*request.get("secrets", ())))
    except OSError as error:
        # A trial without a log is better than none.
        sys.stderr.write(f"{request['log']}: cannot be written ({error})\n")
        return None


def _redirect(log: TrialLog | None) -> None:
    """Send what the process prints to its log, line by line."""
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    if log is None:
        os.dup2(null, 1)
        os.dup2(null, 2)
    else:
        log.become_output()
    os.close(null)
    # Anew: the old ones take what is a pipe now for a file still.
    sys.stdout, sys.stderr = (
        open(number, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
        for number in (1, 2)
    )


if __name__ == "__main__":
    main(sys.argv[1:])
