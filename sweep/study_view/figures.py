"""What follows from the trials: rungs, spend, and how long it will take."""

from __future__ import annotations

from collections.abc import Sequence

from sweep.domain import MetricRule, Spent, TrialState
from sweep.spec.model import StudySpec
from sweep.study_view.values import Rung, Spend, TrialView

_NEAR = 1e-6


def rungs_of(trials: Sequence[TrialView], spec: StudySpec) -> tuple[Rung, ...]:
    """How many trials reached each rung, how many of them were cut there, and the best there."""
    ladder = spec.ladder
    if ladder is None:
        return ()
    levels = (*ladder.rungs, ladder.max_fidelity)
    entries: list[list[tuple[float, int]]] = [[] for _ in levels]
    cut = [0] * len(levels)
    for trial in trials:
        highest = None
        best: float | None = None
        position = 0
        for point in trial.curve:
            is_better = best is None or spec.rule.better(point.value, best) or spec.rule.source == "last"
            best = point.value if is_better else best
            while position < len(levels) and point.fidelity >= levels[position] * (1 - _NEAR):
                entries[position].append((best if best is not None else point.value, trial.number))
                highest = position
                position += 1
        if trial.state == TrialState.PRUNED and highest is not None:
            cut[highest] += 1
    return tuple(
        _rung(level, reached, cut[position], spec.rule, is_full_run=position == len(levels) - 1)
        for position, (level, reached) in enumerate(zip(levels, entries, strict=True))
    )


def _rung(fidelity: float, reached: list[tuple[float, int]], cut: int, rule: MetricRule, *, is_full_run: bool) -> Rung:
    best, number = min(reached, key=lambda entry: (rule.rank_key(entry[0]), entry[1]), default=(None, None))
    return Rung(fidelity=fidelity, is_full_run=is_full_run, reached=len(reached), cut=cut, best=best, best_trial=number)


def spend_of(trials: Sequence[TrialView], spec: StudySpec) -> Spend:
    """What the trials have cost, and an estimate of what pruning has saved."""
    by_state: dict[str, float] = {}
    lost = saved = 0.0
    for trial in trials:
        by_state[trial.state] = by_state.get(trial.state, 0.0) + trial.seconds
        lost += sum(span.ended_at - span.began_at for span in trial.spans if span.is_bad and span.ended_at is not None)
        if trial.state == TrialState.PRUNED:
            saved += untrained_seconds(trial, full_run(trial, spec))
    seconds = sum(by_state.values())
    cpus, gpus = spec.resources.cpus_per_trial, spec.resources.gpus_per_trial
    return Spend(
        seconds=seconds,
        cpu_seconds=seconds * cpus,
        gpu_seconds=seconds * gpus,
        by_state=by_state,
        lost_seconds=lost,
        saved_seconds=saved,
        saved_cpu_seconds=saved * cpus,
        saved_gpu_seconds=saved * gpus,
    )


def full_run(trial: TrialView, spec: StudySpec) -> float:
    """A trial's full run in the fidelity unit; its own, where the length is searched."""
    drawn = trial.hyperparameters.get(spec.fidelity_unit)
    return float(drawn) if isinstance(drawn, int | float) else spec.max_fidelity


def untrained_seconds(trial: TrialView, full: float) -> float:
    """Estimate of what a trial would have needed to its full run, by its own seconds per fidelity."""
    if not trial.curve:
        return 0.0
    first, last = trial.curve[0], trial.curve[-1]
    if last.fidelity > first.fidelity:
        # Between evaluations: what is done once, such as loading, would not come again.
        rate = (last.wall_seconds - first.wall_seconds) / (last.fidelity - first.fidelity)
    else:
        rate = last.wall_seconds / last.fidelity if last.fidelity > 0 else 0.0
    return max(0.0, rate) * max(0.0, full - last.fidelity)


def eta_seconds(trials: Sequence[TrialView], spec: StudySpec, *, now: float, spent: Spent) -> float | None:
    """Estimate of the seconds until all is done, from what finished trials took and how many run at once.

    The final of a search counts in: as many full runs as it has at most, each as long as a complete trial. The budget's
    hours bound both.

    Args:
        trials: All trials.
        spec: The study.
        now: Unix seconds.
        spent: What it has spent of its budget so far, over all its sessions.
    """
    finished = [trial for trial in trials if TrialState(trial.state).is_finished]
    running = [trial for trial in trials if trial.state == TrialState.RUNNING]
    left = spec.budget.trials - len(finished)
    if left <= 0 or not finished or not running:
        return None
    each = sum(trial.seconds for trial in finished) / len(finished)
    begun = sum(min(each, running_seconds(trial, now)) for trial in running)
    full = [trial.seconds for trial in finished if trial.state == TrialState.COMPLETE]
    final = _runs_of_final(spec) * (sum(full) / len(full) if full else each)
    eta = (max(0.0, each * left - begun) + final) / len(running)
    if spec.budget.hours is not None:
        eta = min(eta, max(0.0, 3600 * spec.budget.hours - spent.seconds))
    return eta


def _runs_of_final(spec: StudySpec) -> int:
    """How many runs the final of a search has at most."""
    if spec.confirm is None or spec.layout.searched is not None:
        return 0
    return min(spec.confirm.finalists + 1, spec.budget.trials) * spec.confirm.seeds


def running_seconds(trial: TrialView, now: float) -> float:
    """Seconds that an unfinished trial has been on workers until now."""
    return sum(max(0.0, (span.ended_at or now) - span.began_at) for span in trial.spans) or trial.seconds
