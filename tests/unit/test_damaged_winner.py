"""A trial whose best checkpoint was damaged is trained again from before it, if it is to be kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from sweep.domain import AttemptEnd, TrialState
from sweep.testing.doubles import MemoryKeeper
from tests.simulated import Study


@dataclass(slots=True)
class DamagingKeeper(MemoryKeeper):
    """The checkpoint of a trial's best step is damaged the first time somebody looks."""

    victim: int = 0
    asked_before: list[int | None] = field(default_factory=list)
    looked_at: list[int] = field(default_factory=list)

    def newest(self, trial_number: int, before: int | None = None) -> str | None:
        if trial_number == self.victim:
            self.asked_before.append(before)
        return None

    def is_intact(self, trial_number: int, step: int) -> bool:
        self.looked_at.append(trial_number)
        return trial_number != self.victim or self.looked_at.count(trial_number) > 1


def test_a_trial_whose_best_checkpoint_is_damaged_goes_back_before_it_and_ends_complete(tmp_path: Path) -> None:
    keeper = DamagingKeeper()
    study = Study(tmp_path)
    study.keeper, study.checkpoint = keeper, "/checkpoint"
    assert study.run().state == "COMPLETE"
    trial = study.trials[0]
    assert trial.state is TrialState.COMPLETE
    assert [setback.end for setback in trial.setbacks] == [AttemptEnd.LOST]
    assert "is damaged" in trial.setbacks[0].reason
    assert keeper.asked_before == [None, trial.step]


def test_only_checkpoints_that_are_to_be_kept_are_read_again(tmp_path: Path) -> None:
    keeper = DamagingKeeper(victim=-1)
    study = Study(tmp_path, "keep=1", "search.pruner=none")
    study.keeper, study.checkpoint = keeper, "/checkpoint"
    assert study.run().state == "COMPLETE"
    best_so_far, better = float("-inf"), []
    for trial in sorted(study.trials, key=lambda trial: trial.ended_at or 0.0):
        if trial.number == 0 or (trial.value or 0.0) > best_so_far:
            better.append(trial.number)
        best_so_far = max(best_so_far, trial.value or 0.0)
    assert sorted(keeper.looked_at) == sorted(better)
    assert len(better) < len(study.trials)
