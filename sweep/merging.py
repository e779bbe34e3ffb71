"""Models as plain transformers loads them: an adapter is merged into its base, for as long as that is needed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sweep.checkpoints.adapted import base_of
from sweep.checkpoints.commit import temporary_beside
from sweep.execution.jobs import run_job
from sweep.execution.warm_client import WarmParent


@contextmanager
def plain_model(
    model: Path, parent: WarmParent, *, task: str, settings: Mapping[str, Any], scratch: Path
) -> Iterator[Path]:
    """A model with all of its weights: itself, or for as long as the block runs its adapter and base in one.

    Args:
        model: Its folder.
        parent: The warm parent to fork from.
        task: Name of its objective.
        settings: Its training settings.
        scratch: Existing folder, absolute, with room for the weights.

    Raises:
        SweepError: If it cannot be merged.
    """
    if base_of(model) is None:
        yield model
        return
    merged = temporary_beside(scratch / "merged")
    try:
        run_job(parent, task, "merge", {"model": model.absolute(), "to": merged, "settings": settings})
        yield merged
    finally:
        shutil.rmtree(merged, ignore_errors=True)
