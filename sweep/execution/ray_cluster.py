"""The Ray cluster that workers live on: started here for one driver, or joined by its address."""

from __future__ import annotations

import contextlib
import math
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sweep.errors import ExecutionError
from sweep.execution import ray_guard
from sweep.execution.ray_private import (
    check_token,
    keeping_signals,
    nodes_to_come,
    private_ray,
    quiet_ray,
    use_token,
)

_PROBE_SECONDS = 5.0
_JOIN_SECONDS = 12.0
_GUARD_SECONDS = 2.0
_OBJECT_STORE_BYTES = 100 * 2**20  # only small messages go through it; Ray's least is 75 MB


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialShare:
    """What one trial takes.

    Attributes:
        cpus: Logical CPUs; may be a fraction.
        gpus: GPUs; may be a fraction of one.
    """

    cpus: float = 1.0
    gpus: float = 0.0

    def fits(self, resources: dict[str, float]) -> int:
        """How many trials fit on a node with these Ray resources."""
        room = math.inf
        for name, share in (("CPU", self.cpus), ("GPU", self.gpus)):
            if share > 0:
                room = min(room, math.floor(resources.get(name, 0.0) / share + 1e-9))
        return int(room) if math.isfinite(room) else 1


@dataclass(frozen=True, slots=True, kw_only=True)
class RayCluster:
    """A connection to Ray.

    Attributes:
        workers: Workers of the asked share to run on it; None is as many as fit, whatever nodes come and go.
        guard: Ends what is left of an embedded cluster; None for a joined one.
        restart: Starts an embedded cluster of the same kind; None for a joined one.
    """

    workers: int | None
    guard: Guard | None = None
    restart: Callable[[], RayCluster] | None = None

    def shutdown(self) -> None:
        """Disconnect, and end the cluster if it is embedded; bounded; idempotent."""
        import ray

        ray.shutdown()
        if self.guard is not None:
            self.guard.release()


class Guard:
    """A small process that ends an embedded cluster for certain once this process is gone, or lets go.

    Attributes:
        folder: The cluster's own folder; removed at the end.
    """

    def __init__(self) -> None:
        self.folder = tempfile.mkdtemp(prefix="sweep-ray-")
        reader, self._writer = os.pipe()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", ray_guard.__file__, str(reader), self.folder],
                pass_fds=(reader,),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        finally:
            os.close(reader)

    def release(self) -> None:
        """Have it clean up now, and wait for it, bounded; idempotent."""
        if self._writer >= 0:
            os.close(self._writer)
            self._writer = -1
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_GUARD_SECONDS)


@keeping_signals()
def start_cluster(share: TrialShare, *, workers: int | None, logical_gpus: int | None = None) -> RayCluster:
    """Start Ray on this host for this process alone; it ends with the process, however that ends.

    Args:
        share: What one trial takes.
        workers: Trials side by side; None is as many as fit on the CPUs this process may use, and on the GPUs.
        logical_gpus: GPUs to announce; None counts them.

    Raises:
        ExecutionError: If Ray does not start, or not one trial fits.
    """
    if threading.current_thread() is not threading.main_thread():
        raise ExecutionError("Ray must be started from the main thread: its processes live as long as that thread")
    cpus = usable_cpus()
    announced = max(cpus, math.ceil((workers or 1) * share.cpus))
    guard = Guard()
    try:
        _init(
            address="local",
            num_cpus=announced,
            num_gpus=logical_gpus,
            object_store_memory=_OBJECT_STORE_BYTES,
            include_dashboard=False,
            # Ray would end our light workers for memory that others take; the kernel ends who takes it.
            _system_config={"memory_monitor_refresh_ms": 0},
            _temp_dir=guard.folder,
        )
        _check_fit(share)
        restart = partial(start_cluster, share, workers=workers, logical_gpus=logical_gpus)
        return RayCluster(workers=workers, guard=guard, restart=restart)
    except ExecutionError:
        RayCluster(workers=0, guard=guard).shutdown()
        raise


@keeping_signals()
def join_cluster(address: str, share: TrialShare, *, workers: int | None) -> RayCluster:
    """Join a running Ray cluster.

    Args:
        address: ``host:port`` of its head, ``ray://host:port``, or ``auto`` for the one this host belongs to.
        share: What one trial takes.
        workers: Trials side by side; None is as many as fit on its nodes, also on those that join later.

    Raises:
        ExecutionError: If it cannot be reached, or not one trial fits.
    """
    _probe(address)
    failures: list[ExecutionError] = []

    def join() -> None:
        try:
            _authenticate(address)
            _init(address=address)
        except ExecutionError as error:
            failures.append(error)

    # Ray waits for minutes for a head that accepts connections but does not answer.
    joining = threading.Thread(target=join, daemon=True, name="join-ray")
    joining.start()
    joining.join(_JOIN_SECONDS)
    if joining.is_alive():
        raise ExecutionError(
            f"the Ray cluster at {address!r} did not answer within {_JOIN_SECONDS:.0f} s. "
            "Look at its head with `ray status`"
        )
    if failures:
        raise failures[0]
    try:
        _check_fit(share)
        return RayCluster(workers=workers)
    except ExecutionError:
        RayCluster(workers=0).shutdown()
        raise


def usable_cpus() -> int:
    """CPUs this process may use, by affinity and by its control group's quota; at least 1."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        if quota != "max":
            return max(1, min(affinity, int(quota) // int(period)))
    return affinity


def _init(**arguments: Any) -> None:
    quiet_ray()
    import ray

    if ray.is_initialized():
        raise ExecutionError("Ray is already running in this process; close the other executor first")
    privately = private_ray() if arguments["address"] == "local" else contextlib.nullcontext()
    try:
        with privately:
            ray.init(log_to_driver=False, logging_level="ERROR", **arguments)
    except (OSError, RuntimeError, TimeoutError, ValueError, ray.exceptions.RayError) as error:
        place = arguments["address"]
        raise ExecutionError(
            f"Ray at {place!r} cannot be started or joined: {error}. Look for its logs in /tmp/ray or on its head"
        ) from error


def _authenticate(address: str) -> None:
    """Use the token this process has, if it has one, and have the head look at it.

    Raises:
        ExecutionError: If the head wants another.
    """
    quiet_ray()
    is_given = bool({"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & set(os.environ))
    if is_given or Path("~/.ray/auth_token").expanduser().exists():
        use_token()
    from ray.exceptions import AuthenticationError, RayError

    if address == "auto" or "://" in address:
        return
    try:
        check_token(address)
    except AuthenticationError as error:
        raise ExecutionError(
            f"the Ray cluster at {address!r} wants another token than this process has. Put its token into "
            "RAY_AUTH_TOKEN, or the token's file into RAY_AUTH_TOKEN_PATH"
        ) from error
    except (RayError, OSError, RuntimeError):
        return  # joining tells it better


def _probe(address: str) -> None:
    if address in ("auto", "local"):
        return
    parts = urlsplit(address if "://" in address else f"//{address}")
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or not port:
        raise ExecutionError(
            f"resources.address {address!r} is not host:port, ray://host:port or auto. Write one of these"
        )
    try:
        socket.create_connection((host, port), timeout=_PROBE_SECONDS).close()
    except OSError as error:
        raise ExecutionError(
            f"no Ray cluster answers at {address!r}: {error}. Start one with `ray start --head`, or leave "
            "resources.address out"
        ) from error


def _check_fit(share: TrialShare) -> None:
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(share.fits(node) for node in [*nodes, *nodes_to_come()]):
        has = ", ".join(f"{node.get('CPU', 0):g} CPUs and {node.get('GPU', 0):g} GPUs" for node in nodes)
        raise ExecutionError(
            f"a trial needs {share.cpus:g} CPUs and {share.gpus:g} GPUs on one node, but the nodes have {has}. "
            "Lower resources.cpus_per_trial or resources.gpus_per_trial"
        )
