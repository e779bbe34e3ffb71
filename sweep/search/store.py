"""The study's history, sampler and pruner behind the port ``StudyStore``."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial

from sweep.domain import (
    Attempt,
    AttemptEnd,
    HyperparameterValue,
    Planned,
    Report,
    Setback,
    Spent,
    Trial,
    TrialState,
)
from sweep.errors import StudyExistsError, StudyNotFoundError, StudyStoreError
from sweep.search import lives
from sweep.search.lives import Life
from sweep.search.memory import SearchMemory, frozen_trial
from sweep.search.reading import StudyReader, read_lives, read_spent
from sweep.search.space import SearchSpace
from sweep.search.storages import STORAGE_ERRORS, History, open_history, without_password
from sweep.spec.model import StudySpec


def unfenced() -> None:
    """The fence of a history that nobody else can write."""


class OptunaStore:
    """A study in Optuna's storage, written by one driver.

    Sampler and pruner work on a copy of the study in memory, so that drawing and pruning never wait for the
    disk; each call writes what it changed through to the storage, with one fsync where that is a journal.
    After a write that failed, the store refuses every further one: the copy would no longer be true.

    Made by :meth:`create` or :meth:`open`, whose caller holds the study; not thread-safe.

    Args:
        spec: The study.
        history: Its open storage.
        study_id: Optuna's key in it.
        now: Unix seconds.
        fence: Called before each write; raises StudyStoreError if the caller does not hold the study any more.
    """

    def __init__(
        self, spec: StudySpec, history: History, study_id: int, now: Callable[[], float], fence: Callable[[], None]
    ) -> None:
        self._fence = fence
        self._spec = spec
        self._rule = spec.rule
        self._history = history
        self._study_id = study_id
        self._now = now
        self._space = SearchSpace(spec.search.space)
        self._memory = SearchMemory(spec, self._space)
        self._lives: list[Life] = []
        self._seen: dict[int, Trial] = {}
        self._spent = Spent()
        self._started: set[tuple[int, int]] = set()
        self._failure: str | None = None

    @classmethod
    def create(
        cls, spec: StudySpec, now: Callable[[], float] = time.time, fence: Callable[[], None] = unfenced
    ) -> OptunaStore:
        """Begin a new study.

        Raises:
            StudyExistsError: If the storage has one of that name.
            StudyStoreError: If the storage cannot be used.
        """
        history = open_history(spec, is_new=True)
        direction = StudyDirection.MAXIMIZE if spec.metric.direction == "maximize" else StudyDirection.MINIMIZE
        try:
            study_id = history.storage.create_new_study([direction], spec.study)
        except optuna.exceptions.DuplicatedStudyError as err:
            history.close()
            raise _exists(history, spec) from err
        except STORAGE_ERRORS as err:
            history.close()
            raise _unwritable(history, spec, err) from err
        return cls(spec, history, study_id, now, fence)

    @classmethod
    def open(
        cls, spec: StudySpec, now: Callable[[], float] = time.time, fence: Callable[[], None] = unfenced
    ) -> OptunaStore:
        """Continue a study.

        Raises:
            StudyNotFoundError: If the storage has none of that name.
            StudyStoreError: If the storage cannot be used.
        """
        history = open_history(spec)
        try:
            try:
                study_id = history.storage.get_study_id_from_name(spec.study)
            except KeyError as err:
                raise StudyNotFoundError(
                    f"{history.place}: there is no study {spec.study!r}. See `sweep list`."
                ) from err
            store = cls(spec, history, study_id, now, fence)
            store._load()
        except STORAGE_ERRORS as err:
            history.close()
            raise _unwritable(history, spec, err) from err
        except (StudyNotFoundError, StudyStoreError):
            history.close()
            raise
        return store

    @classmethod
    def open_or_begin(cls, spec: StudySpec, fence: Callable[[], None]) -> OptunaStore:
        """Continue a study that exists; a driver may have died before it began the history.

        Raises:
            StudyNotFoundError: If the history was lost.
            StudyStoreError: If the storage cannot be used.
        """
        try:
            return cls.open(spec, fence=fence)
        except StudyNotFoundError:
            # The spool is begun after the history: with a spool, the history was lost, and that must be told.
            if spec.layout.spool.exists():
                raise
            return cls.create(spec, fence=fence)

    @staticmethod
    def check_is_new(spec: StudySpec) -> None:
        """Look whether a shared database has a study of that name already; one's own folder tells by itself.

        Raises:
            StudyExistsError: If it has.
            StudyStoreError: If it cannot be used.
        """
        if spec.history is None:
            return
        history = open_history(spec)
        try:
            history.storage.get_study_id_from_name(spec.study)
        except KeyError:
            return
        except STORAGE_ERRORS as err:
            raise _unwritable(history, spec, err) from err
        finally:
            history.close()
        raise _exists(history, spec)

    @staticmethod
    def open_readonly(spec: StudySpec) -> StudyReader:
        """Look at a study while its driver writes."""
        return StudyReader(spec)

    def ask(self, planned: Planned | None = None) -> Trial:
        """A new trial in state RUNNING; without a plan, trial 0 has the spec's defaults, exactly, others are drawn.

        Raises:
            StudyStoreError: If the trial cannot be stored, or the search space has changed.
        """
        self._check_usable()
        number = len(self._lives)
        given = planned.hyperparameters if planned else self._spec.defaults() if number == 0 else None
        hyperparameters = self._draw() if given is None else dict(given)
        started_at = self._now()
        attrs: dict[str, Any] = {lives.STATE: TrialState.RUNNING.value, lives.STARTED_AT: started_at}
        if planned:
            attrs[lives.PLANNED] = {"confirms": planned.confirms, "seed_index": planned.seed_index}
        params = self._space.encode(self._space.nearest(hyperparameters))
        if self._space.decode(params) != hyperparameters:  # a default that lies outside of the space
            attrs[lives.HYPERPARAMETERS] = dict(hyperparameters)
        template = frozen_trial(self._space, params, started_at=started_at, user_attrs=attrs)
        with self._writing(in_batch=False):
            # One record: a crash leaves a trial with all its hyperparameters or none.
            trial_id = self._history.storage.create_new_trial(self._study_id, template)
        life = Life(
            number=number,
            trial_id=trial_id,
            hyperparameters=hyperparameters,
            started_at=started_at,
            confirms=planned.confirms if planned else None,
            seed_index=planned.seed_index if planned else None,
        )
        if given is not None:
            self._memory.adopt(life)
        self._lives.append(life)
        return life.trial(self._rule)

    def begin_attempt(self, trial_number: int) -> int:
        """Count one more attempt; returns its fencing number (1-based)."""
        life = self._unfinished(trial_number, "an attempt")
        with self._writing():
            self._set(life, lives.ATTEMPT, life.attempt + 1)
            if life.state is not TrialState.RUNNING:
                self._set(life, lives.STATE, TrialState.RUNNING.value)
        life.attempt += 1
        life.state = TrialState.RUNNING
        return life.attempt

    def attempt_started(self, trial_number: int, worker: str) -> None:
        """A worker has begun the trial's newest attempt, now; said again, it is ignored."""
        life = self._unfinished(trial_number, "a worker")
        if life.attempt in life.attempts:
            return
        attempt = Attempt(number=life.attempt, worker=worker, began_at=self._now())
        with self._writing(in_batch=False):
            self._set(life, f"{lives.WORKER}{attempt.number}", lives.attempt_to_json(attempt))
        life.attempts[attempt.number] = attempt
        self._started.add((trial_number, attempt.number))

    def report(self, report: Report, value: float) -> None:
        """Store an evaluation with the pruner's verdict on it. A step already stored is ignored."""
        life = self._life(report.trial_number)
        if report.step in life.evaluations:
            return
        self._unfinished(report.trial_number, "a report")
        self._store(life, report, value)

    def should_prune(self, trial_number: int) -> bool:
        """The pruner's verdict on the newest stored evaluation.

        Always False for trial 0, which the others are measured against, and at the end of a full run.
        """
        newest = self._life(trial_number).newest
        return newest is not None and newest.prune

    def pause(self, trial_number: int, setback: Setback | None = None) -> None:
        """Mark as PAUSED: unfinished, with nothing running; remember how its attempt ended, if it ended badly."""
        life = self._unfinished(trial_number, "a pause")
        is_new = setback is not None and setback.attempt not in {known.attempt for known in life.setbacks}
        attempt = self._ended(life, setback.end if setback else AttemptEnd.PAUSED)
        with self._writing():
            if attempt is not None:
                self._set(life, f"{lives.WORKER}{attempt.number}", lives.attempt_to_json(attempt))
            if setback is not None and is_new:
                self._set(life, f"{lives.SETBACK}{setback.attempt}", {**asdict(setback), "end": setback.end.value})
            self._set(life, lives.STATE, TrialState.PAUSED.value)
        life.state = TrialState.PAUSED
        if setback is not None and is_new:
            life.setbacks = (*life.setbacks, setback)
        if attempt is not None:
            life.attempts[attempt.number] = attempt

    def tell(self, trial_number: int, state: TrialState, chosen: Report | None, error: str | None = None) -> None:
        """Finish a trial. Telling it again with the same state is ignored.

        Raises:
            StudyStoreError: If it is finished in another state, if ``state`` is not final, or if a
                COMPLETE trial has no evaluation.
        """
        life = self._life(trial_number)
        if life.state is state and state.is_finished:
            return
        self._unfinished(trial_number, f"state {state}")
        if not state.is_finished or (state is TrialState.COMPLETE and chosen is None):
            raise StudyStoreError(
                f"trial {trial_number}: cannot end as {state} with evaluation {chosen}. "
                "Tell a final state, and COMPLETE with the evaluation that stands for it."
            )
        if chosen is not None and chosen.step not in life.evaluations:
            self._store(life, chosen, chosen.metrics[self._rule.name])
        ended_at = self._now()
        step = chosen.step if chosen else None
        optuna_state = lives.optuna_state(state, self._spec)
        values = self._memory.told_values(life, state, step)
        with self._writing():
            self._set(life, lives.END, {"step": step, "error": error, "at": ended_at})
            self._set(life, lives.STATE, state.value)
            self._history.storage.set_trial_state_values(life.trial_id, optuna_state, values)
        life.state, life.chosen_step, life.error, life.ended_at = state, step, error, ended_at
        self._memory.finish(life)

    def keep_test(self, trial_number: int, metrics: Mapping[str, float]) -> None:
        """Store the metrics of a finished trial on the test split.

        Raises:
            StudyStoreError: If the trial is not finished.
        """
        life = self._life(trial_number)
        if not life.state.is_finished:
            raise StudyStoreError(f"trial {trial_number}: is {life.state}. Open the test split after its end.")
        with self._writing():
            # Optuna does not let a finished trial be changed, so the study holds it.
            key = f"{lives.TEST}{trial_number}"
            self._history.storage.set_study_user_attr(self._study_id, key, dict(metrics))
        life.test = dict(metrics)
        self._seen.pop(trial_number, None)

    @property
    def spent(self) -> Spent:
        """What the study has spent, as of the last :meth:`spend`."""
        return self._spent

    def spend(self, spent: Spent) -> None:
        """Remember what the study has spent so far, over all its sessions."""
        with self._writing():
            self._history.storage.set_study_user_attr(self._study_id, lives.SPENT, asdict(spent))
        self._spent = spent

    def reports(self, trial_number: int) -> Sequence[Report]:
        """All stored evaluations of a trial, by step."""
        return self._life(trial_number).reports

    def trials(self) -> Sequence[Trial]:
        """All trials by number."""
        for life in self._lives:
            # A finished trial does not change any more, except by keep_test.
            if life.number not in self._seen or not self._seen[life.number].state.is_finished:
                self._seen[life.number] = life.trial(self._rule)
        return [self._seen[life.number] for life in self._lives]

    def close(self) -> None:
        """Let go of the store; idempotent."""
        self._failure = self._failure or "it is closed"
        self._history.close()

    # Opening

    def _load(self) -> None:
        self._spent = read_spent(self._history, self._study_id)
        for life, frozen in read_lives(self._history, self._study_id, self._space):
            self._memory.adopt(life)
            self._lives.append(life)
            if not life.state.is_finished:
                self._mend(life, frozen)

    def _mend(self, life: Life, frozen: FrozenTrial) -> None:
        """Finish a report that was cut between its two records."""
        with self._writing():
            for evaluation in life.evaluations.values():
                if evaluation.milli_fidelity not in frozen.intermediate_values:
                    self._history.storage.set_trial_intermediate_value(
                        life.trial_id, evaluation.milli_fidelity, evaluation.value
                    )

    # Writing

    def _draw(self) -> dict[str, HyperparameterValue]:
        try:
            return self._memory.draw()
        except (ValueError, optuna.exceptions.OptunaError) as err:
            self._failure = "a draw failed"
            raise StudyStoreError(
                f"{self._history.place}: cannot draw hyperparameters ({err}). "
                "The search space of a begun study cannot be changed; start a new study."
            ) from err

    def _store(self, life: Life, report: Report, value: float) -> None:
        self._check_usable()
        evaluation = self._memory.evaluate(life, report, value)
        with self._writing():
            # The report first: from it, a lost intermediate value is mended.
            self._set(life, f"{lives.REPORT}{report.step}", evaluation.to_json())
            self._history.storage.set_trial_intermediate_value(
                life.trial_id, evaluation.milli_fidelity, evaluation.value
            )
        life.add(evaluation)

    def _ended(self, life: Life, end: AttemptEnd) -> Attempt | None:
        """The running attempt as it ends now; nobody saw the end of one that an earlier driver began."""
        attempt = life.attempts.get(life.attempt)
        if attempt is None or attempt.ended_at is not None or (life.number, life.attempt) not in self._started:
            return None
        return replace(attempt, ended_at=self._now(), end=end)

    def _set(self, life: Life, key: str, value: Any) -> None:
        self._history.storage.set_trial_user_attr(life.trial_id, key, value)

    @contextlib.contextmanager
    def _writing(self, *, in_batch: bool = True) -> Iterator[None]:
        self._check_usable()
        try:
            self._fence()
        except StudyStoreError:
            self._failure = "another driver may hold the study"
            raise
        try:
            with self._history.batch() if in_batch else contextlib.nullcontext():
                yield
        except STORAGE_ERRORS as err:
            self._failure = "an earlier write failed"
            raise _unwritable(self._history, self._spec, err) from err

    def _check_usable(self) -> None:
        if self._failure is not None:
            raise StudyStoreError(f"{self._history.place}: cannot be used, {self._failure}. Open the study again.")

    def _life(self, trial_number: int) -> Life:
        if not 0 <= trial_number < len(self._lives):
            raise StudyStoreError(
                f"{self._history.place}: has trials 0 to {len(self._lives) - 1}, not {trial_number}. Ask first."
            )
        return self._lives[trial_number]

    def _unfinished(self, trial_number: int, what: str) -> Life:
        life = self._life(trial_number)
        if life.state.is_finished:
            raise StudyStoreError(
                f"trial {trial_number}: has ended as {life.state} and cannot take {what}. Ask for a new trial."
            )
        return life


def _exists(history: History, spec: StudySpec) -> StudyExistsError:
    return StudyExistsError(
        f"{history.place}: study {spec.study!r} exists already. "
        f"Continue it by `sweep resume {spec.study}`, or choose another name."
    )


def _unwritable(history: History, spec: StudySpec, err: BaseException) -> StudyStoreError:
    return StudyStoreError(
        f"{history.place}: the study's history cannot be used ({without_password(err, spec.history)}). "
        f"Nothing stored before is lost. Free space or repair the connection, then `sweep resume {spec.study}`."
    )
