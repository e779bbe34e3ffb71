"""Several processes that train one model together, each on a device of its own, by ``torch.distributed``.

Rank 0 leads: before each step it sends the others an order, so that no process enters a collective operation that
another one will not enter. Whatever takes long or comes to nothing (an evaluation, a commit, a decision, leaving) is
rank 0's alone: the others wait for their next order, however long, and the last one is to end.
"""

from __future__ import annotations

import contextlib
import enum
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from safetensors.torch import load, save

from objectives.data.batching import Indices
from sweep.teams import PeerLostError, Team

_BUCKET_BYTES = 25 * 2**20
_LENGTH_BYTES = 8

Part = tuple[Indices, float]
"""Rows of a step, and whether they count: 1, or 0 for those that are computed for the company only."""


class Order(enum.Enum):
    """What rank 0 has the others do."""

    STEP = b"s"
    TELL_RANDOM_STATE = b"r"
    EVALUATE = b"v"
    GO_ON = b"g"
    LEAVE = b"l"
    TELL_WEIGHTS = b"w"
    TELL_OPTIMIZER = b"o"
    END = b"e"


class Alone:
    """A training in one process.

    Args:
        device: Where it computes.

    Attributes:
        rank: Number of this process.
        size: Processes in all.
    """

    rank = 0
    size = 1

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def expecting(self) -> contextlib.AbstractContextManager[None]:
        """Context of what all processes take part in."""
        return contextlib.nullcontext()

    def order(self, order: Order) -> None:
        """Have the others do something."""

    def share(self, model: torch.nn.Module) -> None:
        """Put a model onto the device, the same one in all processes, in place."""
        model.to(self._device)

    def own(self, parts: Sequence[Indices]) -> Sequence[Part]:
        """Which parts of a step are this process's."""
        return [(part, 1.0) for part in parts[self.rank :: self.size]]

    def summed(self, value: torch.Tensor) -> torch.Tensor:
        """The sum of a scalar over all processes."""
        return value

    def sum_gradients(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        """Give each parameter the sum of its gradients over all processes."""

    def begin_evaluation(self) -> None:
        """Have the others evaluate, too, if they are needed for it."""

    def go_on(self, is_leaving: bool) -> bool:
        """Whether to leave an evaluation, between its batches."""
        return is_leaving

    def whole(self, values: Mapping[str, Any], order: Order | None = None) -> dict[str, Any]:
        """Values by name, put together where they are spread over processes.

        Args:
            values: The same names in all processes.
            order: What has the others take part.
        """
        return dict(values)

    def part_of(self, value: torch.Tensor, parameter: torch.Tensor) -> torch.Tensor:
        """This process's share of a value that goes with a parameter."""
        return value

    def random_states(self, device: torch.device) -> dict[str, torch.Tensor]:
        """torch's random states in all processes, by a name for each."""
        return random_state(device, self.rank)


class Peers(Alone):
    """One of the processes of a team, each of which has the whole model (data-parallel training).

    The gradients are summed once a step, after its last micro-batch, in buckets that never change: that keeps a
    resumed training bit-identical, and a layer that only some processes have used needs no care.

    Args:
        team: Which one this is, and how the others are reached.
        device: Its device.

    Raises:
        PeerLostError: If another one does not come.
    """

    def __init__(self, team: Team, device: torch.device) -> None:
        super().__init__(device)
        self.rank = team.rank
        self.size = team.size
        self._team = team
        for link in team.links if team.rank == 0 else ():
            link.settimeout(team.patience_seconds)
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # all are on this host, and nobody else shall connect
        with self.expecting():
            dist.init_process_group(
                "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
                store=dist.FileStore(team.meeting, team.size),  # type: ignore[attr-defined]
                rank=team.rank,
                world_size=team.size,
                timeout=timedelta(seconds=team.patience_seconds),
            )

    def order(self, order: Order) -> None:
        """Have the others do something.

        Raises:
            PeerLostError: If one is gone, unless they are to end.
        """
        for rank, link in enumerate(self._team.links, 1):
            try:
                link.sendall(order.value)
            except OSError as error:
                if order is not Order.END:
                    raise PeerLostError(f"rank {rank} of {self.size} takes no more orders: {error}") from error

    def orders(self) -> Iterator[Order]:
        """What rank 0 orders, up to the end or its own; only what the caller has to do is yielded."""
        while (order := self.order_of_leader()) is not Order.END:
            if order is Order.TELL_RANDOM_STATE:
                state = save(random_state(self._device, self.rank))
                self._team.links[0].sendall(len(state).to_bytes(_LENGTH_BYTES, "big") + state)
            else:
                yield order

    def order_of_leader(self) -> Order:
        """Wait for rank 0's next order, however long; its own end is one, too."""
        word = self._team.links[0].recv(1)
        return Order(word) if word else Order.END

    @contextlib.contextmanager
    def expecting(self) -> Iterator[None]:
        """Do something that all processes take part in.

        Raises:
            PeerLostError: If another one is gone, or does not come in time.
        """
        try:
            yield
        except (dist.DistError, RuntimeError) as error:
            if not isinstance(error, dist.DistError) and "gloo" not in str(error):
                raise
            said = " ".join(str(error).split())[:300]
            raise PeerLostError(
                f"rank {self.rank} of {self.size} waited for another in vain, at most {self._patience}: {said}"
            ) from error

    def share(self, model: torch.nn.Module) -> None:
        """Give all processes rank 0's weights, and each a stream of random numbers of its own."""
        self._take_weights_and_seed(model.to(self._device))

    def _take_weights_and_seed(self, model: torch.nn.Module) -> None:
        with torch.no_grad(), self.expecting():
            for tensor in (*model.parameters(), *model.buffers()):
                if tensor.is_floating_point():
                    same = tensor.contiguous()
                    dist.broadcast(same, src=0)
                    tensor.copy_(same)
        if self.rank > 0:
            torch.manual_seed(torch.initial_seed() + self.rank)

    def summed(self, value: torch.Tensor) -> torch.Tensor:
        """The sum of a scalar over all processes, on its device."""
        dist.all_reduce(value)
        return value

    def sum_gradients(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        """Give each parameter the sum of its gradients over all processes; one that none has used stays without."""
        used = torch.tensor([parameter.grad is not None for parameter in parameters], dtype=torch.uint8)
        dist.all_reduce(used, op=dist.ReduceOp.MAX)
        gradients = []
        for parameter, is_used in zip(parameters, used.tolist(), strict=True):
            if is_used:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                gradients.append(parameter.grad)
        for bucket in _buckets(gradients):
            flat = torch.cat([gradient.reshape(-1) for gradient in bucket])
            dist.all_reduce(flat)
            for gradient, found in zip(bucket, torch.split(flat, [each.numel() for each in bucket]), strict=True):
                gradient.copy_(found.view_as(gradient))

    def random_states(self, device: torch.device) -> dict[str, torch.Tensor]:
        """Rank 0's random states and, on its order, those of the others.

        Raises:
            PeerLostError: If one does not tell in time.
        """
        states = random_state(device, self.rank)
        self.order(Order.TELL_RANDOM_STATE)
        for rank, link in enumerate(self._team.links, 1):
            length = int.from_bytes(self._received(rank, link, _LENGTH_BYTES), "big")
            states |= load(self._received(rank, link, length))
        return states

    @property
    def _patience(self) -> str:
        return f"{self._team.patience_seconds:g} s (half of limits.silence_minutes, or of an hour)"

    def _received(self, rank: int, link: socket.socket, length: int) -> bytes:
        found = b""
        while len(found) < length:
            try:
                piece = link.recv(length - len(found))
            except TimeoutError as error:
                raise PeerLostError(f"rank {rank} of {self.size} has not answered for {self._patience}") from error
            if not piece:
                raise PeerLostError(f"rank {rank} of {self.size} is gone")
            found += piece
        return found


def random_state(device: torch.device, rank: int) -> dict[str, torch.Tensor]:
    """torch's random states in this process, by names that no other rank has."""
    mark = f".{rank}" if rank else ""
    state = {f"cpu{mark}": torch.get_rng_state()}
    if device.type == "cuda":
        state[f"cuda{mark}"] = torch.cuda.get_rng_state(device)
    return state


def set_random_state(states: dict[str, torch.Tensor], device: torch.device, rank: int) -> None:
    """Put torch where :func:`random_state` was told.

    Raises:
        KeyError: If there is no state of this rank.
    """
    mark = f".{rank}" if rank else ""
    torch.set_rng_state(states[f"cpu{mark}"])
    if device.type == "cuda" and f"cuda{mark}" in states:
        torch.cuda.set_rng_state(states[f"cuda{mark}"], device)


def _buckets(gradients: Sequence[torch.Tensor]) -> Iterator[list[torch.Tensor]]:
    """The gradients in order, in groups of one number format and a bounded size."""
    bucket: list[torch.Tensor] = []
    size = 0
    for gradient in gradients:
        if bucket and (size + gradient.nbytes > _BUCKET_BYTES or gradient.dtype != bucket[0].dtype):
            yield bucket
            bucket, size = [], 0
        bucket.append(gradient)
        size += gradient.nbytes
    if bucket:
        yield bucket
