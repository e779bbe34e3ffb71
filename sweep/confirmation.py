"""The final of a study: its finalists trained anew on fresh seeds, judged, and the test split opened for the winner."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sweep.checkpoints import FolderKeeper, model_folder
from sweep.checkpoints.space import SpaceWatch, head_room
from sweep.domain import Assignment, Spent, TrainRequest, Trial, confirmation_seed, ranked
from sweep.engine.control import StopCause, StopRequest, StopSignals
from sweep.engine.loop import LoopResult, StudyLoop
from sweep.engine.view import Observer
from sweep.errors import StoppedEarlyError, SweepError, UserError, is_disk_full
from sweep.finale import keep_model, study_over
from sweep.layout import StudyLayout
from sweep.ports import Agenda, Clock, Executor, Recorder, StudyBegun, StudyStore, VerdictReached
from sweep.redaction import Redactor
from sweep.room import allowance
from sweep.search import OptunaStore
from sweep.selection import Finalist, Verdict, judge
from sweep.selection.assessment import ModelOnSplit
from sweep.selection.final import Final, entrants_of
from sweep.selection.test_split import TestOpening, openings, record_opening, said
from sweep.selection.winner import read_verdict
from sweep.sole_driver import sole_driver
from sweep.spec import stored_spec
from sweep.spec.model import ConfirmSpec, StudySpec
from sweep.study_files import tracking_uri, write_atomically, write_facts
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
        assess: Opens the test split for one or two models; see :func:`sweep.selection.assessment.assess`.
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
    assess: Callable[[Sequence[ModelOnSplit]], Mapping[str, Any]]
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
                prepared = self._prepared(confirm)
                store = OptunaStore.open_or_begin(spec, fence)
                stack.callback(store.close)
                _refuse_runs_of_another(self.spec, self.trials, store.trials())
                self._write_facts(spec, prepared)
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

    def _prepared(self, confirm: ConfirmSpec) -> list[Mapping[str, Any]]:
        """Summary of the data of each seed index."""
        if confirm.splits == "same":
            return [self.data] * confirm.seeds
        return [{**self.data, **self.fresh_data(index)} for index in range(confirm.seeds)]

    def _write_facts(self, spec: StudySpec, prepared: Sequence[Mapping[str, Any]]) -> None:
        stored, struck = stored_spec(spec, self.redactor)
        folders = list(dict.fromkeys(str(data["folder"]) for data in prepared))
        data = {**self.data, "prepared": folders}
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

    # The verdict

    def _judge(
        self,
        spec: StudySpec,
        final: Final,
        prepared: Sequence[Mapping[str, Any]],
        store: OptunaStore,
        recorder: Recorder,
    ) -> None:
        runs = [_where_it_lies(run, spec.layout) for run in store.trials()]
        earlier = _earlier(self.spec)
        finalists = [_measured(one, runs, earlier) for one in final.standings(runs)]
        verdict = judge(finalists, spec.rule, seeds=final.confirm.seeds, level=final.confirm.level)
        best = {one.label: _best_run(one, runs, spec) for one in verdict.finalists}
        deployed = best.get(verdict.winner or "")
        if deployed is None:
            self.note("warning: the final has no model to deploy: no run of a finalist is complete with its model")
            if earlier is not None and earlier.winner == verdict.winner:
                verdict = replace(verdict, deploy=earlier.deploy, test=earlier.test)
            self._write(verdict)
            return
        baseline = _counterpart(verdict, deployed, runs)
        kept = [deployed] if baseline is None or baseline.number == deployed.number else [deployed, baseline]
        known = earlier.test if earlier and earlier.test and earlier.test.get("models") == _labels(kept) else None
        verdict = replace(verdict, deploy=_deployment(spec, deployed), test=known)
        # Written before the test split is opened: a failing evaluation must not cost the verdict.
        self._write(verdict)
        verdict = replace(verdict, test=known or self._tested(kept, prepared, store))
        by_number = {run.number: _where_it_lies(run, spec.layout) for run in store.trials()}
        for run in reversed(kept):
            self._keep(spec, by_number[run.number], prepared, recorder)
        self._write(verdict)
        # The best run of each stays, too: with more seeds, another may win.
        self._drop_other_models(spec, runs, {run.number for run in (*kept, *best.values()) if run is not None})

    def _write(self, verdict: Verdict) -> None:
        written = verdict.to_json()
        write_atomically(self.spec.layout.verdict, json.dumps(written, indent=2))
        self.recorder.record(VerdictReached(verdict=written, at=self.clock.now()))

    def _tested(
        self, runs: Sequence[Trial], prepared: Sequence[Mapping[str, Any]], store: OptunaStore
    ) -> Mapping[str, Any] | None:
        """The test split says it of the model to deploy and of the baseline's counterpart alone: it must not choose."""
        if not dict(self.data.get("rows", {})).get("test"):
            return None
        self.note("opening the test split for the winner")
        labels = _labels(runs)
        count = record_opening(self.spec.layout, TestOpening(at=self.clock.now(), reason="verdict", models=labels))
        if count > 1:
            self.note(f"warning: the test split was {said(count)}: what it says is no longer news")
        try:
            found = self.assess([self._on_split(run, prepared) for run in runs])
        except StoppedEarlyError:
            raise
        except SweepError as err:
            if is_disk_full(err):
                raise
            self.note(
                f"warning: the winner has no score on the test split: {str(err).splitlines()[0]}. "
                f"`sweep resume {self.spec.study}` tries again; `--evaluation-minutes` gives it longer."
            )
            return None
        for run, told in zip(runs, found["models"], strict=True):
            store.keep_test(run.number, told["metrics"])
        parts = [{"metrics": told["metrics"], "interval": told["interval"]} for told in found["models"]]
        return {
            "opened_at": [opening.at for opening in openings(self.spec.layout)],
            "winner": parts[0],
            "baseline": parts[-1] if runs[-1].confirms == 0 else None,
            "difference": self._better(found["difference"]),
            "models": labels,
        }

    def _on_split(self, run: Trial, prepared: Sequence[Mapping[str, Any]]) -> ModelOnSplit:
        folder = str(prepared[run.seed_index or 0]["folder"])
        return ModelOnSplit(model=_model(run), prepared=folder, settings=self.spec.settings(run.hyperparameters))

    def _better(self, difference: Mapping[str, Any] | None) -> dict[str, Any] | None:
        """A difference of two models as a gain: positive is better."""
        if difference is None:
            return None
        sign = self.spec.rule.sign
        bounds = sorted(sign * bound for bound in difference["interval"])
        return {**difference, "mean": sign * difference["mean"], "interval": bounds}

    def _keep(self, spec: StudySpec, run: Trial, prepared: Sequence[Mapping[str, Any]], recorder: Recorder) -> None:
        keep_model(
            spec,
            run,
            data=prepared[run.seed_index or 0],
            environment=self.environment,
            redactor=self.redactor,
            recorder=recorder,
            now=self.clock.now(),
        )

    def _drop_other_models(self, spec: StudySpec, runs: Sequence[Trial], kept: set[int]) -> None:
        keeper = FolderKeeper(spec.layout.checkpoints)
        for run in runs:
            weights = {run.step} if run.number in kept and run.step is not None else set[int]()
            keeper.keep(run.number, set(), weights)


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


def _where_it_lies(run: Trial, layout: StudyLayout) -> Trial:
    """With the checkpoint in the storage as it lies now; it may have been moved."""
    if run.checkpoint is None:
        return run
    return replace(run, checkpoint=str(layout.checkpoints(run.number) / Path(run.checkpoint).name))


def _labels(runs: Sequence[Trial]) -> list[str]:
    return [f"trial {run.confirms}, seed {run.seed_index}" for run in runs]


def _model(run: Trial) -> Path:
    return model_folder(Path(run.checkpoint or ""))


def _own_runs(finalist: Finalist, runs: Sequence[Trial]) -> list[Trial]:
    return [run for run in runs if run.confirms == finalist.trial_number and run.seed_index in finalist.scores]


def _measured(finalist: Finalist, runs: Sequence[Trial], earlier: Verdict | None) -> Finalist:
    """With the bytes of its weights; those of a model that is gone stand in the earlier verdict."""
    models = [_model(run) for run in _own_runs(finalist, runs) if _has_model(run)]
    if not models:
        known = next((one for one in earlier.finalists if one.label == finalist.label), None) if earlier else None
        return replace(finalist, model_bytes=known.model_bytes if known else None)
    return replace(finalist, model_bytes=sum(file.stat().st_size for file in models[0].rglob("*.safetensors")))


def _has_model(run: Trial) -> bool:
    return run.checkpoint is not None and _model(run).is_dir()


def _best_run(finalist: Finalist, runs: Sequence[Trial], spec: StudySpec) -> Trial | None:
    """The finalist's run with the best score on the validation split, of those whose model is there."""
    return next(filter(_has_model, ranked(_own_runs(finalist, runs), spec.rule)), None)


def _counterpart(verdict: Verdict, deployed: Trial, runs: Sequence[Trial]) -> Trial | None:
    """The baseline's run on the seed of the deployed one, else on its first."""
    own = [run for run in _own_runs(verdict.baseline, runs) if _has_model(run)] if verdict.baseline else []
    return next((run for run in own if run.seed_index == deployed.seed_index), own[0] if own else None)


def _deployment(spec: StudySpec, run: Trial) -> dict[str, Any]:
    index = run.seed_index or 0
    return {
        "model": str(_model(run)),
        "run": run.number,
        "seed_index": index,
        "seed": confirmation_seed(spec.search.seed, index),
        "step": run.step,
        "score": run.value,
    }


def _earlier(spec: StudySpec) -> Verdict | None:
    """The verdict before, if there is one that can be read."""
    with suppress(SweepError):
        return read_verdict(spec.layout)
    return None
