"""Low-rank adapters in a model's layers, by peft: few weights are trained, and they alone are saved.

peft takes seconds to import, so only a trial that asks for it does.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers.pytorch_utils import Conv1D

from objectives.finetune.layers import layers_in_order
from objectives.finetune.models import content_of_weights, drawn_weights, locate_model
from objectives.finetune.quantized import quantization_of, values_of
from sweep.checkpoints.adapted import AdapterBase
from sweep.errors import CheckpointError, ModelError

FILES = ("adapter_config.json", "adapter_model.safetensors")
"""As peft calls them."""

_CONFIG, _WEIGHTS = FILES
_PREFIX = "base_model.model."  # of peft's names


def add_adapters(model: torch.nn.Module, settings: Mapping[str, Any], base: str | None = None) -> None:
    """Put adapters into a model's layers, in place, and leave only them and a new head to be trained.

    Draws from torch's global generator: seed it before.

    Args:
        model: A transformers model with its task's head.
        settings: ``method`` (``full``: nothing happens; ``lora``: Hu et al., arXiv:2106.09685; ``dora``: Liu et al.,
            arXiv:2402.09353), ``lora_rank``, ``lora_alpha``, ``lora_targets``, ``lora_dropout``, ``keep_layers``,
            ``quantization``.
        base: Reference of the model that was loaded; a model that is to be saved needs it.

    Raises:
        ModelError: If the model has no such layers, or some of their weights were drawn at random.
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
    heads, drawn = _heads(model), _drawn_outside_layers(model)
    inject_adapter_in_model(config, model)
    for head in heads:
        model.get_submodule(head).requires_grad_(True)
    for name in drawn:
        # Nobody could draw it again: it is trained and saved.
        model.get_parameter(name).requires_grad_(True)
    # Told afterwards: peft would train a copy of the head.
    config.modules_to_save = heads
    kept = settings["keep_layers"]
    if kept is not None:
        # So that peft, too, takes these layers of the base model.
        config.layer_replication = [(layer, layer + 1) for layer in kept]
    own: Any = model
    own.adapter_config = config
    if base is not None:
        plain = (p for name, p in model.named_parameters() if ".lora_" not in name)
        own.adapter_base = AdapterBase(
            reference=str(Path(base).absolute()) if Path(base).is_dir() else base,
            content=content_of_weights(base),
            keep_layers=None if kept is None else tuple(kept),
            weight_bytes=sum(4 * values_of(p) for p in plain),  # merged, in fp32
            quantization=quantization_of(settings),
        )


def has_adapters(model: torch.nn.Module) -> bool:
    """Whether :func:`add_adapters` has put some into it."""
    return hasattr(model, "adapter_config")


def base_below(model: torch.nn.Module) -> AdapterBase | None:
    """The base that a model's adapters were put into; None of one without, or that is not to be saved."""
    return getattr(model, "adapter_base", None)


def merge_adapters(model: torch.nn.Module) -> None:
    """Make a model with adapters a plain one that computes the same, in place."""
    from peft.tuners.lora import LoraLayer

    for name, layer in [(name, part) for name, part in model.named_modules() if isinstance(part, LoraLayer)]:
        layer.merge()
        model.set_submodule(name, layer.get_base_layer())


def save_adapter(folder: Path, model: Any) -> None:
    """Write what was trained of a model with adapters, as ``PeftModel.from_pretrained`` loads it onto the base model.

    Beside it are the model's configuration and what is to be known of the base; see
    :class:`sweep.checkpoints.adapted.AdapterBase`.
    """
    config, base = model.adapter_config, model.adapter_base
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    if model.can_generate():
        model.generation_config.save_pretrained(folder)
    save_file({_key(name): value.detach().contiguous() for name, value in _trained(model)}, folder / _WEIGHTS)
    values = {**config.to_dict(), "base_model_name_or_path": locate_model(base.reference), "inference_mode": True}
    plain = {name: sorted(value) if isinstance(value, set) else value for name, value in values.items()}
    (folder / _CONFIG).write_text(json.dumps(plain, indent=2, default=str), encoding="utf-8")
    base.write(folder)


def load_adapter(folder: Path, model: torch.nn.Module) -> None:
    """Give a model the adapters and the head that :func:`save_adapter` wrote, in place.

    Raises:
        CheckpointError: If they cannot be read, or do not fit.
    """
    try:
        kept = load_file(folder / _WEIGHTS)
        parameters = {_key(name): parameter for name, parameter in model.named_parameters()}
        if lacking := [name for name in parameters if ".lora_" in name and name not in kept]:
            raise KeyError(lacking[0])
        with torch.no_grad():
            for name, value in kept.items():
                parameters[name].copy_(value)
    except (OSError, SafetensorError, KeyError, RuntimeError) as err:
        raise CheckpointError(f"{folder}: its adapter cannot be used ({err!r}). Use another checkpoint.") from err


def _trained(model: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Parameter]]:
    return ((name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad)


def _key(name: str) -> str:
    """peft's name of a parameter in a file."""
    return _PREFIX + name.replace("lora_magnitude_vector.default.weight", "lora_magnitude_vector").replace(
        ".default.", "."
    )


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
    drawn = set(drawn_weights(model))
    heads = [
        name
        for name, part in model.named_children()
        if part is not base
        and (part is not output or {f"{name}.{inner}" for inner, _ in part.named_parameters()} & drawn)
    ]
    if isinstance(getattr(base, "pooler", None), torch.nn.Module):
        heads.append(next(name for name, part in model.named_modules() if part is base.pooler))
    return [name for name in heads if any(True for _ in model.get_submodule(name).parameters())]


def _drawn_outside_layers(model: torch.nn.Module) -> list[str]:
    """Weights that the base model lacks.

    Raises:
        ModelError: If one of them is a layer's, which adapters would leave as it was drawn.
    """
    drawn = drawn_weights(model)
    inside = {parameter for layer in layers_in_order(model) for parameter in layer.parameters()}
    odd = next((name for name in drawn if model.get_parameter(name) in inside), None)
    if odd is not None:
        raise ModelError(f"method: the model has no weights for {odd}, so an adapter has no base. Set method to full.")
    return drawn
