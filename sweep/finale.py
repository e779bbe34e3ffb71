"""What follows the last trial: open the test split for the winner, keep the best models, tell the record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sweep.checkpoints import model_folder
from sweep.deployment.export import export_model
from sweep.deployment.lineage import Lineage
from sweep.deployment.search_summary import search_summary
from sweep.domain import MetricRule, Trial, kept_numbers, ranked, seed_of
from sweep.engine.control import StopCause
from sweep.engine.loop import LoopResult
from sweep.errors import StoppedEarlyError, SweepError, is_disk_full
from sweep.layout import StudyLayout
from sweep.ports import Clock, ModelKept, Recorder, StudyOver, StudyStore
from sweep.redaction import Redactor
from sweep.selection.test_split import TestOpening, record_opening
from sweep.spec.model import StudySpec


def lineage_of(
    spec: StudySpec,
    trial: Trial,
    *,
    data: Mapping[str, Any],
    environment: Mapping[str, Any],
    run_id: str | None,
    now: float,
    redactor: Redactor,
    trials: Sequence[Trial] = (),
) -> Lineage:
    """The origin of a finished trial's model, as everybody may read it.

    Args:
        spec: The study that trained it.
        trial: The trial.
        data: Summary of the prepared data.
        environment: Versions and machine.
        run_id: MLflow's run, if known.
        now: Unix seconds.
        redactor: Strikes out secrets.
        trials: All trials of the search, for the card.
    """
    settings = redactor.values(spec.settings(trial.hyperparameters, as_written=True))
    objective = spec.objective_settings(as_written=True)
    seed = seed_of(spec.search.seed, trial)
    if trial.seed_index is not None and spec.confirm is not None and spec.confirm.splits == "fresh":
        # Without it, another split would be prepared.
        objective["data"] = {**objective["data"], "validation_seed": seed}
    return Lineage(
        study=spec.study,
        task=spec.objective.task,
        trial_number=trial.number,
        run_id=run_id,
        step=trial.step or 0,
        seed=seed,
        hyperparameters=dict(trial.hyperparameters),
        settings=settings,
        metric={"name": spec.rule.name, "direction": spec.rule.direction, "source": spec.rule.source},
        validation=dict(trial.metrics),
        test=dict(trial.test) if trial.test is not None else None,
        data=dict(data),
        objective={
            **objective,
            "training": redactor.values(objective["training"]),
            "model": data.get("model", spec.objective.model),
        },
        base_model=spec.objective.model,
        environment={k: v for k, v in environment.items() if k != "packages"},
        files={},
        created_at=datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds"),
        search=search_summary(spec, trials) if trials else {},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Finale:
    """Ends a driver's session on a study.

    Attributes:
        is_stopping: Asked between the longer steps.
    """

    spec: StudySpec
    store: StudyStore
    recorder: Recorder
    clock: Clock
    data: Mapping[str, Any]
    environment: Mapping[str, Any]
    redactor: Redactor
    is_stopping: Callable[[], bool] = lambda: False

    def run(
        self,
        result: LoopResult,
        *,
        evaluate: Callable[[Path, Trial], Mapping[str, float]],
        note: Callable[[str], None],
    ) -> LoopResult:
        """Open the test split when the study is complete, unless its final has, keep models, and close the record.

        An evaluation that fails is told, and keeps the study from nothing else; a later session tries it again.

        Returns:
            How the session ended: PAUSED if it was stopped, or if the disk was too full to complete the study.
        """
        try:
            if result.state == "COMPLETE" and self.spec.confirm is None:
                note("evaluating the winner on the test split")
                result = self._open_test(result, evaluate, note)
            if result.state == "COMPLETE" and not self._keep_models():
                result = _stopped("before its models were kept")
            self._record_end(result)
        except (SweepError, OSError) as err:
            if not is_disk_full(err):
                raise
            if result.state == "COMPLETE":
                return LoopResult(state="PAUSED", cause=StopCause.DISK, reason=str(err))
        return result

    def _record_end(self, result: LoopResult) -> None:
        self.recorder.record(study_over(result, self.store.trials(), self.spec.rule, self.clock.now()))

    def _open_test(
        self,
        result: LoopResult,
        evaluate: Callable[[Path, Trial], Mapping[str, float]],
        note: Callable[[str], None],
    ) -> LoopResult:
        """For the winner and the baseline alone: the test split must not choose."""
        if not dict(self.data.get("rows", {})).get("test"):
            return result
        order = ranked(self._trials(), self.spec.rule)
        opened = [trial for trial in order if trial is order[0] or trial.number == 0]
        unopened = [trial for trial in opened if trial.test is None and _has_model(trial)]
        if not unopened:
            return result
        if self.is_stopping():
            return _stopped("before its winner was evaluated on the test split")
        labels = [f"trial {trial.number}" for trial in unopened]
        record_opening(self.spec.layout, TestOpening(at=self.clock.now(), reason="winner", models=labels))
        with ThreadPoolExecutor(2) as pool:
            jobs = [pool.submit(evaluate, _model(trial), trial) for trial in unopened]
        for trial, job in zip(unopened, jobs, strict=True):
            match job.exception():
                case None:
                    self.store.keep_test(trial.number, job.result())
                case StoppedEarlyError():
                    result = _stopped("before its winner was evaluated on the test split")
                case SweepError() as err if not is_disk_full(err):
                    note(
                        f"warning: trial {trial.number} has no score on the test split: {str(err).splitlines()[0]}. "
                        f"`sweep resume {self.spec.study}` tries again; `--evaluation-minutes` gives it longer."
                    )
                case err:
                    raise err
        return result

    def _keep_models(self) -> bool:
        """Keep the best trials' models; returns whether it came to the end."""
        trials = self._trials()
        kept = kept_numbers(trials, self.spec.rule, keep=self.spec.keep)
        # The worst first: MLflow puts the newest first among equal scores.
        for trial in reversed(ranked(trials, self.spec.rule)):
            if trial.number not in kept or not _has_model(trial):
                continue
            if self.is_stopping():
                return False
            keep_model(
                self.spec,
                trial,
                data=self.data,
                environment=self.environment,
                redactor=self.redactor,
                trials=trials,
                recorder=self.recorder,
                now=self.clock.now(),
            )
        return True

    def _trials(self) -> list[Trial]:
        return [located(trial, self.spec.layout) for trial in self.store.trials()]


def located(trial: Trial, layout: StudyLayout) -> Trial:
    """A trial with its checkpoint in the storage as it lies now; it may have been moved."""
    if trial.checkpoint is None:
        return trial
    return replace(trial, checkpoint=str(layout.checkpoint(trial.number, trial.checkpoint)))


def _stopped(when: str) -> LoopResult:
    return LoopResult(state="PAUSED", cause=StopCause.REQUEST, reason=f"stopped on request, {when}")


def study_over(result: LoopResult, trials: Sequence[Trial], rule: MetricRule, now: float) -> StudyOver:
    """The last record of a driver's session."""
    return StudyOver(
        state=result.state,
        ranking=[trial.number for trial in ranked(trials, rule)],
        counts=dict(Counter(trial.state.value for trial in trials)),
        at=now,
    )


def keep_model(
    spec: StudySpec,
    trial: Trial,
    *,
    data: Mapping[str, Any],
    environment: Mapping[str, Any],
    redactor: Redactor,
    recorder: Recorder,
    now: float,
    trials: Sequence[Trial] = (),
) -> None:
    """Export a trial's model within its study, and record that it is kept."""
    folder = spec.layout.export(trial.number)
    lineage = lineage_of(
        spec, trial, data=data, environment=environment, run_id=None, now=now, redactor=redactor, trials=trials
    )
    export_model(_model(trial), lineage, folder, link=True)
    recorder.record(
        ModelKept(
            trial_number=trial.number,
            step=trial.step or 0,
            folder=str(folder),
            metrics=trial.metrics,
            test=trial.test,
            at=now,
        )
    )


def _model(trial: Trial) -> Path:
    return model_folder(Path(trial.checkpoint or ""))


def _has_model(trial: Trial) -> bool:
    return trial.checkpoint is not None and _model(trial).is_dir()
