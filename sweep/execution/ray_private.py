"""What Ray offers no public way to: each is used only if Ray still has it, and the product works without it.

The largest part is Ray for one driver alone, deaf to the network and without the parts such a cluster has no use
for: without these changes, which hold only while Ray starts, it is slower, larger and open to the local network.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import secrets
import signal
import threading
from collections.abc import Iterator
from typing import Any

_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # the workers hide devices themselves; this silences a warning
}
_TOKEN = secrets.token_hex(32)
"""Ray reads the token once for each process, so each process has one."""


def quiet_ray() -> None:
    """Set what Ray reads from the environment; keep its words off the terminal and its hands off SIGTERM."""
    os.environ.update(_ENVIRONMENT)
    worker: Any = importlib.import_module("ray._private.worker")
    if hasattr(worker, "print_to_stdstream"):
        # It prints the death of nodes and workers to stdout, whatever the logging level.
        worker.print_to_stdstream = lambda *_, **__: None
    utils: Any = importlib.import_module("ray._private.utils")
    if hasattr(utils, "set_sigterm_handler"):
        # It would end the driver in the midst of things; the driver drains instead.
        utils.set_sigterm_handler = lambda _: None


@contextlib.contextmanager
def keeping_signals() -> Iterator[None]:
    """Keep this process's signal handlers: Ray's core lays its own, which end the process, over them.

    Within, they are put back as soon as the core is made, and signals wait so long; at the latest they are at the end.
    """
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}

    def put_back() -> None:
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():
                if handler is not None:
                    signal.signal(number, handler)

    raylet: Any = importlib.import_module("ray._raylet")
    make_core: Any = getattr(raylet, "CoreWorker", None)

    def make_core_undisturbed(*arguments: Any, **named: Any) -> Any:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, handlers)
        try:
            return make_core(*arguments, **named)
        finally:
            put_back()
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    try:
        if make_core is not None:
            raylet.CoreWorker = make_core_undisturbed
        yield
    finally:
        if make_core is not None:
            raylet.CoreWorker = make_core
        put_back()


def draining_nodes() -> frozenset[str]:
    """Ids of the nodes that take no new work and will go soon; none where Ray cannot tell."""
    with contextlib.suppress(Exception):  # whatever a changed or a remote Ray raises
        state: Any = importlib.import_module("ray._private.state").state
        return frozenset(state.get_draining_nodes())
    return frozenset()


def nodes_to_come() -> list[dict[str, float]]:
    """Resources of each kind of node that the cluster may grow by; none where it cannot grow, or Ray cannot tell."""
    with contextlib.suppress(Exception):  # whatever a changed or a remote Ray raises
        config: Any = importlib.import_module("ray._private.state").state.get_cluster_config()
        return [dict(group.resources) for group in config.node_group_configs if group.max_count]
    return []


def use_token() -> None:
    """Have Ray in this process, and in those it starts, use the token it finds; it ignores one when it joins."""
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    config: Any = getattr(importlib.import_module("ray._raylet"), "Config", None)
    if config is not None:
        config.initialize("")  # it has read the environment once, when it was imported


def check_token(address: str) -> None:
    """Ask the head of a cluster at ``host:port`` whether it takes this process's token; ``ray.init`` would retry.

    Raises:
        ray.exceptions.AuthenticationError: If it does not.
    """
    client: Any = getattr(importlib.import_module("ray._raylet"), "GcsClient", None)
    if client is not None:
        client(address=address)


@contextlib.contextmanager
def private_ray() -> Iterator[None]:
    """Within, ``ray.init`` starts a cluster on the loopback interface, guarded by a token, without side processes.

    Left out are the dashboard's head, the autoscaler's monitor and the log monitor: about 260 MB and 2 CPU seconds.
    """
    if not {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & set(os.environ):
        os.environ["RAY_AUTH_TOKEN"] = _TOKEN  # else Ray makes one and leaves it in the user's home
    changes = (
        ("ray._private.ray_constants", None, "ENABLE_RAY_CLUSTER", False),  # false binds to 127.0.0.1
        ("ray._private.services", None, "start_api_server", lambda *_, **__: (None, None)),
        ("ray._private.node", "Node", "start_monitor", lambda _: None),
        ("ray._private.node", "Node", "start_log_monitor", lambda _: None),
    )
    with contextlib.ExitStack() as stack:
        for module, owner, name, value in changes:
            place: Any = importlib.import_module(module)
            place = getattr(place, owner, None) if owner else place
            if hasattr(place, name):
                stack.callback(setattr, place, name, getattr(place, name))
                setattr(place, name, value)
        yield
