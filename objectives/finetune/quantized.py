"""Frozen weights in four bits (NF4 of QLoRA: Dettmers et al., arXiv:2305.14314), by bitsandbytes.

bitsandbytes takes a second to import, so only a trial that asks for it does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from transformers.utils import is_bitsandbytes_available

from objectives.finetune.device import give_back_memory
from objectives.finetune.layers import layers_in_order
from sweep.errors import ModelError, UserError

NONE = "none"

_OLDEST = "0.50"
_BLOCK = 64  # values that share a scale


def quantization_of(settings: Mapping[str, Any]) -> str:
    """How a trial's base model is held: ``none`` or ``nf4``; without adapters all of its weights are trained."""
    return NONE if settings.get("method", "full") == "full" else str(settings["quantization"])


def require_library() -> None:
    """Refuse where the weights cannot be quantised.

    Raises:
        UserError: If bitsandbytes is missing or too old.
    """
    if not is_bitsandbytes_available(_OLDEST):
        raise UserError(
            f"quantization: nf4 needs bitsandbytes {_OLDEST} or newer, which is not installed here. `pip install "
            "'sweep-finetune[quantization]'`."
        )


class QuantizedLinear(torch.nn.Linear):
    """A linear map with a frozen weight in NF4: four bits a value, and an fp32 scale for each block of a row.

    In the place of bitsandbytes' own, which on a CPU with bf16 evaluates in bf16, and cannot be trained from then on.

    Args:
        plain: Gives weight (fp32, on the CPU; rows of whole blocks) and bias.
    """

    def __init__(self, plain: torch.nn.Linear) -> None:
        from bitsandbytes.nn import Params4bit

        super().__init__(plain.in_features, plain.out_features, bias=False, device="meta")
        # Eight values in what passes for an fp32 number: models such as T5 cast their input to a weight's type.
        kept = Params4bit(plain.weight.data, quant_type="nf4", compress_statistics=False, quant_storage=torch.float32)
        self.weight: Any = kept.to("cpu")
        self.bias = plain.bias

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Compute as a plain map of the same values, in the format that autocast asks for."""
        from bitsandbytes import matmul_4bit

        kind = rows.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else rows.dtype
        bias = None if self.bias is None else self.bias.to(dtype)
        found: torch.Tensor = matmul_4bit(rows.to(dtype), self.weight, self.weight.quant_state, bias=bias)
        return found


def quantize(model: torch.nn.Module) -> None:
    """Hold the linear maps of a model's layers in NF4, in place; those whose rows are no whole blocks stay as they are.

    Raises:
        UserError: If bitsandbytes is missing or too old.
        ModelError: If the layers have none.
    """
    require_library()
    for name, plain in _maps(model).items():
        model.set_submodule(name, QuantizedLinear(plain))
    give_back_memory()


def round_weights(model: torch.nn.Module) -> None:
    """Give the linear maps of a model's layers the values that :func:`quantize` would leave them, in fp32, in place.

    Raises:
        UserError: If bitsandbytes is missing or too old.
        ModelError: If the layers have none.
    """
    require_library()
    from bitsandbytes.functional import dequantize_4bit

    for plain in _maps(model).values():
        kept: Any = QuantizedLinear(plain).weight
        plain.weight.data.copy_(dequantize_4bit(kept, kept.quant_state))


def values_of(parameter: torch.Tensor) -> int:
    """How many values a parameter has, those in four bits included."""
    state = getattr(parameter, "quant_state", None)
    return parameter.numel() if state is None else math.prod(state.shape)


def bytes_of(parameter: torch.Tensor) -> int:
    """What a parameter takes in memory, scales included."""
    state = getattr(parameter, "quant_state", None)
    return parameter.nbytes + (0 if state is None else state.absmax.nbytes)


def _maps(model: torch.nn.Module) -> dict[str, torch.nn.Linear]:
    """Linear maps of the layers, by name."""
    inside = {part for layer in layers_in_order(model) for part in layer.modules()}
    found = {
        name: part
        for name, part in model.named_modules()
        # Its kinds may compute otherwise. On some CPUs bitsandbytes gives rows of other widths the wrong scales.
        if part in inside and type(part) is torch.nn.Linear and part.in_features % _BLOCK == 0
    }
    if not found:
        raise ModelError(
            f"quantization: {type(model).__name__} has no layers with linear maps of {_BLOCK}, {2 * _BLOCK}, … inputs "
            "that could be held in four bits. Set it to none."
        )
    return found
