"""The final of a study: its finalists trained anew on fresh seeds, each on the data of its seed, and judged."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

from sweep.bench import Bench
from sweep.checkpoints import FolderKeeper
from sweep.checkpoints.garbage import of_dead_drivers
from sweep.checkpoints.prepared import in_use
from sweep.checkpoints.space import SpaceWatch, head_room
from sweep.domain import Assignment, Spent, TrainRequest, Trial
from sweep.engine.control import StopCause, StopRequest, StopSignals
from sweep.engine.loop import LoopResult, StudyLoop
from sweep.engine.view import Observer
from sweep.errors import StoppedEarlyError, SweepError, UserError, is_disk_full
from sweep.finale import study_over
from sweep.judgement import Judgement
from sweep.ports import Agenda, Clock, Executor, Recorder, StudyBegun, StudyStore
from sweep.redaction import Redactor
from sweep.room import allowance
from sweep.search import OptunaStore
from sweep.seed_data import data_of_seeds, facts_of_seeds
from sweep.selection import Finalist
from sweep.selection.final import Final, entrants_of, to_be_tried_again
from sweep.sole_driver import sole_driver
from sweep.spec import stored_spec
from sweep.spec.model import ConfirmSpec, StudySpec
from sweep.study_files import tracking_uri, write_facts
from sweep.tracking import SpoolRecorder

_EVERY_MODEL = 1_000_000
"""More models than a final has: a baseline that ranks low, or a finalist of before, may be judged in the end."""


def confirmation_spec(spec: StudySpec, runs: int) -> StudySpec:
    """The spec of a study's final: the same, but nothing is drawn or pruned, and every model stays until the verdict.

    Args:
        spec: The searched study.
        runs: Trials of the final, if nobody is dropped.
    """
    return spec.model_copy(
        update={
            "study": spec.layout.confirmation.study,
            "search": spec.search.model_copy(update={"pruner": spec.search.pruner.model_copy(update={"name": "none"})}),
            "budget": spec.budget.model_copy(update={"trials": runs}),
            "keep": _EVERY_MODEL,
        }
    )


@dataclass(slots=True)
class _Announcing:
    """The final's agenda; says once who is dropped."""

    final: Final
    note: Callable[[str], None]
    _told: set[str] = field(default_factory=set)

    def wanted(self, trials: Iterable[Trial]) -> int:
        for one in self.final.standings(trials):
            if one.dropped_after is not None and one.label not in self._told:
                self._told.add(one.label)
                self.note(f"{one.label} is clearly behind after {one.dropped_after} seeds and gets no more")
        return self.final.wanted(trials)

    def begin(self, store: StudyStore, trials: Iterable[Trial]) -> Trial | None:
        return self.final.begin(store, trials)


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmation:
    """Runs the final of a study whose search is complete, with the search's workers and warm parent.

    Attributes:
        spec: The searched study, with a ``confirm`` section.
        trials: Its trials.
        data: Summary of its prepared data.
        recorder: Of the searched study; takes the verdict.
        requests: How assignments of a study on prepared data become what a worker needs.
        fresh_data: Prepares the data with training and validation rows drawn anew, by seed index.
        bench: Evaluates finished models.
        note: Takes one line for each thing that takes a while.
    """

    spec: StudySpec
    trials: Sequence[Trial]
    data: Mapping[str, Any]
    environment: Mapping[str, Any]
    redactor: Redactor
    recorder: Recorder
    clock: Clock
    signals: StopSignals
    requests: Callable[[StudySpec, Mapping[str, Any]], Callable[[Assignment], TrainRequest]]
    fresh_data: Callable[[int], Mapping[str, Any]]
    bench: Bench
    note: Callable[[str], None]

    def run(
        self, executor: Executor, observer: Observer, *, spent_before: Spent, patience_seconds: float
    ) -> LoopResult:
        """Train what is missing, then judge.

        Args:
            executor: Free workers.
            observer: Watches the final's trials.
            spent_before: What the search took of the budget.
            patience_seconds: How long to wait for the tracker in the end.

        Returns:
            How it ended; COMPLETE with the verdict written.

        Raises:
            UserError: If the final was begun with other splits, or for another study of this name.
            SweepError: If it breaks for another reason than a stop or a full disk.
        """
        confirm = self.spec.confirm or ConfirmSpec()
        entrants = entrants_of(self.trials, self.spec.rule, count=confirm.finalists)
        if not entrants:
            self.note("warning: no trial is complete, so there is nothing to confirm")
            return LoopResult(state="COMPLETE")
        final = Final(entrants=entrants, rule=self.spec.rule, confirm=confirm)
        spec = confirmation_spec(self.spec, len(entrants) * confirm.seeds)
        try:
            with ExitStack() as stack:
                fence = stack.enter_context(sole_driver(spec))
                self.note(_announcement(entrants, confirm))
                for leftover in of_dead_drivers(spec.layout):
                    leftover.remove()
                with in_use(spec.layout.prepared):  # until the final says what it uses
                    prepared = data_of_seeds(self.spec, confirm, self.data, self.fresh_data)
                    store = OptunaStore.open_or_begin(spec, fence)
                    stack.callback(store.close)
                    _refuse_runs_of_another(self.spec, self.trials, store.trials())
                    self._write_facts(spec, prepared)
                final = replace(final, again=to_be_tried_again(store.trials()))
                if final.again:
                    self.note(f"trying again what failed before: {len(final.again)} runs")
                recorder = SpoolRecorder(spec.layout, tracking_uri(spec), self.redactor)
                # Waits for nothing if something fails; closed before, this changes nothing.
                stack.callback(recorder.close, 0.0)
                result = self._train(spec, final, prepared, store, recorder, executor, observer, spent_before)
                if result.state == "COMPLETE":
                    self._judge(spec, final, prepared, store, recorder)
                recorder.record(study_over(result, store.trials(), spec.rule, self.clock.now()))
                recorder.close(0.0 if self.signals.requested() is StopRequest.NOW else patience_seconds)
                return result
        except StoppedEarlyError:
            reason = "stopped on request, before its verdict was complete"
            return LoopResult(state="PAUSED", cause=StopCause.REQUEST, reason=reason)
        except (SweepError, OSError) as err:
            if not is_disk_full(err):
                raise
            return LoopResult(state="PAUSED", cause=StopCause.DISK, reason=str(err))

    def _write_facts(self, spec: StudySpec, prepared: Sequence[Mapping[str, Any]]) -> None:
        stored, struck = stored_spec(spec, self.redactor)
        data = facts_of_seeds(self.spec, self.data, prepared)
        write_facts(spec.layout, stored, data, self.redactor.values(self.environment), struck)

    def _train(
        self,
        spec: StudySpec,
        final: Final,
        prepared: Sequence[Mapping[str, Any]],
        store: StudyStore,
        recorder: Recorder,
        executor: Executor,
        observer: Observer,
        spent_before: Spent,
    ) -> LoopResult:
        layout = spec.layout
        stored, _ = stored_spec(spec, self.redactor)
        recorder.record(
            StudyBegun(
                study=spec.study,
                spec=stored,
                data=self.data,
                environment=self.redactor.values(self.environment),
                at=self.clock.now(),
            )
        )
        makers = [self.requests(spec, data) for data in prepared]

        def request_for(assignment: Assignment) -> TrainRequest:
            trial = store.trials()[assignment.trial_number]
            return makers[trial.seed_index or 0](assignment)

        agenda: Agenda = _Announcing(final, self.note)
        checkpoint_bytes = int(self.data["checkpoint_bytes"])
        loop = StudyLoop(
            spec=spec,
            store=store,
            executor=executor,
            recorder=recorder,
            keeper=FolderKeeper(layout.checkpoints),
            clock=self.clock,
            observer=observer,
            request_for=request_for,
            log_of=layout.log,
            artifacts_of=layout.artifacts,
            stop_requested=self.signals.requested,
            space=SpaceWatch(allowance(spec), head_room(checkpoint_bytes, executor.slots), self.clock),
            agenda=agenda,
            spent_before=spent_before,
        )
        return loop.run()

    def _judge(
        self,
        spec: StudySpec,
        final: Final,
        prepared: Sequence[Mapping[str, Any]],
        store: StudyStore,
        recorder: Recorder,
    ) -> None:
        judgement = Judgement(
            spec=self.spec,
            final_spec=spec,
            final=final,
            prepared=prepared,
            environment=self.environment,
            redactor=self.redactor,
            store=store,
            recorder=self.recorder,
            final_recorder=recorder,
            clock=self.clock,
            bench=self.bench,
            note=self.note,
            is_stopping=lambda: self.signals.requested() is not StopRequest.NONE,
        )
        judgement.run()


def _announcement(entrants: Sequence[Finalist], confirm: ConfirmSpec) -> str:
    names = ", ".join(one.label for one in entrants)
    rows = " and fresh splits" if confirm.splits == "fresh" else ""
    count = len(entrants) * confirm.seeds
    return f"confirming {names} on {confirm.seeds} fresh seeds{rows}: {count} full runs at most"


def _refuse_runs_of_another(spec: StudySpec, trials: Sequence[Trial], runs: Sequence[Trial]) -> None:
    """A study that was removed may have left its final; its scores are none of a new study's of that name."""
    drawn = {trial.number: _as_stored(trial) for trial in trials}
    for run in runs:
        if run.confirms is None or _as_stored(run) != drawn.get(run.confirms):
            final = spec.layout.confirmation
            raise UserError(
                f"{final.folder}: run {run.number} does not confirm trial {run.confirms} of {spec.study!r} but that of "
                f"another study of this name ({dict(run.hyperparameters)}). Remove that folder (in a database: the "
                f"study {final.study!r}), or give this study another name; then `sweep resume {spec.study}`."
            )


def _as_stored(trial: Trial) -> Any:
    return json.loads(json.dumps(dict(trial.hyperparameters)))
