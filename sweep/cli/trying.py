"""What ``check`` and ``lr-find`` share: a spec's data, prepared, and where its model can be tried."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweep.errors import InvalidDataError

if TYPE_CHECKING:
    from sweep.execution.warm_client import WarmParent
    from sweep.spec.model import StudySpec


@contextmanager
def trying(
    spec_file: Path, overrides: list[str] | None, said: str
) -> Iterator[tuple[StudySpec, WarmParent, dict[str, Any]]]:
    """The spec, the parent to fork jobs from, and the data as the objective summarises it.

    Args:
        spec_file: File of the spec.
        overrides: Values of ``--set``.
        said: What to say on stderr first.

    Raises:
        SweepError: If the spec, its model or its data cannot be used.
    """
    from sweep import objective_jobs
    from sweep.checkpoints.prepared import in_use
    from sweep.redaction import redact_streams
    from sweep.spec import load_spec
    from sweep.study_files import redactor_for

    spec = load_spec(spec_file, overrides or [])
    redact_streams(redactor_for(spec))
    sys.stderr.write(said)
    with in_use(spec.layout.prepared), objective_jobs.warm_parent() as parent:
        with _telling_needs(spec.objective.task):
            data = objective_jobs.prepare(spec, parent, objective_jobs.objective_settings(spec, parent))
        yield spec, parent, data


@contextmanager
def _telling_needs(task: str) -> Iterator[None]:
    """Add to what is wrong with the data what the task needs."""
    from sweep.spec.needs import needs_of
    from sweep.spec.tasks import task_sheets

    try:
        yield
    except InvalidDataError as err:
        if task not in task_sheets():
            raise
        raise InvalidDataError(f"{err}\n{needs_of(task)}.") from err
