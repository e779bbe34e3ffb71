"""What an exported model knows of its origin; stored beside the weights as ``sweep.json``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
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
        trial_number: In the searched study; None for an average of several trials' weights.
        step: Optimizer step the weights were taken at; None likewise.
        seed: Seed of the training; None likewise.
        metric: ``{name, direction, source}``.
        validation: Metrics on the validation split at ``step``; with folds, the means over these.
        test: Metrics on the test split, or None while it is unopened.
        data: Summary of the prepared data (hash, rows, labels …).
        objective: What is needed to prepare the same data again.
        environment: Versions of packages, Python and machine.
        files: sha256 of each file of the model.
        search: How it was found; see :func:`sweep.deployment.search_summary.search_summary`.
        verdict: What the final said of the finalists, as ``verdict.json`` has it; None without a final.
        onnx: Name and largest difference of the ONNX file beside the weights; None without one.
    """

    study: str
    task: str
    base_model: str
    trial_number: int | None
    run_id: str | None
    step: int | None
    seed: int | None
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
    search: Mapping[str, Any] = field(default_factory=dict)
    verdict: Mapping[str, Any] | None = None
    onnx: Mapping[str, Any] | None = None

    def write(self, folder: Path) -> None:
        """Write into a model folder."""
        text = json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"
        (folder / LINEAGE_FILE).write_text(text, encoding="utf-8")


def content_of(files: Mapping[str, str]) -> str:
    """One hash of a model's content, by the sha256 of each of its files."""
    return hashlib.sha256(json.dumps(dict(files), sort_keys=True).encode()).hexdigest()


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
