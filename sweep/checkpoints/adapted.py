"""Models that are saved as an adapter alone: which base model it belongs to, and what both weigh together."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from sweep.errors import CheckpointError

BASE_FILE = "adapter_base.json"
"""Beside peft's own files in the folder of such a model; a folder without it holds all of its weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterBase:
    """The model that an adapter was put into.

    Attributes:
        reference: As the objective finds it: a folder, a Hub id or a bundled model.
        content: Hash of its weights.
        keep_layers: Its layers that were kept; None is all.
        weight_bytes: Of the model that base and adapter make together.
        quantization: To what the base's weights were rounded when the adapter was trained, and are where both are
            merged; ``none`` to nothing.
    """

    reference: str
    content: str
    keep_layers: tuple[int, ...] | None
    weight_bytes: int
    quantization: str = "none"

    def write(self, model: Path) -> None:
        """Write into a model's folder."""
        (model / BASE_FILE).write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")


def base_of(model: Path) -> AdapterBase | None:
    """The base of a model that is an adapter alone, where it lies now; None if the folder holds all weights.

    Raises:
        CheckpointError: If it cannot be read.
    """
    path = model / BASE_FILE
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        kept = known["keep_layers"]
        base = AdapterBase(**{**known, "keep_layers": None if kept is None else tuple(kept)})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as err:
        raise CheckpointError(f"{path}: cannot be read ({err!r}). Restore the model.") from err
    return replace(base, reference=_where_it_lies(base.reference, model))


def weight_bytes(model: Path) -> int:
    """What a model's weights take, those of its base included.

    Raises:
        CheckpointError: If it cannot be read.
    """
    base = base_of(model)
    return sum(file.stat().st_size for file in model.rglob("*.safetensors")) if base is None else base.weight_bytes


def _where_it_lies(reference: str, model: Path) -> str:
    """A base that the storage keeps has moved along, where the storage has."""
    folder = Path(reference)
    if folder.is_absolute() and not folder.exists():
        beside = (parent / folder.parent.name / folder.name for parent in model.absolute().parents)
        return next((str(place) for place in beside if place.is_dir()), reference)
    return reference
