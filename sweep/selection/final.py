"""The final of a study: who trains anew on which seed, and how each of them stands."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from sweep.domain import MetricRule, Planned, Trial, TrialState, ranked
from sweep.ports import StudyStore
from sweep.selection.racing import clearly_behind
from sweep.selection.verdict import Finalist, Verdict
from sweep.spec.model import ConfirmSpec, StudySpec

Runs = Mapping[tuple[int, int], Trial]
"""Trials of a final by finalist's number and seed index."""


def entrants_of(trials: Sequence[Trial], rule: MetricRule, *, count: int) -> list[Finalist]:
    """Trial 0, if it is complete, and the best ``count`` others, best first."""
    order = ranked(trials, rule)
    baseline = [trial for trial in order if trial.number == 0]
    return [_finalist(trial) for trial in [*baseline, *[trial for trial in order if trial.number][:count]]]


def is_complete(spec: StudySpec, trials: Sequence[Trial], verdict: Verdict | None) -> bool:
    """Whether a study has nothing left to do: its budget is spent, and its final, if it has one, is judged.

    Args:
        spec: The study; it may be a final itself.
        trials: Its trials.
        verdict: On its finalists, if there is one; more trials may have made it one on others.
    """
    if spec.layout.searched is not None:
        # Whom the race dropped has no further runs: the verdict tells that a final is complete.
        return spec.layout.searched.verdict.exists()
    if sum(trial.state.is_finished for trial in trials) < spec.budget.trials:
        return False
    confirm = spec.confirm
    if confirm is None:
        return True
    if verdict is None or verdict.seeds < confirm.seeds:
        return False
    entrants = {one.label for one in entrants_of(trials, spec.rule, count=confirm.finalists)}
    return entrants == {one.label for one in verdict.finalists if one.kind != "soup"}


def to_be_tried_again(trials: Iterable[Trial]) -> frozenset[int]:
    """Runs that ended for a reason that may have been mended since; who diverged would do so again."""
    ends = (TrialState.FAILED, TrialState.OOM, TrialState.TIMEOUT)
    return frozenset(run.number for run in runs_of(trials).values() if run.state in ends)


def runs_of(trials: Iterable[Trial]) -> Runs:
    """The trials of a final by finalist and seed index; the newest, of one that was tried again."""
    return {
        (trial.confirms, trial.seed_index): trial
        for trial in trials
        if trial.confirms is not None and trial.seed_index is not None
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Final:
    """Implements :class:`sweep.ports.Agenda`: one round of all finalists on a seed after another.

    What is to be trained follows from the search, the spec and the trials of the final alone, so a final that broke
    off, or that gets more finalists or seeds, goes on with what is missing.

    Attributes:
        entrants: The finalists, without scores.
        rule: The study's.
        confirm: The spec's section.
        again: Numbers of runs that are trained once more, each as a run of its own; their record stays.
    """

    entrants: Sequence[Finalist]
    rule: MetricRule
    confirm: ConfirmSpec
    again: frozenset[int] = frozenset()

    def wanted(self, trials: Iterable[Trial]) -> int:
        """All runs of finalists that are not dropped yet, those of earlier finalists, and those tried again."""
        known = list(trials)
        runs = self._runs(known)
        _, rounds, _ = self._raced(runs)
        planned = {pair for one in rounds for pair in one}
        return len(planned - runs.keys()) + len(known)

    def begin(self, store: StudyStore, trials: Iterable[Trial]) -> Trial | None:
        """The next finalist on the next seed; None while a race is not decided."""
        runs = self._runs(trials)
        _, rounds, open_rounds = self._raced(runs)
        drawn = {one.trial_number: one.hyperparameters for one in self.entrants}
        for one in rounds[:open_rounds]:
            for number, index in one:
                if (number, index) not in runs:
                    return store.ask(Planned(confirms=number, seed_index=index, hyperparameters=drawn[number]))
        return None

    def standings(self, trials: Iterable[Trial]) -> list[Finalist]:
        """The finalists with their scores so far, and after which round they were dropped."""
        return self._raced(self._runs(trials))[0]

    def _runs(self, trials: Iterable[Trial]) -> Runs:
        return runs_of(trial for trial in trials if trial.number not in self.again)

    def _raced(self, runs: Runs) -> tuple[list[Finalist], list[list[tuple[int, int]]], int]:
        """Finalists with scores; planned runs by round; how many of the rounds may begin."""
        finalists, rounds, open_rounds = list(self.entrants), list[list[tuple[int, int]]](), self.confirm.seeds
        are_over = True
        for index in range(self.confirm.seeds):
            racing = [one for one in finalists if one.dropped_after is None]
            rounds.append([(one.trial_number, index) for one in racing if one.trial_number is not None])
            finalists = [_scored(one, index, runs) for one in finalists]
            are_over &= all((run := runs.get(pair)) is not None and run.state.is_finished for pair in rounds[-1])
            if not self.confirm.racing or index == 0:
                continue
            if not are_over:
                # Who trains in the rounds after this one is decided by this one.
                open_rounds = min(open_rounds, index + 1)
                continue
            behind = clearly_behind(finalists, self.rule, seeds=self.confirm.seeds, level=self.confirm.level)
            finalists = [replace(one, dropped_after=index + 1) if one.label in behind else one for one in finalists]
        return finalists, rounds, open_rounds


def _finalist(trial: Trial) -> Finalist:
    return Finalist(
        label=f"trial {trial.number}",
        kind="baseline" if trial.number == 0 else "finalist",
        trial_number=trial.number,
        hyperparameters=trial.hyperparameters,
        search_score=trial.value,
    )


def _scored(finalist: Finalist, index: int, runs: Runs) -> Finalist:
    run = runs.get((finalist.trial_number or 0, index))
    if finalist.dropped_after is not None or run is None or run.state is not TrialState.COMPLETE or run.value is None:
        return finalist
    return replace(finalist, scores={**finalist.scores, index: run.value})
