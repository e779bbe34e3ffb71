"""Models that were saved as an adapter alone: their base model with the adapter merged."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch

from objectives.finetune.adapters import FILES, load_adapter, merge_adapters
from objectives.finetune.layers import keep_layers
from objectives.finetune.models import Head, content_of_weights, load_config, load_weights
from objectives.finetune.quantized import NONE, round_weights
from sweep.checkpoints.adapted import BASE_FILE, AdapterBase, base_of
from sweep.errors import CheckpointError, ModelError


def load_adapted(folder: Path, head: Head, *, trust_remote_code: bool = False) -> torch.nn.Module:
    """The plain model that a saved adapter and its base make together, in fp32 on the CPU; draws no random number.

    A quantised base is rounded alike: what was trained, and scored, is what is merged.

    Args:
        folder: Of the adapter.
        head: Of its task; only the class counts, as the folder has the configuration.
        trust_remote_code: Whether Python code that the base model brings along may run.

    Raises:
        ModelError: If the base model is gone, has changed, or cannot be loaded.
        CheckpointError: If the adapter cannot be read.
        UserError: If the base cannot be quantised here.
    """
    from peft import LoraConfig, inject_adapter_in_model

    base = check_base(folder)
    trust: dict[str, Any] = {"trust_remote_code": trust_remote_code}
    config = load_config(str(folder), **trust)
    if base.keep_layers is not None:
        whole = load_config(base.reference, **trust)
        config.num_hidden_layers = whole.num_hidden_layers
        if getattr(config, "layer_types", None):
            config.layer_types = whole.layer_types
    with torch.random.fork_rng(devices=[]):
        model = load_weights(base.reference, head, config, **trust)
        if base.keep_layers is not None:
            keep_layers(model, base.keep_layers)
        if base.quantization != NONE:
            round_weights(model)
        adapter: Any = LoraConfig.from_pretrained(folder)
        # Both are done already: the head is no copy, and the layers are those that were kept.
        adapter.modules_to_save = adapter.layer_replication = None
        inject_adapter_in_model(adapter, model)
    load_adapter(folder, model)
    merge_adapters(model)
    return model


def write_merged(folder: Path, to: Path, head: Head, *, trust_remote_code: bool = False) -> None:
    """Write the plain model of a saved adapter into a new folder.

    Raises:
        ModelError: See :func:`load_adapted`.
        CheckpointError: Likewise.
        UserError: Likewise.
        OSError: If it cannot be written.
    """
    model: Any = load_adapted(folder, head, trust_remote_code=trust_remote_code)
    shutil.copytree(folder, to, ignore=shutil.ignore_patterns(*FILES, BASE_FILE))
    model.save_pretrained(to)


def check_base(folder: Path, loaded: AdapterBase | None = None) -> AdapterBase:
    """The base of a saved adapter, which is still what the adapter was trained on.

    Args:
        folder: Of the adapter.
        loaded: The base that it is put onto, if that is loaded already: it need not be hashed again.

    Raises:
        ModelError: If it is gone or has changed.
        CheckpointError: If the folder holds no adapter.
    """
    base = base_of(folder)
    if base is None:
        raise CheckpointError(f"{folder}: holds no adapter of this kind. Use another checkpoint.")
    try:
        content = content_of_weights(base.reference) if loaded is None else loaded.content
    except ModelError as err:
        raise ModelError(
            f"{folder}: the base model {base.reference!r} that its adapter belongs to is not to be had. "
            "Put it back where it was."
        ) from err
    if content != base.content:
        raise ModelError(
            f"{folder}: its adapter was trained on other weights than {base.reference!r} has now "
            f"({base.content[:12]} is not {content[:12]}). Put those back."
        )
    return base
