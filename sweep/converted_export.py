"""An export that needs the objective, in a clean process: an adapter merged, an ONNX file beside the weights."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from sweep import objective_jobs
from sweep.checkpoints.prepared import in_use
from sweep.deployment.export import export_model
from sweep.deployment.lineage import Lineage
from sweep.execution.jobs import run_job
from sweep.merging import plain_model
from sweep.verification import Examiner

FILE = "model.onnx"


def export_converted(model: Path, lineage: Lineage, to: Path, *, trust_remote_code: bool, onnx: bool) -> Lineage:
    """Write a model folder with all weights; it appears whole or not at all.

    Args:
        model: Folder with weights or an adapter, tokenizer and config.
        lineage: Origin.
        to: Target; see :func:`~sweep.deployment.export.export_model`.
        trust_remote_code: Whether Python code that the model brings along may run.
        onnx: Whether to add ``model.onnx``, compared with the weights.

    Returns:
        The origin, complete.

    Raises:
        UserError: If a package is missing, or the objective writes no ONNX.
        ModelError: If the base model of an adapter is gone, or another.
        VerificationError: If file and weights disagree.
    """
    with ExitStack() as stack:
        if onnx:
            stack.enter_context(in_use(Path(lineage.data["folder"]).parent))
        parent = stack.enter_context(objective_jobs.warm_parent())
        examiner = Examiner(parent=parent, trust_remote_code=trust_remote_code)
        settings = examiner.settings(lineage)
        to.parent.mkdir(parents=True, exist_ok=True)
        plain = stack.enter_context(
            plain_model(model, parent, task=lineage.task, settings=settings, scratch=to.absolute().parent)
        )

        def add(folder: Path, origin: Lineage) -> Lineage:
            arguments = {
                "model": plain.absolute(),
                "prepared": examiner.prepared(origin),
                "file": folder / FILE,
                "settings": settings,
            }
            return replace(origin, onnx=run_job(parent, origin.task, "to_onnx", arguments))

        # Nobody else has the merged weights.
        return export_model(plain, lineage, to, link=plain != model, add=add if onnx else None)
