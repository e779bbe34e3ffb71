"""The driver's view of a Ray cluster's nodes: which of them take workers, which are about to go, how others went."""

from __future__ import annotations

import contextlib
import time

import ray
from ray.exceptions import RayError

from sweep.execution.ray_cluster import TrialShare
from sweep.execution.ray_private import draining_nodes

_REFRESH_SECONDS = 1.0
_SUSPICION_SECONDS = 120.0
_IN_ORDER = frozenset({1, 3, 4})
"""Ray's reasons of death: expected, drained before a preemption, drained for being idle."""


class Nodes:
    """What is known of the cluster's nodes; asks Ray at most once a second.

    A node whose worker could not be reached is suspect: it gets no new workers until Ray has made up its mind, or
    for two minutes. If all nodes are suspect, none is.

    Args:
        share: What one worker takes.

    Attributes:
        draining: Ids of nodes that will go soon.
    """

    def __init__(self, share: TrialShare) -> None:
        self._share = share
        self._rooms: dict[str, int] = {}
        self._suspects: dict[str, float] = {}
        self._read_at = -_REFRESH_SECONDS
        self._has_heard = False
        self.draining: frozenset[str] = frozenset()

    @property
    def room(self) -> int:
        """Workers that fit on the nodes that take some."""
        return sum(room for node, room in self._rooms.items() if node not in self.avoided)

    @property
    def avoided(self) -> set[str]:
        """Ids of living nodes that get no new workers."""
        staying = self._rooms.keys() - self.draining
        suspects = self._suspects.keys() & self._rooms.keys()
        return set(self.draining | suspects if staying - suspects else self.draining)

    @property
    def are_gone(self) -> bool:
        """Whether Ray has said that none lives."""
        return self._has_heard and not self._rooms

    def refresh(self) -> None:
        """Ask Ray again, if the last answer is a second old; without an answer, what is known stands."""
        now = time.monotonic()
        if now - self._read_at < _REFRESH_SECONDS:
            return
        self._read_at = now
        self._suspects = {node: at for node, at in self._suspects.items() if now - at < _SUSPICION_SECONDS}
        with contextlib.suppress(RayError):
            alive = [node for node in ray.nodes() if node["Alive"]]
            self._rooms = {node["NodeID"]: self._share.fits(node["Resources"]) for node in alive}
            self.draining = draining_nodes()
            self._has_heard = True

    def suspect(self, node_id: str) -> bool:
        """Take note that a worker on this node could not be reached; returns whether that is news."""
        is_news = node_id in self._rooms and node_id not in self._suspects
        self._suspects[node_id] = time.monotonic()
        return is_news

    def left_in_order(self, node_id: str) -> bool:
        """Whether a node has gone because somebody ended or drained it."""
        with contextlib.suppress(RayError):
            return any(
                node["NodeID"] == node_id and not node["Alive"] and node.get("DeathReason") in _IN_ORDER
                for node in ray.nodes()
            )
        return False
