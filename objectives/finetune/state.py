"""A loop's state on disk: a model transformers can load, and what is needed to go on. No pickle."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from objectives.finetune.adapters import has_adapters, save_adapter
from objectives.finetune.loop import Loop
from objectives.finetune.optimizers import state_bytes
from objectives.finetune.peers import Order, set_random_state
from sweep.checkpoints import STATE_PREFIX, model_folder
from sweep.errors import CheckpointError

_OPTIMIZER = "optimizer.safetensors"
_RANDOM = "state.safetensors"
_POSITION = "state.json"


def save_training(checkpoint: Path, loop: Loop, model: Any, tokenizer: Path, max_length: int) -> None:
    """Write a model and the state of its training into a checkpoint, together with all processes that train it."""
    weights = loop.peers.whole(model.state_dict(), Order.TELL_WEIGHTS)
    save_model(model_folder(checkpoint), model, weights, tokenizer, max_length)
    save_state(checkpoint, loop, model)


def save_model(folder: Path, model: Any, weights: Mapping[str, torch.Tensor], tokenizer: Path, max_length: int) -> None:
    """Write weights (fp32 safetensors), configuration and tokenizer into a folder.

    Args:
        folder: Where to write; made if missing.
        model: A transformers model; of one with adapters, what was trained is written alone.
        weights: Its weights by name.
        tokenizer: Folder of the tokenizer's files.
        max_length: Tokens the model was trained on; the tokenizer will truncate there.
    """
    if has_adapters(model):
        save_adapter(folder, model)
    else:
        model.save_pretrained(folder, state_dict=dict(weights))
    shutil.copytree(tokenizer, folder, dirs_exist_ok=True)
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["model_max_length"] = max_length
    path.write_text(json.dumps(config, ensure_ascii=False, indent=2), encoding="utf-8")


def save_state(checkpoint: Path, loop: Loop, model: torch.nn.Module) -> None:
    """Write optimizer, random states and position into ``state/`` of a checkpoint."""
    folder = checkpoint / STATE_PREFIX
    folder.mkdir(parents=True)
    kept = loop.peers.whole(optimizer_state(loop.optimizer, model), Order.TELL_OPTIMIZER)
    tensors = {name: value for name, value in kept.items() if isinstance(value, torch.Tensor)}
    save_file({name: value.contiguous() for name, value in tensors.items()}, folder / _OPTIMIZER)
    save_file(loop.peers.random_states(next(model.parameters()).device), folder / _RANDOM)
    position = {
        "optimizer": {name: value for name, value in kept.items() if name not in tensors},
        "step": loop.step,
        "scaler": loop.scaler.state_dict(),
        "loss_sum": float(loop.loss_sum),
        "loss_steps": loop.loss_steps,
        "rows": loop.rows,
        "seconds": loop.seconds,
    }
    (folder / _POSITION).write_text(json.dumps(position), encoding="utf-8")


def optimizer_state(optimizer: torch.optim.Optimizer, model: torch.nn.Module) -> dict[str, Any]:
    """What an optimizer keeps of its parameters, by ``parameter.key``."""
    return {
        f"{name}.{key}": value
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def restore_state(checkpoint: Path, loop: Loop, model: torch.nn.Module) -> None:
    """Put a loop where a checkpoint was; the model has the checkpoint's weights already.

    Sets torch's global random states.

    Raises:
        CheckpointError: If the state is missing or of another model.
    """
    folder = checkpoint / STATE_PREFIX
    try:
        kept = load_file(folder / _OPTIMIZER)
        random = load_file(folder / _RANDOM)
        position = json.loads((folder / _POSITION).read_text(encoding="utf-8"))
        _restore_optimizer(loop, model, {**kept, **position.get("optimizer", {})})
        loop.step = int(position["step"])
        loop.loss_sum = torch.tensor(float(position.get("loss_sum", 0.0)), dtype=torch.float64)
        loop.loss_steps, loop.rows = int(position.get("loss_steps", 0)), int(position.get("rows", 0))
        loop.seconds = float(position.get("seconds", 0.0))
        if position["scaler"]:
            loop.scaler.load_state_dict(position["scaler"])
        set_random_state(random, next(model.parameters()).device, loop.peers.rank)
    except (OSError, KeyError, ValueError, SafetensorError) as err:
        raise CheckpointError(
            f"{folder}: cannot go on from this state ({err!r}). Use a checkpoint that kept its {STATE_PREFIX}."
        ) from err


def checkpoint_bytes(model: torch.nn.Module, optimizer: str = "adamw") -> int:
    """Estimate of a resumable checkpoint: its fp32 weights, and what the optimizer keeps of each that is trained."""
    trained = [p for p in model.parameters() if p.requires_grad]
    written = trained if has_adapters(model) else model.parameters()
    return 4 * sum(p.numel() for p in written) + state_bytes(optimizer, trained)


def _restore_optimizer(loop: Loop, model: torch.nn.Module, kept: Mapping[str, Any]) -> None:
    """Give an optimizer what was kept of its parameters, by ``parameter.key``.

    Raises:
        KeyError: If a parameter is not trained by it.
        ValueError: If what is kept of it has another size.
    """
    optimizer, parameters = loop.optimizer, dict(model.named_parameters())
    number = {p: i for i, p in enumerate(p for group in optimizer.param_groups for p in group["params"])}
    state: dict[int, dict[str, Any]] = {}
    for name, value in kept.items():
        owner, _, key = name.rpartition(".")
        parameter = parameters[owner]
        whole = isinstance(value, torch.Tensor) and value.ndim == parameter.ndim
        if whole and any(a not in (b, 1) for a, b in zip(value.shape, parameter.shape, strict=True)):
            raise ValueError(f"{name} has the shape {tuple(value.shape)}, {owner} {tuple(parameter.shape)}")
        if isinstance(value, torch.Tensor):
            value = loop.peers.part_of(value, parameter)
        state.setdefault(number[parameter], {})[key] = value
    # It knows which of them belong on the parameter's device.
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
