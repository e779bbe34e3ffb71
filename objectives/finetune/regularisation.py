"""What is trained, and what decays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

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


def decay_groups(model: torch.nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups for AdamW: matrices decay; biases and normalisation weights (vectors) do not.

    Returns:
        Two groups, of trainable parameters only, in the model's order.
    """
    trainable = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trainable if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trainable if p.ndim < 2], "weight_decay": 0.0},
    ]
