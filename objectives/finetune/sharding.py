"""A model that is spread over the processes of a team, each of which keeps a share of every weight (FSDP).

For models that do not fit onto one device: a layer's weights are put together while it computes, and its gradients are
parted again. Whatever computes with the model, or reads its weights, is done by all processes then: an evaluation and
a commit, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from objectives.data.batching import Indices
from objectives.finetune.layers import layers_in_order
from objectives.finetune.peers import Order, Part, Peers
from sweep.errors import ModelError


class Sharded(Peers):
    """One of the processes of a team that keeps a share of the model (Zhao et al., arXiv:2304.11277)."""

    def share(self, model: Any) -> None:
        """Spread rank 0's weights over the processes, and give each a stream of random numbers of its own."""
        self._take_weights_and_seed(model)
        mesh = init_device_mesh(self._device.type, (self.size,))
        for layer in layers_in_order(model):
            fully_shard(layer, mesh=mesh)
        fully_shard(model, mesh=mesh)
        for part in model.modules():
            if isinstance(part, FSDPModule):  # the losses are weighted already: a sum, no mean
                part.set_gradient_divide_factor(1.0)
                part.set_force_sum_reduction_for_comms(True)
                with self.expecting():
                    # What is allocated the first time may serve an evaluation, which runs in inference mode, alone.
                    part.unshard()
                    part.reshard()
        model.to(self._device)  # its buffers

    def own(self, parts: Sequence[Indices]) -> Sequence[Part]:
        """Every ``size``-th part; all take as many, since all are needed for each: some count nothing."""
        rounds = -(-len(parts) // self.size)
        places = [turn * self.size + self.rank for turn in range(rounds)]
        return [(parts[place], 1.0) if place < len(parts) else (parts[0], 0.0) for place in places]

    def sum_gradients(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        """They were summed when they were parted."""

    def begin_evaluation(self) -> None:
        """Have the others evaluate, too."""
        self.order(Order.EVALUATE)

    def go_on(self, is_leaving: bool) -> bool:
        """Whether all leave an evaluation: rank 0 says so, between its batches."""
        if self.rank == 0:
            self.order(Order.LEAVE if is_leaving else Order.GO_ON)
            return is_leaving
        return self.order_of_leader() is not Order.GO_ON

    def whole(self, values: Mapping[str, Any], order: Order | None = None) -> dict[str, Any]:
        """Values by name, put together on rank 0's host where they are spread; all processes take part.

        Raises:
            PeerLostError: If another one is gone, or does not come in time.
        """
        if order is not None:
            self.order(order)
        together: dict[int, torch.Tensor] = {}
        with self.expecting():
            for value in values.values():
                # Two names may have the same weight.
                if isinstance(value, DTensor) and id(value) not in together:
                    full = value.full_tensor()
                    together[id(value)] = full.cpu() if self.rank == 0 else full[:0]
        return {name: together.get(id(value), value) for name, value in values.items()}

    def part_of(self, value: torch.Tensor, parameter: torch.Tensor) -> torch.Tensor:
        """This process's share of a value that goes with a parameter."""
        if not isinstance(parameter, DTensor) or value.shape != parameter.shape:
            return value
        whole = value.to(self._device)
        return distribute_tensor(whole, parameter.device_mesh, parameter.placements, src_data_rank=None)


def refuse_what_cannot_be_sharded(model: Any) -> None:
    """Refuse a model of which only parts compute at times.

    Raises:
        ModelError: If it is one.
    """
    if getattr(model.config, "is_encoder_decoder", False):
        raise ModelError(
            f"resources.strategy: {type(model).__name__} cannot be sharded: its encoder computes without its decoder. "
            "Use ddp."
        )
