"""A study as the browser gets it: only what is new since it last asked."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock
from typing import Any

from dashboards.importance import Importances, importances
from sweep.domain import Trial
from sweep.search import read_trials
from sweep.spec.configuration import value_text
from sweep.spec.model import StudySpec
from sweep.strict_json import strict_json
from sweep.study_files import read_spec
from sweep.study_view import StudyView, StudyWatch, TrialView, to_json

COLUMNS = (
    "number",
    "state",
    "value",
    "gain",
    "step",
    "hyperparameters",
    "fidelities",
    "values",
    "gaps",
    "seconds",
    "spans",
    "attempts",
    "metrics",
    "test",
    "error",
    "run_id",
    "has_model",
    "name",
    "is_baseline",
)
"""Of a trial's row: 5,000 of them go over the wire and through the browser in a fraction of a second.

``name`` is that of a final's trial, which goes by the one that it trains anew; else None.
"""

OLDEST_SECONDS = 0.7
"""A view younger than that is shown to whoever asks; several browsers cost no more than one."""


class Watched:
    """One study, read again when somebody asks and the last reading is old.

    Args:
        spec: The study.
    """

    def __init__(self, spec: StudySpec) -> None:
        self._spec = spec
        self._watch = StudyWatch(spec)
        self._lock = Lock()
        self._view: StudyView | None = None
        self._read_at = 0.0
        self._rows: dict[int, tuple[int, str]] = {}
        self._about: tuple[str, dict[str, Any]] = ("", {})
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="importance")
        self._importance: tuple[int, Future[Importances | None]] | None = None

    @property
    def spec(self) -> StudySpec:
        """The spec as it is stored now: a study may have been given a larger budget.

        Raises:
            SweepError: If it cannot be read.
        """
        return read_spec(self._spec.layout, given=self._spec)

    def view(self) -> StudyView:
        """The study by now, or a moment ago.

        Raises:
            SweepError: If it cannot be read.
        """
        with self._lock:
            if self._view is None or time.monotonic() - self._read_at > OLDEST_SECONDS:
                self._view = self._watch.read()
                self._read_at = time.monotonic()
            return self._view

    def news(self, since: str | None, about: str | None) -> str:
        """What changed after the moment of a token, as JSON.

        Args:
            since: Token of an earlier answer, or None for everything.
            about: Digest of what the browser knows about the study as a whole.
        """
        view = self.view()
        digest, whole = self._whole(view)
        answer: dict[str, Any] = {
            "token": view.token,
            "about_digest": digest,
            "facts": {key: value for key, value in to_json(view.facts).items() if key != "space"},
            "rungs": to_json(view.rungs),
            "spend": to_json(view.spend),
            # To the minute's sixth, so that an idle study has nothing new to say.
            "eta_seconds": None if view.eta_seconds is None else round(view.eta_seconds, -1),
        }
        if about != digest:
            answer["about"] = whole
        changed = view.changed_since(since)
        answer["is_whole"] = len(changed) == len(view.trials)
        head = strict_json(answer, indent=None)
        return f'{head[:-1]},"trials":[{",".join(self._row(trial) for trial in changed)}]}}'

    def importance(self) -> dict[str, Any]:
        """Importance of each hyperparameter, as of a moment ago; computed beside the requests."""
        view = self.view()
        finished = view.facts.finished
        with self._lock:
            if self._importance is None or (self._importance[0] != finished and self._importance[1].done()):
                self._importance = finished, self._pool.submit(importances, view)
            _, future = self._importance
        if not future.done():
            return {"is_ready": False}
        found = None if future.exception() else future.result()
        if found is None:
            return {"is_ready": True, "shares": {}}
        return {"is_ready": True, "shares": found.shares, "fidelity": found.fidelity, "trials": found.trials}

    def close(self) -> None:
        """Let go of the study."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._watch.close()

    def trials(self) -> list[Trial]:
        """All trials as stored by now, for actions that check them.

        Raises:
            SweepError: If they cannot be read.
        """
        return read_trials(self._spec)

    def _whole(self, view: StudyView) -> tuple[str, dict[str, Any]]:
        """What changes rarely, and its digest."""
        parts = (view.data, view.environment, view.spec, view.verdict, view.facts.space)
        if self._about[0] and self._about[1]["parts"] == parts:
            return self._about[0], self._about[1]["shown"]
        shown = {
            "columns": COLUMNS,
            "space": to_json(view.facts.space),
            "defaults": {name: value_text(value) for name, value in self._spec.defaults().items()},
            "data": view.data,
            "environment": view.environment,
            "spec": view.spec,
            "verdict": view.verdict,
        }
        digest = digest_of(strict_json(shown))
        self._about = digest, {"parts": parts, "shown": shown}
        return digest, shown

    def _row(self, trial: TrialView) -> str:
        known = self._rows.get(trial.number)
        if known is None or known[0] != trial.version:
            known = trial.version, strict_json(row_of(trial), indent=None)
            self._rows[trial.number] = known
        return known[1]


def row_of(trial: TrialView) -> list[Any]:
    """A trial by :data:`COLUMNS`; a span is worker, begin, end, how it ended, and whether that was bad."""
    return [
        trial.number,
        trial.state,
        trial.value,
        trial.gain,
        trial.step,
        to_json(trial.hyperparameters),
        [round(point.fidelity, 4) for point in trial.curve],
        [point.value for point in trial.curve],
        [point.gap for point in trial.curve],
        round(trial.seconds, 2),
        [[span.worker, span.began_at, span.ended_at, span.end, span.is_bad] for span in trial.spans],
        trial.attempts,
        dict(trial.metrics),
        None if trial.test is None else dict(trial.test),
        trial.error,
        trial.run_id,
        trial.checkpoint is not None,
        None if trial.name == f"trial {trial.number}" else trial.name,
        trial.is_baseline,
    ]


def digest_of(text: str) -> str:
    """A short name of a text's content."""
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def summary_of(study: str, view: StudyView | None, problem: str | None = None) -> Mapping[str, Any]:
    """A study as a line of the list of studies."""
    if view is None:
        return {"study": study, "problem": problem}
    facts = view.facts
    shown = ("state", "metric", "direction", "trials", "finished", "counts", "best", "best_value", "gain", "last_at")
    return {
        "study": study,
        **{key: to_json(getattr(facts, key)) for key in shown},
        "cpu_seconds": view.spend.cpu_seconds,
        "gpu_seconds": view.spend.gpu_seconds,
        "has_verdict": view.verdict is not None,
    }


def parsed(body: bytes) -> dict[str, Any]:
    """The JSON object of a request.

    Raises:
        ValueError: If it is none.
    """
    data = json.loads(body or b"{}")
    if not isinstance(data, dict):
        raise ValueError("the body is no JSON object")
    return data
