"""An export with an ONNX file beside the weights, written and compared in a clean process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from sweep import objective_jobs
from sweep.checkpoints.prepared import in_use
from sweep.deployment.export import export_model
from sweep.deployment.lineage import Lineage
from sweep.execution.jobs import run_job
from sweep.verification import Examiner

FILE = "model.onnx"


def export_with_onnx(
    model: Path, lineage: Lineage, to: Path, *, trust_remote_code: bool, folders: Mapping[str, Path]
) -> Lineage:
    """Write a model folder with ``model.onnx``; it appears whole or not at all.

    Args:
        model: Folder with weights, tokenizer and config.
        lineage: Origin.
        to: Target; see :func:`~sweep.deployment.export.export_model`.
        trust_remote_code: Whether Python code that the model brings along may run.
        folders: See :func:`~sweep.deployment.export.export_model`.

    Returns:
        The origin, complete.

    Raises:
        UserError: If a package is missing, or the objective writes no ONNX.
        VerificationError: If file and weights disagree.
    """
    with in_use(Path(lineage.data["folder"]).parent), objective_jobs.warm_parent() as parent:
        examiner = Examiner(parent=parent, trust_remote_code=trust_remote_code)

        def add(folder: Path, origin: Lineage) -> Lineage:
            arguments = {
                "model": model.absolute(),
                "prepared": examiner.prepared(origin),
                "file": folder / FILE,
                "settings": examiner.settings(origin),
            }
            return replace(origin, onnx=run_job(parent, origin.task, "to_onnx", arguments))

        return export_model(model, lineage, to, add=add, folders=folders)
