"""What the records tell of a study as a whole."""

from __future__ import annotations

from sweep.domain import TrialState
from sweep.tracking.memory import StudyMemory
from tests.recording import attempt, begun, over, report


def test_finished_trials_rank_by_completion_then_by_how_far_they_got_then_by_value() -> None:
    memory = StudyMemory()
    memory.learn(begun())
    ends = {
        0: (TrialState.PRUNED, 20, 0.5),
        1: (TrialState.COMPLETE, 30, 0.6),
        2: (TrialState.PRUNED, 10, 0.9),
        3: (TrialState.DIVERGED, 30, float("nan")),
        4: (TrialState.COMPLETE, 30, 0.6),
        5: (TrialState.TIMEOUT, 20, 0.7),
        6: (TrialState.FAILED, 10, None),
    }
    for number, (state, last, value) in ends.items():
        memory.learn(attempt(number))
        for step in range(10, last + 1, 10):
            memory.learn(report(number, step))
        # The evaluation that stands for a trial need not be its last.
        memory.learn(over(number, state, value=value, step=10))
        memory.forget_curves(number)
    memory.learn(attempt(7))
    memory.learn(report(7, 30))
    assert memory.order() == [1, 4, 5, 0, 2, 3, 6], "trial 7 still runs"
    assert memory.ranking() == [1, 4]
