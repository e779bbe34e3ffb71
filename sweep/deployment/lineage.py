"""What an exported model knows of its origin; stored beside the weights as ``sweep.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sweep.errors import VerificationError

LINEAGE_FILE = "sweep.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """Origin and recorded scores of an exported model.

    Attributes:
        task: Name of the objective.
        base_model: The model it was fine-tuned from, as the spec names it.
        step: Optimizer step the weights were taken at.
        metric: ``{name, direction, source}``.
        validation: Metrics on the validation split at ``step``.
        test: Metrics on the test split, or None while it is unopened.
        data: Summary of the prepared data (hash, rows, labels …).
        objective: What is needed to prepare the same data again.
        environment: Versions of packages, Python and machine.
        files: sha256 of each file of the model.
    """

    study: str
    task: str
    base_model: str
    trial_number: int
    run_id: str | None
    step: int
    seed: int
    hyperparameters: Mapping[str, Any]
    settings: Mapping[str, Any]
    metric: Mapping[str, str]
    validation: Mapping[str, float]
    test: Mapping[str, float] | None
    data: Mapping[str, Any]
    objective: Mapping[str, Any]
    environment: Mapping[str, Any]
    files: Mapping[str, str]
    created_at: str

    def write(self, folder: Path) -> None:
        """Write into a model folder."""
        text = json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"
        (folder / LINEAGE_FILE).write_text(text, encoding="utf-8")


def read_lineage(folder: Path) -> Lineage:
    """Read the lineage of an exported model.

    Raises:
        VerificationError: If the folder holds no readable lineage.
    """
    path = folder / LINEAGE_FILE
    try:
        return Lineage(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as err:
        raise VerificationError(f"{path}: not found. Only folders written by `sweep export` can be verified.") from err
    except (ValueError, TypeError) as err:
        raise VerificationError(f"{path}: not a readable lineage ({err}). Export the model again.") from err
