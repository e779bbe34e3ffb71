"""Looking at a study from outside of its driver."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.trial import FrozenTrial

from sweep.domain import Report, Spent, Trial
from sweep.errors import StudyNotFoundError, StudyStoreError
from sweep.search.lives import SPENT, TEST, Life
from sweep.search.space import SearchSpace
from sweep.search.storages import DAMAGE_ERRORS, STORAGE_ERRORS, History, open_history, without_password
from sweep.spec.model import StudySpec


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTrial:
    """A trial with all its evaluations, as stored.

    Attributes:
        reports: By step.
    """

    trial: Trial
    reports: tuple[Report, ...]


class StudyReader:
    """Reads a study's history while its driver writes; takes no lock and writes nothing.

    What has not changed since the last look is not read again: :meth:`read` returns the same objects for it.

    Raises:
        StudyNotFoundError: If the storage has no such study.
        StudyStoreError: If the storage cannot be read.
    """

    def __init__(self, spec: StudySpec) -> None:
        self._spec = spec
        self._space = SearchSpace(spec.search.space)
        self._known: dict[int, tuple[FrozenTrial, StoredTrial]] = {}
        self._history = open_history(spec, readonly=True)
        try:
            self._study_id = self._history.storage.get_study_id_from_name(spec.study)
        except KeyError as err:
            self.close()
            raise StudyNotFoundError(
                f"{self._history.place}: there is no study {spec.study!r}. See `sweep list`."
            ) from err
        except STORAGE_ERRORS as err:
            self.close()
            raise self._unreadable(err) from err

    def read(self) -> Sequence[StoredTrial]:
        """All trials by number with their evaluations, as stored by now."""
        storage = self._history.storage
        try:
            study_attrs = storage.get_study_user_attrs(self._study_id)
            frozen_trials = storage.get_all_trials(self._study_id, deepcopy=False)
        except STORAGE_ERRORS as err:
            raise self._unreadable(err) from err
        stored = []
        for frozen in frozen_trials:
            before, known = self._known.get(frozen.number, (None, None))
            # Optuna replaces a trial that changes; only what the study holds of it can change without that.
            if known is None or before is not frozen or known.trial.test != study_attrs.get(f"{TEST}{frozen.number}"):
                life = _life_of(frozen, self._space, study_attrs, self._history)
                known = StoredTrial(trial=life.trial(self._spec.rule), reports=tuple(life.reports))
                self._known[frozen.number] = (frozen, known)
            stored.append(known)
        return stored

    def spent(self) -> Spent:
        """What the study has spent, over all its sessions, as stored by now: half a minute late while it runs."""
        try:
            return read_spent(self._history, self._study_id)
        except STORAGE_ERRORS as err:
            raise self._unreadable(err) from err

    def trials(self) -> Sequence[Trial]:
        """All trials by number, as stored by now."""
        return [stored.trial for stored in self.read()]

    def reports(self, trial_number: int) -> Sequence[Report]:
        """All stored evaluations of a trial, by step; none for an unknown trial."""
        return next((list(stored.reports) for stored in self.read() if stored.trial.number == trial_number), [])

    def close(self) -> None:
        """Let go of the storage; idempotent."""
        self._history.close()

    def _unreadable(self, err: BaseException) -> StudyStoreError:
        return StudyStoreError(
            f"{self._history.place}: the study's history cannot be read "
            f"({without_password(err, self._spec.history)}). Check that it is reachable and whole."
        )


def read_spent(history: History, study_id: int) -> Spent:
    """What a study has spent so far.

    Raises:
        Exception: Of ``STORAGE_ERRORS``, if the storage cannot be read.
    """
    spent = history.storage.get_study_user_attrs(study_id).get(SPENT, {})
    return Spent(seconds=spent.get("seconds", 0.0), gpu_seconds=spent.get("gpu_seconds", 0.0))


def read_lives(history: History, study_id: int, space: SearchSpace) -> list[tuple[Life, FrozenTrial]]:
    """All trials of a study, by number, each with what Optuna knows of it.

    Raises:
        Exception: Of ``STORAGE_ERRORS``, if the storage cannot be read.
        StudyStoreError: If it says what nobody can have written.
    """
    study_attrs = history.storage.get_study_user_attrs(study_id)
    frozen_trials = history.storage.get_all_trials(study_id, deepcopy=False)
    return [(_life_of(frozen, space, study_attrs, history), frozen) for frozen in frozen_trials]


def _life_of(frozen: FrozenTrial, space: SearchSpace, study_attrs: Mapping[str, Any], history: History) -> Life:
    try:
        return Life.of(frozen, space, study_attrs)
    except DAMAGE_ERRORS as err:
        raise StudyStoreError(
            f"{history.place}: the study's history is damaged ({type(err).__name__}: {err}). Restore it from a backup."
        ) from err


def read_trials(spec: StudySpec) -> list[Trial]:
    """All trials of a study, from another process than its driver.

    Raises:
        StudyNotFoundError: If the storage has no such study.
        StudyStoreError: If the storage cannot be read.
    """
    reader = StudyReader(spec)
    try:
        return list(reader.trials())
    finally:
        reader.close()
