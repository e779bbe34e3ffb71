"""Less memory or less time for a step, at the same result."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

from sweep.errors import ModelError


def checkpoint_gradients(model: Any) -> None:
    """Compute a layer's activations again when its gradients are due (Chen et al., arXiv:1604.06174), in place.

    Raises:
        ModelError: If the model cannot.
    """
    if not getattr(model, "supports_gradient_checkpointing", False):
        raise ModelError(f"gradient_checkpointing: {type(model).__name__} cannot. Set it to false.")
    model.activation_checkpointing_enable({"use_reentrant": False})


def compiled(model: torch.nn.Module) -> Any:
    """A model whose training pass is compiled; it shares all weights with ``model``, which stays as it is."""
    import torch._inductor.config as inductor  # takes a second

    # Workers of the compiler would outlive the trial's process.
    inductor.compile_threads = 1
    return torch.compile(model, dynamic=True)


@contextlib.contextmanager
def telling_of_the_compiler() -> Iterator[None]:
    """Say plainly that a model cannot be compiled.

    Raises:
        ModelError: If torch's compiler raised.
    """
    try:
        yield
    except Exception as err:
        # By name: its errors are met without importing it.
        if not type(err).__module__.startswith(("torch._dynamo", "torch._inductor")):
            raise
        reason = " ".join(str(err).split())[:300]
        raise ModelError(f"compile: torch.compile does not run here: {reason} Set it to false.") from err
