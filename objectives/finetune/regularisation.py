"""What is trained, at which share of the rate, and what decays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from objectives.finetune.layers import layers_in_order
from sweep.errors import ModelError

_EMBEDDING_PARTS = ("embeddings", "wte", "wpe", "embed_tokens", "shared")


def freeze(model: torch.nn.Module, parts: Sequence[str]) -> None:
    """Leave parts of a model untrained, in place.

    Args:
        model: A transformers model.
        parts: ``embeddings``: token and position embeddings with their normalisation.

    Raises:
        ModelError: If a part is unknown or not found.
    """
    for part in parts:
        if part != "embeddings":
            raise ModelError(f"freeze: {part!r} is unknown. Use `embeddings`.")
        base: Any = getattr(model, "base_model", model)
        found = [m for name in _EMBEDDING_PARTS if isinstance(m := getattr(base, name, None), torch.nn.Module)]
        if not found:
            raise ModelError(
                f"freeze: {type(model).__name__} has none of {', '.join(_EMBEDDING_PARTS)}. Leave freeze out."
            )
        for module in found:
            module.requires_grad_(False)


def decay_groups(model: torch.nn.Module, weight_decay: float, layer_decay: float = 1.0) -> list[dict[str, Any]]:
    """Parameter groups for an optimizer: matrices decay; biases and normalisation weights (vectors) do not.

    Args:
        model: The model.
        weight_decay: Of the matrices.
        layer_decay: Share of the learning rate that each layer has of the one above it: the head has all of it, the
            lowest layer of n has ``layer_decay ** n`` and the embeddings ``layer_decay ** (n + 1)`` (Howard and Ruder,
            arXiv:1801.06146; Clark et al., arXiv:2003.10555).

    Returns:
        Two groups for each share of the learning rate (its key is ``share``), of trainable parameters only, in the
        model's order.

    Raises:
        ModelError: If the rate shall fall by layers, and the model's layers are not found.
    """
    shares = _shares(model, layer_decay)
    groups = []
    for share in dict.fromkeys(shares.values()):
        own = [p for p, of in shares.items() if of == share]
        groups += [
            {"params": [p for p in own if p.ndim >= 2], "weight_decay": weight_decay, "share": share},
            {"params": [p for p in own if p.ndim < 2], "weight_decay": 0.0, "share": share},
        ]
    return groups


def _shares(model: torch.nn.Module, layer_decay: float) -> dict[torch.nn.Parameter, float]:
    """Share of the learning rate by trainable parameter, in the model's order."""
    trainable = [p for p in model.parameters() if p.requires_grad]
    if layer_decay == 1:
        return dict.fromkeys(trainable, 1.0)
    layers = layers_in_order(model)
    if not layers:
        raise ModelError(
            f"layer_decay: {layer_decay:g}, but the layers of {type(model).__name__} are not found. Leave it at 1."
        )
    within = {p: number for number, layer in enumerate(layers, 1) for p in layer.parameters()}
    last = [p for p in model.parameters() if p in within][-1]
    shares, depth, top = {}, 0, len(layers) + 1
    for parameter in model.parameters():
        # What stands between two layers learns as the one below; what follows the last one is the head.
        depth = within.get(parameter, depth)
        shares[parameter] = layer_decay ** (top - depth)
        if parameter is last:
            depth = top
    return {p: shares[p] for p in trainable}
