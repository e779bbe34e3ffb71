"""Number formats for training."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import torch

from sweep.errors import UserError


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """A format for the forward pass; weights and optimizer stay in fp32.

    Attributes:
        name: ``fp32``, ``bf16`` or ``fp16``.
        device: Where it is used.
    """

    name: str
    device: torch.device

    @property
    def scales(self) -> bool:
        """Whether gradients need scaling against underflow."""
        return self.name == "fp16"

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """Context of the training forward pass. Evaluation runs without it, in fp32."""
        if self.name == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16 if self.name == "bf16" else torch.float16)


def choose_precision(name: str, device: torch.device) -> Precision:
    """Turn the setting into a format that the device has.

    Args:
        name: ``auto``, ``fp32``, ``bf16`` or ``fp16``; ``auto`` is bf16 in hardware, else fp32.
        device: Where training runs.

    Raises:
        UserError: If the device cannot train in it.
    """
    if name == "auto":
        name = "bf16" if _has_bf16(device) else "fp32"
    if name == "fp16" and device.type != "cuda":
        raise UserError("precision: fp16 needs a GPU. Use `auto`, `bf16` or `fp32` here.")
    return Precision(name=name, device=device)


def _has_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities()
    return any(bool(capabilities.get(flag)) for flag in ("avx512_bf16", "amx_bf16", "amx_tile"))
