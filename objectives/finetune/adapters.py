"""Low-rank adapters in a model's layers, by peft: few weights are trained, and a plain model is saved.

peft takes seconds to import, so only a trial that asks for it does.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers.pytorch_utils import Conv1D

from objectives.finetune.layers import layers_in_order
from sweep.checkpoints import adapter_folder
from sweep.errors import ModelError

_WEIGHTS = "adapter_model.safetensors"
_PREFIX = "base_model.model."  # of peft's names


def add_adapters(model: torch.nn.Module, settings: Mapping[str, Any]) -> None:
    """Put adapters into a model's layers, in place, and leave only them and a new head to be trained.

    Draws from torch's global generator: seed it before.

    Args:
        model: A transformers model with its task's head.
        settings: ``method`` (``full``: nothing happens; ``lora``: Hu et al., arXiv:2106.09685; ``dora``: Liu et al.,
            arXiv:2402.09353), ``lora_rank``, ``lora_alpha``, ``lora_targets``, ``lora_dropout``.

    Raises:
        ModelError: If the model has no such layers.
    """
    if settings["method"] == "full":
        return
    from peft import LoraConfig, inject_adapter_in_model

    targets = _targets(model, str(settings["lora_targets"]))
    config = LoraConfig(
        r=int(settings["lora_rank"]),
        lora_alpha=settings["lora_alpha"],
        lora_dropout=float(settings["lora_dropout"]),
        use_dora=settings["method"] == "dora",
        target_modules=sorted(targets),
        fan_in_fan_out=any(isinstance(layer, Conv1D) for layer in targets.values()),
    )
    heads = _heads(model)
    inject_adapter_in_model(config, model)
    for head in heads:
        model.get_submodule(head).requires_grad_(True)
    # Told afterwards: peft would train a copy of the head.
    config.modules_to_save = heads
    model.adapter_config = config


def has_adapters(model: torch.nn.Module) -> bool:
    """Whether :func:`add_adapters` has put some into it."""
    return hasattr(model, "adapter_config")


def plain_state(model: torch.nn.Module) -> dict[str, torch.Tensor] | None:
    """Weights as the plain model has them, adapters merged, without changing the model; None if it has none."""
    if not has_adapters(model):
        return None
    state = {
        name.replace(".base_layer.", "."): value for name, value in model.state_dict().items() if ".lora_" not in name
    }
    for name, layer in _adapted(model):
        merged = copy.deepcopy(layer)
        merged.merge()
        state[f"{name}.weight"] = merged.get_base_layer().weight.detach()
    return state


def save_adapter(checkpoint: Path, model: torch.nn.Module, base: str) -> None:
    """Write adapters and head into a checkpoint, as ``PeftModel.from_pretrained`` loads them; nothing without any.

    Args:
        checkpoint: Folder of the checkpoint.
        model: The model.
        base: Reference of the model that they were put into.
    """
    if not has_adapters(model):
        return
    folder = adapter_folder(checkpoint)
    folder.mkdir(parents=True)
    config: Any = model.adapter_config
    save_file({_key(name): value.detach().contiguous() for name, value in _trained(model)}, folder / _WEIGHTS)
    values = {**config.to_dict(), "base_model_name_or_path": base, "inference_mode": True}
    plain = {name: sorted(value) if isinstance(value, set) else value for name, value in values.items()}
    (folder / "adapter_config.json").write_text(json.dumps(plain, indent=2, default=str), encoding="utf-8")


def load_adapter(checkpoint: Path, model: torch.nn.Module) -> None:
    """Give a model the adapters and the head of a checkpoint, in place.

    Raises:
        OSError: If they cannot be read.
        KeyError: If one is missing.
    """
    kept = load_file(adapter_folder(checkpoint) / _WEIGHTS)
    with torch.no_grad():
        for name, value in _trained(model):
            value.copy_(kept[_key(name)])


def _trained(model: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Parameter]]:
    return ((name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad)


def _key(name: str) -> str:
    """peft's name of a parameter in a file."""
    return _PREFIX + name.replace("lora_magnitude_vector.default.weight", "lora_magnitude_vector").replace(
        ".default.", "."
    )


def _adapted(model: torch.nn.Module) -> Iterator[tuple[str, Any]]:
    from peft.tuners.lora import LoraLayer

    return ((name, layer) for name, layer in model.named_modules() if isinstance(layer, LoraLayer))


def _targets(model: torch.nn.Module, which: str) -> dict[str, torch.nn.Module]:
    """Linear maps of the layers, by name: all of them, or those of the attention."""
    inside = {part for layer in layers_in_order(model) for part in layer.modules()}
    found = {
        name: part
        for name, part in model.named_modules()
        if part in inside and isinstance(part, torch.nn.Linear | Conv1D) and (which == "all" or "att" in name.lower())
    }
    if not found:
        raise ModelError(
            f"lora_targets: {type(model).__name__} has no layers with such linear maps ({which}). Set method to full."
        )
    return found


def _heads(model: torch.nn.Module) -> list[str]:
    """Parts that the task has put onto the pretrained model, by name, and a pooler, which serves a head alone."""
    base: Any = getattr(model, "base_model", model)
    own: Any = model
    output = own.get_output_embeddings() if hasattr(own, "get_output_embeddings") else None
    heads = [name for name, part in model.named_children() if part is not base and part is not output]
    if isinstance(getattr(base, "pooler", None), torch.nn.Module):
        heads.append(next(name for name, part in model.named_modules() if part is base.pooler))
    return [name for name in heads if any(True for _ in model.get_submodule(name).parameters())]
