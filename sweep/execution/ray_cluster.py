"""The Ray cluster that workers live on: started here for one driver, or joined by its address."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import socket
import tempfile
import threading
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sweep.errors import ExecutionError
from sweep.execution.ray_private import private_ray, quiet_ray

_PROBE_SECONDS = 5.0
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
        workers: Workers of the asked share to run on it.
        is_embedded: Whether it was started here and ends with ``shutdown``.
        folder: Its own temporary folder, if embedded.
    """

    workers: int
    is_embedded: bool
    folder: Path | None

    def shutdown(self) -> None:
        """Disconnect, and end the cluster if it is embedded; bounded; idempotent."""
        import ray

        ray.shutdown()
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)


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
        raise ExecutionError(
            "Ray must be started from the main thread: its processes live as long as that thread"
        )
    cpus = usable_cpus()
    announced = max(cpus, math.ceil((workers or 1) * share.cpus))
    folder = Path(tempfile.mkdtemp(prefix="sweep-ray-"))
    try:
        _init(
            private_ray(),
            address="local",
            num_cpus=announced,
            num_gpus=logical_gpus,
            object_store_memory=_OBJECT_STORE_BYTES,
            include_dashboard=False,
            _temp_dir=str(folder),
        )
    except ExecutionError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    started = RayCluster(workers=0, is_embedded=True, folder=folder)
    try:
        fitting = _fitting(share, workers)
    except ExecutionError:
        started.shutdown()
        raise
    return RayCluster(workers=fitting, is_embedded=True, folder=folder)


def join_cluster(address: str, share: TrialShare, *, workers: int | None) -> RayCluster:
    """Join a running Ray cluster.

    Args:
        address: ``host:port`` of its head, ``ray://host:port``, or ``auto`` for the one this host belongs to.
        share: What one trial takes.
        workers: Trials side by side; None is as many as fit on its nodes.

    Raises:
        ExecutionError: If it cannot be reached, or not one trial fits.
    """
    _probe(address)
    _init(contextlib.nullcontext(), address=address)
    joined = RayCluster(workers=0, is_embedded=False, folder=None)
    try:
        fitting = _fitting(share, workers)
    except ExecutionError:
        joined.shutdown()
        raise
    return RayCluster(workers=fitting, is_embedded=False, folder=None)


def usable_cpus() -> int:
    """CPUs this process may use, by affinity and by its control group's quota; at least 1."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        if quota != "max":
            return max(1, min(affinity, int(quota) // int(period)))
    return affinity


def _init(guard: AbstractContextManager[None], **arguments: Any) -> None:
    quiet_ray()
    import ray

    if ray.is_initialized():
        raise ExecutionError("Ray is already running in this process; close the other executor first")
    try:
        with guard:
            ray.init(log_to_driver=False, logging_level="ERROR", **arguments)
    except (OSError, RuntimeError, TimeoutError, ValueError, ray.exceptions.RayError) as error:
        place = arguments["address"]
        raise ExecutionError(f"Ray at {place!r} cannot be started or joined: {error}") from error


def _probe(address: str) -> None:
    if address in ("auto", "local"):
        return
    parts = urlsplit(address if "://" in address else f"//{address}")
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or not port:
        raise ExecutionError(f"resources.address {address!r} is not host:port, ray://host:port or auto")
    try:
        socket.create_connection((host, port), timeout=_PROBE_SECONDS).close()
    except OSError as error:
        raise ExecutionError(
            f"no Ray cluster answers at {address!r}: {error}. Start one with `ray start --head`, or leave "
            "resources.address out"
        ) from error


def _fitting(share: TrialShare, workers: int | None) -> int:
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    room = sum(share.fits(node) for node in nodes)
    if room < 1:
        has = ", ".join(f"{node.get('CPU', 0):g} CPUs and {node.get('GPU', 0):g} GPUs" for node in nodes)
        raise ExecutionError(
            f"a trial needs {share.cpus:g} CPUs and {share.gpus:g} GPUs on one node, but the nodes have {has}. "
            "Lower resources.cpus_per_trial or resources.gpus_per_trial"
        )
    return room if workers is None else workers
