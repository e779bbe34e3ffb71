"""Reading a study again and again, each time only what is new."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any
from uuid import uuid4

import yaml

from sweep.domain import Holder, Trial, baselines_of, kept_numbers, ranked
from sweep.engine.lock import current_holder
from sweep.errors import SweepError
from sweep.layout import StudyLayout
from sweep.redaction import redacted
from sweep.search import OptunaStore, StoredTrial
from sweep.selection.final import is_complete
from sweep.selection.winner import read_verdict
from sweep.spec.model import StudySpec
from sweep.spec.source import BoundedLoader
from sweep.spec.space import Choices, FloatRange
from sweep.study_files import read_facts, read_spec, redactor_for, tracking_uri
from sweep.study_view.figures import eta_seconds, rungs_of, spend_of
from sweep.study_view.trials import gain, view_of
from sweep.study_view.values import SearchedSetting, StudyFacts, StudyView, TrialView
from sweep.tracking import Delivered, delivered, undelivered

CONFIRMATION_SUFFIX = ".confirm"


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a trial's view was made from."""

    stored: StoredTrial
    others: tuple[Any, ...]
    view: TrialView


class StudyWatch:
    """Looks at a study as often as asked; a further look costs what has changed since the one before.

    Args:
        spec: The study; see ``study_files.read_spec``.
        ignore_driver: Look at it as if its driver had ended; for a driver at its end.
        now: Unix seconds.

    Raises:
        StudyNotFoundError: If the study has not begun.
        StudyStoreError: If its history cannot be read.
    """

    def __init__(self, spec: StudySpec, *, ignore_driver: bool = False, now: Callable[[], float] = time.time) -> None:
        self._spec = spec
        self._ignore_driver = ignore_driver
        self._now = now
        self._redactor = redactor_for(spec)
        self._reader = OptunaStore.open_readonly(spec)
        self._uid = uuid4().hex[:12]
        self._version = 0
        self._seen: dict[int, _Seen] = {}
        self._stamp: object = None
        self._files: dict[str, Mapping[str, Any]] = {"data": {}, "environment": {}, "spec": {}}

    def read(self) -> StudyView:
        """The study by now.

        Raises:
            StudyStoreError: If its history cannot be read.
        """
        layout = self._spec.layout
        self._refresh_files()
        spec = self._spec
        holder = None if self._ignore_driver else current_holder(layout.lock)
        made = delivered(layout)
        stored = self._reader.read()
        trials = self._trials(stored, made, is_driven=holder is not None)
        now = self._now()
        return StudyView(
            token=f"{self._uid}-{self._version}",
            at=now,
            facts=_facts(spec, [each.trial for each in stored], trials, holder, made),
            trials=trials,
            ranking=tuple(trial.number for trial in ranked([each.trial for each in stored], spec.rule)),
            rungs=rungs_of(trials, spec),
            spend=spend_of(trials, spec),
            eta_seconds=eta_seconds(trials, spec, now=now, spent=self._reader.spent()),
            data=self._files["data"],
            environment=self._files["environment"],
            spec=self._files["spec"],
            verdict=self._redactor.values(_verdict(layout)),
        )

    def close(self) -> None:
        """Let go of the history; idempotent."""
        self._reader.close()

    def __enter__(self) -> StudyWatch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _refresh_files(self) -> None:
        """What a session writes once: read again when the next one has begun, maybe with a larger budget."""
        layout = self._spec.layout
        stamp = _stamp(layout.spec)
        if stamp == self._stamp:
            return
        self._spec, self._stamp = _fresh(self._spec), stamp
        values = {
            "data": read_facts(layout, "data"),
            "environment": read_facts(layout, "environment"),
            "spec": _stored_spec(layout),
        }
        self._files = {name: self._redactor.values(value) for name, value in values.items()}

    def _trials(self, stored: Sequence[StoredTrial], made: Delivered, *, is_driven: bool) -> tuple[TrialView, ...]:
        baselines = baselines_of([each.trial for each in stored])
        kept = kept_numbers((each.trial for each in stored), self._spec.rule, keep=self._spec.keep)
        version, views = self._version + 1, []
        for each in stored:
            number = each.trial.number
            run_id = made.runs.get(number)
            is_finished = each.trial.state.is_finished
            may_have_model = number in kept or not is_finished
            defaults = baselines.get(each.trial.seed_index)
            baseline = defaults.value if defaults is not None else None
            others = (baseline, run_id, is_driven or is_finished, may_have_model)
            seen = self._seen.get(number)
            if seen is None or seen.stored is not each or seen.others != others:
                view = view_of(
                    each,
                    rule=self._spec.rule,
                    baseline=baseline,
                    run_id=run_id,
                    is_driven=is_driven,
                    may_have_model=may_have_model,
                    cpus=self._spec.resources.cpus_per_trial,
                    gpus=self._spec.resources.gpus_per_trial,
                    redactor=self._redactor,
                    version=version,
                )
                if seen is not None and replace(view, version=seen.view.version) == seen.view:
                    view = seen.view
                else:
                    self._version = version
                self._seen[number] = _Seen(each, others, view)
            else:
                view = seen.view
            views.append(view)
        return tuple(views)


def read_study(spec: StudySpec) -> StudyView:
    """The study by now, once.

    Raises:
        StudyNotFoundError: If the study has not begun.
        StudyStoreError: If its history cannot be read.
    """
    with StudyWatch(spec) as watch:
        return watch.read()


def _facts(
    spec: StudySpec, stored: Sequence[Trial], trials: Sequence[TrialView], holder: Holder | None, made: Delivered
) -> StudyFacts:
    best = next(iter(ranked(stored, spec.rule)), None)
    baseline = baselines_of(stored).get(best.seed_index) if best else next(iter(stored), None)
    finished = sum(trial.state.is_finished for trial in stored)
    verdict = None
    with suppress(SweepError):
        verdict = read_verdict(spec.layout)
    idle = "COMPLETE" if is_complete(spec, stored, verdict) else "PAUSED"
    times = [moment for trial in trials for moment in _times(trial)]
    return StudyFacts(
        study=spec.study,
        storage=str(spec.layout.storage),
        task=spec.objective.task,
        model=redacted(spec.objective.model),
        state="RUNNING" if holder is not None else idle,
        holder=str(holder) if holder is not None else None,
        metric=spec.rule.name,
        direction=spec.rule.direction,
        source=spec.rule.source,
        sampler=spec.search.sampler.name,
        pruner=spec.search.pruner.name,
        seed=spec.search.seed,
        space=_space(spec),
        trials=spec.budget.trials,
        hours=spec.budget.hours,
        finished=finished,
        counts=dict(Counter(trial.state for trial in trials)),
        best=best.number if best else None,
        best_value=best.value if best else None,
        baseline=baseline.number if baseline else None,
        baseline_value=baseline.value if baseline else None,
        gain=gain(best.value, baseline.value, spec.rule) if best and baseline else None,
        fidelity_unit=spec.fidelity_unit,
        full_run=spec.max_fidelity,
        cpus_per_trial=spec.resources.cpus_per_trial,
        gpus_per_trial=spec.resources.gpus_per_trial,
        began_at=min((trial.started_at for trial in stored if trial.started_at is not None), default=None),
        last_at=max(times, default=None),
        experiment_id=made.experiment_id,
        parent_run_id=made.parent_run_id,
        undelivered=undelivered(spec.layout),
        tracking_uri=redacted(tracking_uri(spec)),
        confirmation=_confirmation(spec.layout),
    )


def _times(trial: TrialView) -> list[float]:
    ends = [span.ended_at or span.began_at for span in trial.spans]
    return [moment for moment in (trial.started_at, trial.ended_at, *ends) if moment is not None]


def _space(spec: StudySpec) -> tuple[SearchedSetting, ...]:
    settings = []
    for name, distribution in spec.search.space.items():
        if isinstance(distribution, Choices):
            settings.append(SearchedSetting(name=name, kind="choice", choices=distribution.values))
            continue
        kind = "float" if isinstance(distribution, FloatRange) else "int"
        settings.append(
            SearchedSetting(name=name, kind=kind, low=distribution.low, high=distribution.high, log=distribution.log)
        )
    return tuple(settings)


def _stamp(path: Path) -> object:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_ino, stat.st_size


def _fresh(spec: StudySpec) -> StudySpec:
    """The spec as it is stored now; the one that is known, where that cannot be read at this moment."""
    try:
        return read_spec(spec.layout, given=spec)
    except SweepError:
        return spec


def _stored_spec(layout: StudyLayout) -> Mapping[str, Any]:
    try:
        stored = yaml.load(layout.spec.read_text(encoding="utf-8"), BoundedLoader)
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return stored if isinstance(stored, dict) else {}


def _verdict(layout: StudyLayout) -> Mapping[str, Any] | None:
    try:
        verdict = json.loads(layout.verdict.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return verdict if isinstance(verdict, dict) else None


def _confirmation(layout: StudyLayout) -> str | None:
    name = layout.study + CONFIRMATION_SUFFIX
    return name if os.path.isfile(StudyLayout(layout.storage, name).spec) else None
