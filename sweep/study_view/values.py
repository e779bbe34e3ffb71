"""What there is to see of a study: frozen, JSON-able, without secrets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from sweep.domain import HyperparameterValue


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoint:
    """One evaluation.

    Attributes:
        step: Optimizer steps done.
        fidelity: Training done, in the study's fidelity unit.
        value: The study's metric at this evaluation; of data in folds, what this fold alone has.
        gap: Loss on the validation split less the training loss, where the objective reports it: it grows as the
            model learns its rows by heart.
        wall_seconds: Seconds of training and evaluation up to here.
    """

    step: int
    fidelity: float
    value: float
    gap: float | None
    wall_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptSpan:
    """One execution of a trial on a worker: a bar of the timeline.

    Attributes:
        worker: Host and slot.
        began_at: Unix seconds.
        ended_at: Unix seconds; None while it runs. If its driver died with it, the last time it was heard of.
        end: RUNNING, or how it ended (``AttemptEnd``); LOST if its driver died with it.
        is_bad: Whether it ended in a way that nobody wanted: lost, failed, out of memory, out of time, diverged.
    """

    trial_number: int
    attempt: int
    worker: str
    began_at: float
    ended_at: float | None
    end: str
    is_bad: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SetbackView:
    """An attempt that ended badly without ending its trial.

    Attributes:
        end: How (``AttemptEnd``).
        step: Optimizer step of the trial's newest evaluation then.
        reason: One line.
    """

    attempt: int
    end: str
    step: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialView:
    """One trial.

    Attributes:
        name: What people call it; in a final, by the trial that it trains anew and its seed.
        is_baseline: Whether it has the defaults.
        state: ``TrialState``.
        hyperparameters: The drawn values; a tuple stands for a list.
        value: Objective value by the metric rule; None before the first evaluation.
        step: Step of that evaluation.
        gain: By how much ``value`` is better than that of the defaults (trial 0; in a final, their run on the same
            seed); negative if it is worse.
        metrics: All metrics of that evaluation.
        test: Metrics on the test split, where it was opened for this trial.
        curve: Its evaluations, by step.
        seconds: On workers, over all attempts, as far as they were seen.
        cpu_seconds: The same times the cores that a trial holds.
        gpu_seconds: The same times its share of GPUs.
        attempts: Attempts begun.
        spans: Those that are known with their worker; an older history knows none.
        error: The line that tells why it ended badly.
        started_at: Unix seconds.
        ended_at: Unix seconds; None while it is unfinished.
        run_id: MLflow's run, once it is delivered.
        checkpoint: Folder of the model that is kept of it, or None.
        version: Of the reader when this was last another value; see ``StudyView.token``.
    """

    number: int
    name: str
    is_baseline: bool
    state: str
    hyperparameters: Mapping[str, HyperparameterValue]
    value: float | None
    step: int | None
    gain: float | None
    metrics: Mapping[str, float]
    test: Mapping[str, float] | None
    curve: tuple[CurvePoint, ...]
    seconds: float
    cpu_seconds: float
    gpu_seconds: float
    attempts: int
    spans: tuple[AttemptSpan, ...]
    setbacks: tuple[SetbackView, ...]
    error: str | None
    started_at: float | None
    ended_at: float | None
    run_id: str | None
    checkpoint: str | None
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchedSetting:
    """One dimension of the search space.

    Attributes:
        kind: ``float``, ``int`` or ``choice``.
        low: Lowest value, of a range.
        high: Highest value, of a range.
        log: Whether its axis is logarithmic.
        choices: Of a choice.
    """

    name: str
    kind: str
    low: float | None = None
    high: float | None = None
    log: bool = False
    choices: tuple[HyperparameterValue, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """A level at which trials are compared; the last is the full run.

    Attributes:
        fidelity: In the study's fidelity unit.
        reached: Trials evaluated there.
        cut: Pruned trials that came no further.
        best: Best objective value with which a trial came there.
        best_trial: Its number.
    """

    fidelity: float
    is_full_run: bool
    reached: int
    cut: int
    best: float | None
    best_trial: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Spend:
    """What the study has cost by now.

    Attributes:
        seconds: On workers, over all trials.
        cpu_seconds: The same times the cores that a trial holds.
        gpu_seconds: The same times its share of GPUs.
        by_state: Seconds on workers by the trials' states.
        lost_seconds: Of ``seconds``, in attempts that ended badly.
        saved_seconds: Estimate of what pruned trials would have needed to their full runs, each by its own seconds
            per fidelity.
        saved_cpu_seconds: The same in core seconds.
        saved_gpu_seconds: The same in GPU seconds.
    """

    seconds: float
    cpu_seconds: float
    gpu_seconds: float
    by_state: Mapping[str, float]
    lost_seconds: float
    saved_seconds: float
    saved_cpu_seconds: float
    saved_gpu_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyFacts:
    """What the study is, and how far it is.

    Attributes:
        storage: Its storage root.
        state: RUNNING while a driver holds it, else COMPLETE or PAUSED.
        holder: Who drives it.
        metric: Name of what is optimised.
        direction: ``minimize`` or ``maximize``.
        source: ``best`` or ``last``: which evaluation stands for a trial.
        trials: Finished trials wanted.
        hours: Wall hours over all its sessions, or None.
        finished: Finished trials.
        counts: Trials by state.
        best: Number of the leading complete trial.
        best_value: Its objective value.
        baseline: Number of the trial with the defaults that the best is measured against: 0; in a final, their run on
            the same seed.
        baseline_value: Its objective value so far.
        gain: By how much the best is better than that.
        fidelity_unit: ``epochs``, ``steps`` or ``folds``.
        full_run: The longest run, in that unit.
        began_at: Unix seconds of the first trial's start.
        last_at: Unix seconds of the newest thing that is known of any trial.
        experiment_id: MLflow's, once it is delivered.
        parent_run_id: MLflow's run of the study, likewise.
        undelivered: Records that MLflow has not taken yet.
        tracking_uri: MLflow's store or server, without a password.
        confirmation: Name of the study that trains the finalists anew, if there is one.
    """

    study: str
    storage: str
    task: str
    model: str
    state: str
    holder: str | None
    metric: str
    direction: str
    source: str
    sampler: str
    pruner: str
    seed: int
    space: tuple[SearchedSetting, ...]
    trials: int
    hours: float | None
    finished: int
    counts: Mapping[str, int]
    best: int | None
    best_value: float | None
    baseline: int | None
    baseline_value: float | None
    gain: float | None
    fidelity_unit: str
    full_run: float
    cpus_per_trial: float
    gpus_per_trial: float
    began_at: float | None
    last_at: float | None
    experiment_id: str | None
    parent_run_id: str | None
    undelivered: int
    tracking_uri: str
    confirmation: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyView:
    """The whole study at one moment.

    Attributes:
        token: Names this moment; :meth:`changed_since` tells what is new after it.
        at: Unix seconds.
        trials: By number.
        ranking: Numbers of complete trials, best first.
        rungs: Levels at which trials are compared, ascending; empty without successive halving.
        eta_seconds: Estimate of the time until all is done, its final as well; None where there is nothing to go by.
        data: What is known of the data: rows by split, labels, hash, warnings.
        environment: Versions and machine of the newest session.
        spec: The resolved spec, as it is stored.
        verdict: The confirmation's verdict (``verdict.json``), if there is one.
    """

    token: str
    at: float
    facts: StudyFacts
    trials: tuple[TrialView, ...]
    ranking: tuple[int, ...]
    rungs: tuple[Rung, ...]
    spend: Spend
    eta_seconds: float | None
    data: Mapping[str, Any]
    environment: Mapping[str, Any]
    spec: Mapping[str, Any]
    verdict: Mapping[str, Any] | None

    @property
    def timeline(self) -> tuple[AttemptSpan, ...]:
        """The spans of all trials, by their beginnings."""
        spans = [span for trial in self.trials for span in trial.spans]
        return tuple(sorted(spans, key=lambda span: (span.began_at, span.trial_number)))

    def changed_since(self, token: str | None) -> tuple[TrialView, ...]:
        """Trials that are other than at the moment of ``token``; all for None or a token of another reader."""
        reader, _, version = (token or "").rpartition("-")
        if reader != self.token.rpartition("-")[0] or not version.isdecimal():
            return self.trials
        return tuple(trial for trial in self.trials if trial.version > int(version))


def to_json(value: Any) -> Any:
    """A value of this module, or a part of it, as plain dictionaries and lists."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_json(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {key: to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    return value
