"""What a final has done with its finished models, each job in a clean process of the objective."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

from sweep.execution.jobs import run_job
from sweep.execution.warm_client import WarmParent
from sweep.selection.assessment import ModelOnSplit
from sweep.spec.model import StudySpec


class Bench(Protocol):
    """Evaluates finished models."""

    def assess(self, models: Sequence[ModelOnSplit]) -> Mapping[str, Any]:
        """Open the test split for one or two models; see :func:`sweep.selection.assessment.assess`."""
        ...

    def evaluate(self, model: ModelOnSplit) -> Mapping[str, float]:
        """Metrics of a model on the validation split."""
        ...

    def latencies(self, models: Sequence[ModelOnSplit]) -> Sequence[float] | None:
        """Milliseconds for one input of each, or None; see :mod:`sweep.selection.latency`."""
        ...

    def merge(self, model: Path, to: Path, settings: Mapping[str, Any]) -> None:
        """Write the plain model of a saved adapter; see :class:`sweep.ports.Merging`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class JobBench:
    """Implements :class:`Bench`.

    Attributes:
        spec: The study.
        parent: The warm parent to fork from.
        is_stopping: Polled; whether to end a job at once.
    """

    spec: StudySpec
    parent: WarmParent
    is_stopping: Callable[[], bool]

    def assess(self, models: Sequence[ModelOnSplit]) -> Mapping[str, Any]:
        """See :class:`Bench`."""
        with TemporaryDirectory(prefix="sweep-") as folder:
            arguments = {
                "task": self.spec.objective.task,
                "models": [one.to_json() for one in models],
                "split": "test",
                "metric": self.spec.rule.name,
                "level": self.spec.confirm.level if self.spec.confirm else 0.05,
                "folder": Path(folder),
            }
            found: Mapping[str, Any] = self._run("sweep.selection.assessment:assess", arguments)
            return found

    def evaluate(self, model: ModelOnSplit) -> Mapping[str, float]:
        """See :class:`Bench`."""
        arguments = {**model.to_json(), "model": model.model, "prepared": Path(model.prepared), "split": "validation"}
        metrics: Mapping[str, float] = self._run("evaluate", arguments)
        return metrics

    def latencies(self, models: Sequence[ModelOnSplit]) -> Sequence[float] | None:
        """See :class:`Bench`."""
        found = self._run("sweep.selection.latency:latencies", {"models": [one.to_json() for one in models]})
        milliseconds: Sequence[float] | None = found["milliseconds"]
        return milliseconds

    def merge(self, model: Path, to: Path, settings: Mapping[str, Any]) -> None:
        """See :class:`Bench`."""
        self._run("merge", {"model": model, "to": to, "settings": settings})

    def _run(self, method: str, arguments: Mapping[str, Any]) -> Any:
        return run_job(
            self.parent,
            self.spec.objective.task,
            method,
            arguments,
            timeout_seconds=60 * self.spec.limits.evaluation_minutes,
            stop=self.is_stopping,
        )
