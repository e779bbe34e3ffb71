"""What people ask of a running driver besides stopping: end a trial, train more of them, try a configuration.

Each request is a file in the study's control folder, there until the driver has heeded it: one that comes while no
driver runs, or right before a crash, is heeded by the next. Heeding one twice does what heeding it once does.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweep.domain import HyperparameterValue
from sweep.errors import InvalidSpecError, SweepError
from sweep.layout import StudyLayout
from sweep.spec.configuration import read_configuration, value_text
from sweep.spec.model import StudySpec

PATTERN = "request-*.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelTrial:
    """End one trial now, as CANCELLED."""

    trial_number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RaiseBudget:
    """Train until so many trials have finished, if that is more than before."""

    trials: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Enqueue:
    """Try this configuration in the place of the next draw."""

    hyperparameters: Mapping[str, HyperparameterValue]


Request = CancelTrial | RaiseBudget | Enqueue


def send(layout: StudyLayout, request: Request) -> None:
    """Leave a request for the driver; it takes effect within a second.

    Raises:
        SweepError: If it cannot be written.
    """
    name = f"{time.time_ns()}-{os.getpid()}"
    temporary = layout.control / f".request-{name}"
    try:
        layout.control.mkdir(parents=True, exist_ok=True)
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(_to_json(request), file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(layout.control / PATTERN.replace("*", name))
    except OSError as err:
        temporary.unlink(missing_ok=True)
        raise SweepError(f"{layout.control}: cannot be written ({err.strerror}). Free space, then try again.") from err


@dataclass(frozen=True, slots=True)
class Inbox:
    """The requests that wait for a study's driver.

    Attributes:
        folder: The study's control folder.
        spec: The study, whose search space an enqueued configuration must fit.
    """

    folder: Path
    spec: StudySpec

    def waiting(self) -> list[tuple[Path, Request]]:
        """Requests with their files, oldest first. What is no request is removed: nobody could heed it."""
        found = []
        for path in sorted(self.folder.glob(PATTERN)):
            try:
                found.append((path, self._read(path)))
            except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError, InvalidSpecError):
                with suppress(OSError):
                    self.done(path)
            except OSError:  # gone meanwhile, or not ours to read: no reason to end a study
                continue
        return found

    def done(self, path: Path) -> None:
        """Forget a request."""
        path.unlink(missing_ok=True)

    def enqueued(self) -> list[Enqueue]:
        """Configurations that wait."""
        return [request for _, request in self.waiting() if isinstance(request, Enqueue)]

    def budget(self) -> int:
        """Finished trials wanted, with what waits."""
        raised = [request.trials for _, request in self.waiting() if isinstance(request, RaiseBudget)]
        return max([self.spec.budget.trials, *raised])

    def _read(self, path: Path) -> Request:
        data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        match data["request"]:
            case "cancel-trial":
                return CancelTrial(trial_number=int(data["trial_number"]))
            case "raise-budget":
                return RaiseBudget(trials=int(data["trials"]))
            case "enqueue":
                given, space = data["hyperparameters"], self.spec.search.space
                return Enqueue(hyperparameters=read_configuration(space, given, self.spec.defaults()))
            case other:
                raise ValueError(f"no request is called {other!r}")


def _to_json(request: Request) -> dict[str, Any]:
    match request:
        case CancelTrial(trial_number=number):
            return {"request": "cancel-trial", "trial_number": number}
        case RaiseBudget(trials=trials):
            return {"request": "raise-budget", "trials": trials}
        case Enqueue(hyperparameters=values):
            texts = {name: value_text(value) for name, value in values.items()}
            return {"request": "enqueue", "hyperparameters": texts}
