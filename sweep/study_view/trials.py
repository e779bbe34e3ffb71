"""From a stored trial to what there is to see of it."""

from __future__ import annotations

from pathlib import Path

from sweep.domain import GAP, Attempt, AttemptEnd, MetricRule, Report, Trial, TrialState, fold_metric
from sweep.redaction import Redactor
from sweep.search import StoredTrial
from sweep.study_view.values import AttemptSpan, CurvePoint, SetbackView, TrialView

BAD_ENDS = frozenset(
    {
        AttemptEnd.LOST,
        AttemptEnd.FAILED,
        AttemptEnd.OOM,
        AttemptEnd.TIMEOUT,
        AttemptEnd.DIVERGED,
        AttemptEnd.DISK_FULL,
    }
)
RUNNING = "RUNNING"
_LONGEST_LINE = 300


def view_of(
    stored: StoredTrial,
    *,
    rule: MetricRule,
    baseline: float | None,
    run_id: str | None,
    is_driven: bool,
    may_have_model: bool,
    cpus: float,
    gpus: float,
    redactor: Redactor,
    version: int,
) -> TrialView:
    """What there is to see of a trial.

    Args:
        stored: The trial and its evaluations.
        rule: What is best.
        baseline: Objective value of the defaults, on its seed in a final.
        run_id: Its MLflow run.
        is_driven: Whether a driver holds the study; without one, nothing runs.
        may_have_model: Whether retention keeps checkpoints of it.
        cpus: Cores that a trial holds.
        gpus: Share of GPUs that a trial holds.
        redactor: Strikes out secrets.
        version: Of the reader.
    """
    trial, reports = stored.trial, stored.reports
    spans = tuple(span_of(trial, attempt, reports, is_driven=is_driven) for attempt in trial.attempts)
    seconds = worker_seconds(spans, reports)
    return TrialView(
        number=trial.number,
        name=trial.name,
        is_baseline=trial.is_baseline,
        state=shown_state(trial.state, is_driven=is_driven),
        hyperparameters=redactor.values(trial.hyperparameters),
        value=trial.value,
        step=trial.step,
        gain=gain(trial.value, baseline, rule),
        metrics=trial.metrics,
        test=trial.test,
        curve=tuple(
            CurvePoint(
                step=report.step,
                fidelity=report.fidelity,
                value=report.metrics.get(fold_metric(rule.name), report.metrics[rule.name]),
                gap=report.metrics.get(GAP),
                wall_seconds=report.wall_seconds,
            )
            for report in reports
        ),
        seconds=seconds,
        cpu_seconds=seconds * cpus,
        gpu_seconds=seconds * gpus,
        attempts=trial.attempt,
        spans=spans,
        setbacks=tuple(
            SetbackView(
                attempt=setback.attempt,
                end=setback.end.value,
                step=setback.step,
                reason=redactor.text(telling_line(setback.reason)),
            )
            for setback in trial.setbacks
        ),
        error=redactor.text(telling_line(trial.error)) if trial.error else None,
        started_at=trial.started_at,
        ended_at=trial.ended_at,
        run_id=run_id,
        checkpoint=_kept(trial.checkpoint) if may_have_model else None,
        version=version,
    )


def _kept(checkpoint: str | None) -> str | None:
    return checkpoint if checkpoint is not None and Path(checkpoint).is_dir() else None


def shown_state(state: TrialState, *, is_driven: bool) -> str:
    """A trial's state; without a driver nothing runs, and what its death left running waits to be resumed."""
    return state.value if is_driven or state not in {TrialState.RUNNING, TrialState.PENDING} else "PAUSED"


def gain(value: float | None, baseline: float | None, rule: MetricRule) -> float | None:
    """By how much a value is better than the defaults'; negative if it is worse."""
    if value is None or baseline is None:
        return None
    return rule.sign * value - rule.sign * baseline


def span_of(trial: Trial, attempt: Attempt, reports: tuple[Report, ...], *, is_driven: bool) -> AttemptSpan:
    """An attempt as a bar of the timeline."""
    is_last = attempt.number == trial.attempt
    ended_at, end = attempt.ended_at, attempt.end
    runs = ended_at is None and is_last and is_driven and trial.state is TrialState.RUNNING
    if ended_at is None and not runs:
        # Its driver died, and it with it: it was last heard of at its last report.
        own = [report.reported_at for report in reports if report.attempt == attempt.number]
        ended_at, end = max([attempt.began_at, *own]), AttemptEnd.LOST
    return AttemptSpan(
        trial_number=trial.number,
        attempt=attempt.number,
        worker=attempt.worker,
        began_at=attempt.began_at,
        ended_at=ended_at,
        end=end.value if end else RUNNING,
        is_bad=end in BAD_ENDS,
    )


def worker_seconds(spans: tuple[AttemptSpan, ...], reports: tuple[Report, ...]) -> float:
    """Seconds that a trial has been on workers; a running attempt counts up to its last report."""
    trained = max((report.wall_seconds for report in reports), default=0.0)
    return max(trained, sum(span.ended_at - span.began_at for span in spans if span.ended_at is not None))


def telling_line(text: str) -> str:
    """The line of a text that says what happened: the last one of a traceback, else the first."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()] or [""]
    line = lines[-1] if any(line.startswith("Traceback") for line in lines) else lines[0]
    return line if len(line) <= _LONGEST_LINE else line[: _LONGEST_LINE - 1] + "…"
