"""A loop's state on disk: a model transformers can load, and what is needed to go on. No pickle."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from objectives.finetune.loop import Loop
from sweep.checkpoints import STATE_PREFIX
from sweep.errors import CheckpointError

_OPTIMIZER = "optimizer.safetensors"
_RANDOM = "state.safetensors"
_POSITION = "state.json"
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


def save_model(folder: Path, model: Any, tokenizer: Path, max_length: int) -> None:
    """Write weights (fp32 safetensors), configuration and tokenizer into a folder.

    Args:
        folder: Where to write; made if missing.
        model: A transformers model.
        tokenizer: Folder of the tokenizer's files.
        max_length: Tokens the model was trained on; the tokenizer will truncate there.
    """
    model.save_pretrained(folder)
    shutil.copytree(tokenizer, folder, dirs_exist_ok=True)
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["model_max_length"] = max_length
    path.write_text(json.dumps(config, ensure_ascii=False, indent=2), encoding="utf-8")


def save_state(checkpoint: Path, loop: Loop, model: torch.nn.Module) -> None:
    """Write optimizer, random states and position into ``state/`` of a checkpoint."""
    folder = checkpoint / STATE_PREFIX
    folder.mkdir(parents=True)
    moments = {
        f"{name}.{moment}": loop.optimizer.state[parameter][moment].contiguous()
        for name, parameter in model.named_parameters()
        if parameter in loop.optimizer.state
        for moment in _MOMENTS
    }
    save_file(moments, folder / _OPTIMIZER)
    random = {"cpu": torch.get_rng_state()}
    if next(model.parameters()).device.type == "cuda":
        random["cuda"] = torch.cuda.get_rng_state()
    save_file(random, folder / _RANDOM)
    position = {
        "step": loop.step,
        "scaler": loop.scaler.state_dict(),
        "loss_sum": float(loop.loss_sum),
        "loss_steps": loop.loss_steps,
        "rows": loop.rows,
        "seconds": loop.seconds,
    }
    (folder / _POSITION).write_text(json.dumps(position), encoding="utf-8")


def restore_state(checkpoint: Path, loop: Loop, model: torch.nn.Module) -> None:
    """Put a loop where a checkpoint was; the model has the checkpoint's weights already.

    Sets torch's global random states.

    Raises:
        CheckpointError: If the state is missing or of another model.
    """
    folder = checkpoint / STATE_PREFIX
    try:
        moments = load_file(folder / _OPTIMIZER)
        random = load_file(folder / _RANDOM)
        position = json.loads((folder / _POSITION).read_text(encoding="utf-8"))
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and f"{name}.step" in moments:
                step, *means = (moments[f"{name}.{moment}"] for moment in _MOMENTS)
                means = [mean.to(parameter.device) for mean in means]
                loop.optimizer.state[parameter] = dict(zip(_MOMENTS, (step.to(parameter.device), *means), strict=True))
        loop.step = int(position["step"])
        loop.loss_sum = torch.tensor(float(position.get("loss_sum", 0.0)), dtype=torch.float64)
        loop.loss_steps, loop.rows = int(position.get("loss_steps", 0)), int(position.get("rows", 0))
        loop.seconds = float(position.get("seconds", 0.0))
        if position["scaler"]:
            loop.scaler.load_state_dict(position["scaler"])
        torch.set_rng_state(random["cpu"])
        if "cuda" in random and torch.cuda.is_available():
            torch.cuda.set_rng_state(random["cuda"])
    except (OSError, KeyError, ValueError, SafetensorError) as err:
        raise CheckpointError(
            f"{folder}: cannot go on from this state ({err!r}). Use a checkpoint that kept its {STATE_PREFIX}."
        ) from err


def checkpoint_bytes(model: torch.nn.Module) -> int:
    """Estimate of a resumable checkpoint: fp32 weights and two moments of each trainable parameter."""
    weights = sum(p.numel() for p in model.parameters())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return 4 * weights + 8 * trained
