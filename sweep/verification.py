"""Re-evaluating a model by what it says of its origin, in a clean process."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweep import objective_jobs
from sweep.deployment.export import hashes_of, verify_files
from sweep.deployment.lineage import Lineage, content_of, read_lineage
from sweep.deployment.scores import ScoreCheck, check_scores
from sweep.errors import VerificationError
from sweep.execution.jobs import run_job
from sweep.execution.warm_client import WarmParent
from sweep.spec.references import with_values
from sweep.tracking.registry import Registry


def exported(folder: Path) -> tuple[Path, Lineage]:
    """An exported folder and its record.

    Raises:
        VerificationError: If it has no record, or a file differs from it.
    """
    lineage = read_lineage(folder)
    verify_files(folder, lineage)
    return folder, lineage


@contextmanager
def registered(registry: Registry, uri: str) -> Iterator[tuple[Path, Lineage]]:
    """A model in MLflow and its record, for as long as the block runs.

    Args:
        registry: MLflow's.
        uri: ``models:/name@alias``, ``models:/name/version`` or ``runs:/id``.

    Raises:
        UserError: If there is none.
        VerificationError: If it has no record, or a file differs from it.
    """
    place = registry.model_of_run(uri.removeprefix("runs:/")) if uri.startswith("runs:/") else uri
    with registry.fetched(place) as folder:
        found, lineage = exported(folder)
        # Whoever alters the weights can alter the record beside them, but not the version's tag with the same hand.
        tag = registry.package_tag(place)
        if tag is not None and tag != content_of(hashes_of(folder)):
            raise VerificationError(f"{uri}: its files are not those that were registered. Promote the model again.")
        yield found, lineage


@dataclass(frozen=True, slots=True, kw_only=True)
class Examiner:
    """Evaluates models in clean processes.

    Attributes:
        parent: The warm parent to fork from.
        trust_remote_code: Whether Python code that a model brings along may run: not for the model to say.
    """

    parent: WarmParent
    trust_remote_code: bool

    def check(self, model: Path, lineage: Lineage) -> list[ScoreCheck]:
        """Re-evaluate a model on the splits it has a record on.

        Raises:
            VerificationError: If its data is not to be had any more.
        """
        prepared = self.prepared(lineage)
        settings = self.settings(lineage)

        def evaluate(split: str) -> Mapping[str, float]:
            return objective_jobs.evaluate_model(
                self.parent,
                task=lineage.task,
                model=model.absolute(),
                prepared=str(prepared),
                split=split,
                settings=settings,
            )

        return check_scores(lineage, evaluate)

    def settings(self, lineage: Lineage) -> dict[str, Any]:
        """Training settings of a model, secrets filled in."""
        return {**with_values(lineage.settings, os.environ), "trust_remote_code": self.trust_remote_code}

    def prepared(self, lineage: Lineage) -> Path:
        """Folder of a model's prepared data; prepared again if it is gone.

        Raises:
            VerificationError: If the data has changed since.
        """
        folder = Path(lineage.data["folder"])
        if folder.is_dir():
            return folder
        data = self.prepare(lineage.task, lineage.objective, folder.parent)
        if data["data_hash"] != lineage.data["data_hash"]:
            raise VerificationError(
                f"{lineage.study}: its data has changed since ({data['data_hash'][:12]} is not "
                f"{lineage.data['data_hash'][:12]}). Restore the data files, then verify again."
            )
        return Path(data["folder"])

    def prepare(self, task: str, objective: Mapping[str, Any], folder: Path) -> Mapping[str, Any]:
        """Prepare data as an objective's settings say; returns the objective's summary."""
        training = with_values(objective.get("training", {}), os.environ)
        settings = {**objective, "training": training, "trust_remote_code": self.trust_remote_code}
        arguments = {"settings": settings, "folder": folder}
        result: Mapping[str, Any] = run_job(
            self.parent, task, "prepare", arguments, timeout_seconds=objective_jobs.JOB_TIMEOUT_SECONDS
        )
        return result
