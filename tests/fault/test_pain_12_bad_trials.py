"""Bad trials neither abort nor poison a sweep: each ends as what it is, and the others do not notice."""

from __future__ import annotations

import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from sweep.clock import SystemClock
from sweep.domain import Assignment, Report, TrainRequest, TrialState
from sweep.engine.control import StopRequest
from sweep.engine.loop import StudyLoop
from sweep.execution.local import LocalExecutor
from sweep.execution.warm_client import WarmParent
from sweep.ports import AttemptLimits
from sweep.search import OptunaStore
from sweep.testing.doubles import MemoryKeeper, MemoryRecorder, SilentObserver
from sweep.testing.toy_objectives import LOADER
from tests.simulated import spec_in

TRIALS = 60
EVALUATIONS = 2
SILENCE_SECONDS = 2.0

# How a trial's attempts end: all of them, or the first one only.
RATES: dict[tuple[str, str], tuple[int, TrialState, int]] = {
    ("diverge", "always"): (6, TrialState.DIVERGED, 1),
    ("device-memory", "always"): (4, TrialState.OOM, 3),
    ("memory", "once"): (3, TrialState.COMPLETE, 2),
    ("hang", "always"): (2, TrialState.TIMEOUT, 1),
    ("fail", "always"): (4, TrialState.FAILED, 2),
    ("quit", "always"): (3, TrialState.FAILED, 2),
    ("fail", "once"): (3, TrialState.COMPLETE, 2),
    ("exit", "always"): (3, TrialState.FAILED, 3),
    ("exit", "once"): (4, TrialState.COMPLETE, 2),
}
"""(how, when): (trials, the state they end in, their attempts)."""


@pytest.fixture(scope="module")
def parent() -> Iterator[WarmParent]:
    parent = WarmParent(("sweep.testing.toy_objectives",))
    yield parent
    parent.close()


def test_pain_12_outcomes_injected_at_known_rates_are_counted_exactly_and_the_sweep_ends(
    tmp_path: Path, parent: WarmParent
) -> None:
    spec = spec_in(
        tmp_path,
        f"budget.trials={TRIALS}",
        "search.pruner.name=none",
        "on.oom.halvings=2",
        "on.lost.retries=2",
        f"on.failed.stop_after={TRIALS}",
    )
    script = dict(zip(random.Random(12).sample(range(TRIALS), TRIALS), _fates(), strict=False))
    recorder = MemoryRecorder()

    def request(assignment: Assignment) -> TrainRequest:
        how, when = script.get(assignment.trial_number, ("finish", "always"))
        then = how if when == "always" or assignment.attempt == 1 else "finish"
        return TrainRequest(
            assignment=assignment,
            prepared=str(tmp_path),
            model="none",
            settings={"reports": EVALUATIONS, "then": then},
            metric=spec.rule,
            evaluate_at=spec.evaluate_at,
            fidelity_unit=spec.fidelity_unit,
            checkpoints=str(spec.layout.checkpoints(assignment.trial_number)),
            artifacts=str(spec.layout.artifacts(assignment.trial_number)),
        )

    limits = AttemptLimits(silence_seconds=SILENCE_SECONDS)
    executor = LocalExecutor(4, parent, "toy", loader=LOADER, limits=limits)
    store = OptunaStore.create(spec)
    try:
        result = StudyLoop(
            spec=spec,
            store=store,
            executor=executor,
            recorder=recorder,
            keeper=MemoryKeeper(),
            clock=SystemClock(),
            observer=SilentObserver(),
            request_for=request,
            log_of=spec.layout.log,
            artifacts_of=spec.layout.artifacts,
            stop_requested=lambda: StopRequest.NONE,
        ).run()
        trials = store.trials()
    finally:
        executor.close()
        store.close()
    assert result.state == "COMPLETE"
    expected = Counter(state for count, state, _ in RATES.values() for _ in range(count))
    expected[TrialState.COMPLETE] += TRIALS - sum(count for count, _, _ in RATES.values())
    assert Counter(trial.state for trial in trials) == expected
    for trial in trials:
        fate = script.get(trial.number)
        if fate is not None:
            _, state, attempts = RATES[fate]
            assert (trial.state, trial.attempt) == (state, attempts), fate
            assert trial.state is TrialState.COMPLETE or trial.error, fate
        else:
            assert (trial.state, trial.attempt, trial.setbacks) == (TrialState.COMPLETE, 1, ())
        told = [r.metrics["accuracy"] for r in recorder.records if _is_report(r, trial.number)]
        assert told == [0.1, 0.2], "each evaluation is told once, whatever became of its attempt"
    assert executor.free_slots == executor.slots


def _fates() -> list[tuple[str, str]]:
    return [fate for fate, (count, _, _) in RATES.items() for _ in range(count)]


def _is_report(record: object, number: int) -> bool:
    return isinstance(record, Report) and record.trial_number == number


SPEC = """\
study: broken
objective:
  task: sweep.testing.scripted_objective:ScriptedObjective
  model: none
  data: bundled:tweets
  training: {epochs: 2, fail: true}
search:
  learning_rate: 1e-5..1e-3 log
budget: {trials: 12}
resources: {workers: 2, cpus_per_trial: 1}
storage: mlruns
"""


def test_pain_12_a_bug_in_the_objective_stops_the_sweep_with_its_traceback_once(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(SPEC, encoding="utf-8")
    result = subprocess.run(
        [sys.executable, "-m", "sweep.cli.main", "run", "study.yaml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=150,
    )
    told = result.stdout + result.stderr
    assert result.returncode == 1, told
    assert told.count("Traceback (most recent call last)") == 1, told
    assert "3 trials in a row failed alike" in told
    assert "scripted_objective.py" in told
    assert "Mend the cause, then go on with `sweep resume broken`" in told
    assert "sweep/engine" not in told, "the traceback is the objective's, not ours"
