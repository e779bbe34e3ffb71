"""Keeping a choice of a model's layers, renumbered."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence
from typing import Any

import torch

from sweep.errors import ModelError

_STACKS = ("encoder.layer", "transformer.layer", "layers", "h")


def check_layers(config: Any, kept: Sequence[int] | None) -> None:
    """Refuse a choice of layers that a configuration does not have.

    Raises:
        ModelError: If it is empty, has doubles, is not ascending, or is out of range.
    """
    if kept is None:
        return
    count = getattr(config, "num_hidden_layers", None)
    last = f" and below {count}" if count is not None else ""
    ascending = all(a < b for a, b in itertools.pairwise(kept))
    if not kept or not ascending or kept[0] < 0 or (count is not None and kept[-1] >= count):
        raise ModelError(
            f"keep_layers: {list(kept)} must be ascending indices, each once, from 0{last}. "
            "Leave it out to keep all layers."
        )


def keep_layers(model: torch.nn.Module, kept: Sequence[int]) -> None:
    """Keep the layers at ``kept``, in place, with configuration and layer numbers to match.

    Args:
        model: A transformers model of which the stack of layers is known.
        kept: Indices, ascending.

    Raises:
        ModelError: If the stack is not found, an index is out of range, or the layers left could not be loaded again.
    """
    base: Any = getattr(model, "base_model", model)
    owner, name = _stack(base)
    layers = getattr(owner, name)
    config: Any = model.config
    if config.num_hidden_layers != len(layers):
        raise ModelError(
            f"keep_layers: {type(model).__name__} has {len(layers)} layers where its configuration says "
            f"{config.num_hidden_layers}. Leave keep_layers out."
        )
    check_layers(config, kept)
    remaining = torch.nn.ModuleList(layers[i] for i in kept)
    for number, layer in enumerate(remaining):
        for part in layer.modules():
            if hasattr(part, "layer_idx"):
                setattr(part, "layer_idx", number)  # noqa: B010
    setattr(owner, name, remaining)
    config.num_hidden_layers = len(kept)
    if getattr(config, "layer_types", None):
        config.layer_types = [config.layer_types[i] for i in kept]
    _check_loads_again(model, kept)


def layers_in_order(model: torch.nn.Module) -> list[torch.nn.Module]:
    """The layers of all of a model's stacks, lowest first; a decoder's follow its encoder's."""
    found: list[torch.nn.Module] = []
    inside: set[torch.nn.Module] = set()
    for module in model.modules():
        if isinstance(module, torch.nn.ModuleList) and module not in inside:
            found.extend(module)
            inside.update(module.modules())
    return found


def _check_loads_again(model: Any, kept: Sequence[int]) -> None:
    """Refuse a cut model whose weights are not those that its configuration will build: some would get lost."""
    with torch.device("meta"):
        built = type(model)(copy.deepcopy(model.config))
    odd = sorted(model.state_dict().keys() ^ built.state_dict().keys())
    if odd:
        raise ModelError(
            f"keep_layers: {list(kept)} begins {type(model).__name__} with a layer that is built otherwise than its "
            f"first (it differs in {odd[0]}), so the model could not be loaded again. Keep layer 0."
        )


def _stack(base: Any) -> tuple[Any, str]:
    for path in _STACKS:
        *owners, name = path.split(".")
        owner = base
        for part in owners:
            owner = getattr(owner, part, None)
        if isinstance(getattr(owner, name, None), torch.nn.ModuleList):
            return owner, name
    raise ModelError(
        f"keep_layers: the layers of {type(base).__name__} are not found; known places are {', '.join(_STACKS)}. "
        "Leave keep_layers out."
    )
