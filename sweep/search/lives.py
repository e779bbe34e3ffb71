"""A trial's life in the words of Optuna's storage, and back."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState

from sweep.domain import Attempt, AttemptEnd, HyperparameterValue, MetricRule, Report, Setback, Trial, TrialState
from sweep.search.space import SearchSpace
from sweep.spec.model import StudySpec

STATE = "sweep:state"
ATTEMPT = "sweep:attempt"
STARTED_AT = "sweep:started_at"
HYPERPARAMETERS = "sweep:hyperparameters"
END = "sweep:end"
REPORT = "sweep:report:"
SETBACK = "sweep:setback:"
WORKER = "sweep:worker:"
TEST = "sweep:test:"
PLANNED = "sweep:planned"
SPENT = "sweep:spent"

# A diverged trial says that its region is bad, which Optuna's samplers learn from PRUNED and not from FAIL;
# the samplers see it without its evaluations, which ranks it below every other trial.
_OPTUNA_STATES = {
    TrialState.COMPLETE: OptunaState.COMPLETE,
    TrialState.PRUNED: OptunaState.PRUNED,
    TrialState.DIVERGED: OptunaState.PRUNED,
    TrialState.OOM: OptunaState.FAIL,
    TrialState.TIMEOUT: OptunaState.FAIL,
    TrialState.FAILED: OptunaState.FAIL,
    TrialState.CANCELLED: OptunaState.FAIL,
}
_LAST_ENDS = {
    TrialState.COMPLETE: AttemptEnd.FINISHED,
    TrialState.PRUNED: AttemptEnd.STOPPED,
    TrialState.DIVERGED: AttemptEnd.DIVERGED,
    TrialState.OOM: AttemptEnd.OOM,
    TrialState.TIMEOUT: AttemptEnd.TIMEOUT,
    TrialState.FAILED: AttemptEnd.FAILED,
    TrialState.CANCELLED: AttemptEnd.STOPPED,
}
"""How the last attempt of a finished trial ended."""
_STATES_BY_OPTUNA = {
    OptunaState.WAITING: TrialState.PENDING,
    OptunaState.RUNNING: TrialState.RUNNING,
    OptunaState.COMPLETE: TrialState.COMPLETE,
    OptunaState.PRUNED: TrialState.PRUNED,
    OptunaState.FAIL: TrialState.FAILED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """A stored report, with what was decided on it.

    Attributes:
        report: The report.
        value: Objective value up to here, or that of the newest fold alone, as the pruner sees it.
        milli_fidelity: Step at which Optuna compares it.
        prune: The pruner's verdict.
        rungs: Values with which the trial entered rungs, by the pruner's own keys.
    """

    report: Report
    value: float
    milli_fidelity: int
    prune: bool
    rungs: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """As stored in a user attribute."""
        record = asdict(self)
        report = record.pop("report")
        del report["trial_number"]
        return {**report, **record}

    @classmethod
    def from_json(cls, trial_number: int, record: Mapping[str, Any]) -> Evaluation:
        """The inverse of :meth:`to_json`."""
        names = ("attempt", "step", "fidelity", "metrics", "checkpoint", "wall_seconds", "reported_at")
        return cls(
            report=Report(trial_number=trial_number, **{name: record[name] for name in names}),
            value=record["value"],
            milli_fidelity=record["milli_fidelity"],
            prune=record["prune"],
            rungs=record["rungs"],
        )


@dataclass(slots=True, kw_only=True)
class Life:
    """All that is known of a trial; grows as the trial does.

    Attributes:
        trial_id: Optuna's key in its storage.
        evaluations: By optimizer step.
        chosen_step: Step of the evaluation that stands for a finished trial.
        attempts: Those that a worker began, by fencing number; the end of the trial is that of the last one.
    """

    number: int
    trial_id: int
    hyperparameters: Mapping[str, HyperparameterValue]
    started_at: float | None
    state: TrialState = TrialState.RUNNING
    attempt: int = 0
    evaluations: dict[int, Evaluation] = field(default_factory=dict)
    chosen_step: int | None = None
    error: str | None = None
    ended_at: float | None = None
    test: Mapping[str, float] | None = None
    setbacks: tuple[Setback, ...] = ()
    attempts: dict[int, Attempt] = field(default_factory=dict)
    confirms: int | None = None
    seed_index: int | None = None

    @classmethod
    def of(cls, frozen: FrozenTrial, space: SearchSpace, study_attrs: Mapping[str, Any]) -> Life:
        """Read a life from Optuna's trial and its study's user attributes."""
        attrs = frozen.user_attrs
        exact = attrs.get(HYPERPARAMETERS, {})
        life = cls(
            number=frozen.number,
            trial_id=frozen._trial_id,
            hyperparameters=space.decode(frozen.params | exact),
            started_at=attrs.get(STARTED_AT, _seconds(frozen.datetime_start)),
            state=_state(frozen),
            attempt=attrs.get(ATTEMPT, 0),
            test=study_attrs.get(f"{TEST}{frozen.number}"),
            **attrs.get(PLANNED, {}),
        )
        for key, record in attrs.items():
            if key.startswith(REPORT):
                evaluation = Evaluation.from_json(frozen.number, record)
                life.evaluations[evaluation.report.step] = evaluation
        life.evaluations = dict(sorted(life.evaluations.items()))
        setbacks = [_setback(record) for key, record in attrs.items() if key.startswith(SETBACK)]
        life.setbacks = tuple(sorted(setbacks, key=lambda setback: setback.attempt))
        attempts = [_attempt(record) for key, record in attrs.items() if key.startswith(WORKER)]
        life.attempts = {attempt.number: attempt for attempt in sorted(attempts, key=lambda known: known.number)}
        if life.state.is_finished:
            end = attrs.get(END, {})
            life.chosen_step = end.get("step")
            life.error = end.get("error")
            life.ended_at = end.get("at", _seconds(frozen.datetime_complete))
        return life

    @property
    def reports(self) -> list[Report]:
        """All reports, by step."""
        return [evaluation.report for evaluation in self.evaluations.values()]

    @property
    def newest(self) -> Evaluation | None:
        """The evaluation of the highest step."""
        return self.evaluations[max(self.evaluations)] if self.evaluations else None

    def add(self, evaluation: Evaluation) -> None:
        """Add an evaluation, keeping the order of steps."""
        self.evaluations[evaluation.report.step] = evaluation
        self.evaluations = dict(sorted(self.evaluations.items()))

    def trial(self, rule: MetricRule) -> Trial:
        """The life as a value."""
        reports = self.reports
        if self.state.is_finished:
            chosen = next((r for r in reports if r.step == self.chosen_step), None)
        else:
            chosen = rule.chosen(reports)
        return Trial(
            number=self.number,
            state=self.state,
            hyperparameters=self.hyperparameters,
            attempt=self.attempt,
            value=chosen.metrics[rule.name] if chosen else None,
            step=chosen.step if chosen else None,
            checkpoint=chosen.checkpoint if chosen else None,
            values={e.milli_fidelity: e.value for e in self.evaluations.values()},
            metrics=dict(chosen.metrics) if chosen else {},
            error=self.error,
            wall_seconds=max((r.wall_seconds for r in reports), default=0.0),
            test=self.test,
            started_at=self.started_at,
            ended_at=self.ended_at,
            setbacks=self.setbacks,
            attempts=tuple(self._attempts()),
            confirms=self.confirms,
            seed_index=self.seed_index,
        )

    def _attempts(self) -> Iterator[Attempt]:
        for attempt in self.attempts.values():
            is_last = attempt.number == self.attempt and attempt.ended_at is None and self.state in _LAST_ENDS
            yield replace(attempt, ended_at=self.ended_at, end=_LAST_ENDS[self.state]) if is_last else attempt


def optuna_state(state: TrialState, spec: StudySpec) -> OptunaState:
    """A finished state in Optuna's words; the spec says whether a diverged trial teaches the sampler."""
    if state is TrialState.DIVERGED and spec.on.diverged.told == "nothing":
        return OptunaState.FAIL
    return _OPTUNA_STATES[state]


def attempt_to_json(attempt: Attempt) -> dict[str, Any]:
    """As stored in a user attribute."""
    return {**asdict(attempt), "end": attempt.end.value if attempt.end else None}


def _attempt(record: Mapping[str, Any]) -> Attempt:
    known = {field.name: record[field.name] for field in fields(Attempt) if field.name in record}
    return Attempt(**{**known, "end": AttemptEnd(known["end"]) if known["end"] else None})


def _setback(record: Mapping[str, Any]) -> Setback:
    # A later release may have written more.
    known = {field.name: record[field.name] for field in fields(Setback) if field.name in record}
    return Setback(**{**known, "end": AttemptEnd(record["end"])})


def _state(frozen: FrozenTrial) -> TrialState:
    said = frozen.user_attrs.get(STATE)
    by_optuna = _STATES_BY_OPTUNA[frozen.state]
    # A crash within `tell` may leave our word without Optuna's: then the trial has not ended.
    if said is None or TrialState(said).is_finished != by_optuna.is_finished:
        return by_optuna
    return TrialState(said)


def _seconds(moment: Any) -> float | None:
    seconds = moment.timestamp() if moment is not None else math.nan
    return None if math.isnan(seconds) else seconds
