"""What is asked of an objective outside its trials, each job in a clean process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sweep.base_model import base_model
from sweep.domain import Assignment, TrainRequest, trial_seed
from sweep.execution.jobs import run_job
from sweep.execution.warm_client import WarmParent
from sweep.ports import Columns
from sweep.selection.assessment import ModelOnSplit
from sweep.selection.predictions import read_predictions
from sweep.spec.model import StudySpec

JOB_TIMEOUT_SECONDS = 3600.0
"""What a job may take where no spec says it."""


@contextmanager
def warm_parent() -> Iterator[WarmParent]:
    """A parent that is importing the training libraries in the background."""
    parent = WarmParent()
    parent.start()
    try:
        yield parent
    finally:
        parent.close()


def objective_settings(spec: StudySpec) -> dict[str, Any]:
    """The objective's settings, its model reference resolved to what the objective can load."""
    base = base_model(spec)
    return {**spec.objective_settings(), "model": base.reference, "base_model": dict(base.origin)}


def prepare(
    spec: StudySpec, parent: WarmParent, settings: Mapping[str, Any], *, stop: Callable[[], bool] = lambda: False
) -> dict[str, Any]:
    """Prepare the study's data, or find it prepared; returns the objective's summary and the model."""
    result: dict[str, Any] = run_job(
        parent,
        spec.objective.task,
        "prepare",
        {"settings": settings, "folder": spec.layout.prepared},
        timeout_seconds=60 * spec.limits.preparation_minutes,
        stop=stop,
    )
    return {**result, "model": settings["model"], "base_model": settings.get("base_model") or {}}


def check(spec: StudySpec, parent: WarmParent, data: Mapping[str, Any]) -> dict[str, Any]:
    """One real batch of the default configuration through training and evaluation."""
    return _with_defaults(spec, parent, data, "check", spec.limits.evaluation_minutes)


def find_learning_rate(spec: StudySpec, parent: WarmParent, data: Mapping[str, Any]) -> dict[str, Any]:
    """A range test of the default configuration; see :class:`sweep.ports.RateFinding`."""
    return _with_defaults(spec, parent, data, "find_learning_rate", spec.limits.preparation_minutes)


def _with_defaults(
    spec: StudySpec, parent: WarmParent, data: Mapping[str, Any], method: str, minutes: float
) -> dict[str, Any]:
    """A method of the objective that takes trial 0."""
    assignment = Assignment(
        trial_number=0, attempt=1, hyperparameters=spec.defaults(), seed=trial_seed(spec.search.seed, 0)
    )
    request = request_maker(spec, data)(assignment)
    result: dict[str, Any] = run_job(
        parent, spec.objective.task, method, {"request": request}, timeout_seconds=60 * minutes
    )
    return result


def request_maker(spec: StudySpec, data: Mapping[str, Any]) -> Callable[[Assignment], TrainRequest]:
    """How an assignment becomes what a worker needs."""
    layout, evaluate_at = spec.layout, spec.evaluate_at

    def make(assignment: Assignment) -> TrainRequest:
        return TrainRequest(
            assignment=assignment,
            prepared=str(data["folder"]),
            model=str(data["model"]),
            settings=spec.settings(assignment.hyperparameters),
            metric=spec.rule,
            evaluate_at=evaluate_at,
            fidelity_unit=spec.fidelity_unit,
            checkpoints=str(layout.checkpoints(assignment.trial_number)),
            artifacts=str(layout.artifacts(assignment.trial_number)),
            cpus=max(1, int(spec.resources.cpus_per_trial)),
            gpus=spec.resources.gpus_per_trial,
        )

    return make


def evaluate_model(
    parent: WarmParent,
    *,
    task: str,
    model: Path,
    prepared: str,
    split: str,
    settings: Mapping[str, Any],
    timeout_seconds: float = JOB_TIMEOUT_SECONDS,
    stop: Callable[[], bool] = lambda: False,
) -> Mapping[str, float]:
    """Metrics of a model folder on a split of prepared data, computed in a clean process."""
    result: Mapping[str, float] = run_job(
        parent,
        task,
        "evaluate",
        {"model": model, "prepared": Path(prepared), "split": split, "settings": settings},
        timeout_seconds=timeout_seconds,
        stop=stop,
    )
    return result


def predict_model(
    parent: WarmParent, *, task: str, model: Path, prepared: str, split: str, settings: Mapping[str, Any]
) -> Columns | None:
    """A model's answers on a split, row by row; None if the objective does not tell them."""
    with TemporaryDirectory(prefix="sweep-") as folder:
        file = Path(folder) / "answers.json"
        arguments = {"model": model, "prepared": Path(prepared), "split": split, "settings": settings, "file": file}
        can_tell = run_job(
            parent,
            task,
            "sweep.selection.predictions:predict_to",
            arguments,
            timeout_seconds=JOB_TIMEOUT_SECONDS,
        )
        return read_predictions(file) if can_tell else None


def assess_models(
    parent: WarmParent,
    models: Sequence[ModelOnSplit],
    *,
    task: str,
    split: str,
    metric: str,
    level: float = 0.05,
    folder: Path,
    timeout_seconds: float = JOB_TIMEOUT_SECONDS,
    stop: Callable[[], bool] = lambda: False,
) -> Mapping[str, Any]:
    """Metrics, bootstrap intervals and the paired test of one or two models on a split, in a clean process.

    Args:
        parent: The warm parent to fork from.
        models: One, or two to compare.
        task: Name of their objective.
        split: Split of the prepared data.
        metric: The metric that intervals and test are about.
        level: The intervals miss with this probability.
        folder: Existing folder that the answers are written to.
        timeout_seconds: Bound on all of it.
        stop: Polled; whether to end at once.

    Returns:
        See :func:`sweep.selection.assessment.assess`.
    """
    rows = [one.to_json() for one in models]
    result: Mapping[str, Any] = run_job(
        parent,
        task,
        "sweep.selection.assessment:assess",
        {"task": task, "models": rows, "split": split, "metric": metric, "level": level, "folder": folder},
        timeout_seconds=timeout_seconds,
        stop=stop,
    )
    return result
