"""Looking at a study from outside of its driver."""

from __future__ import annotations

from collections.abc import Sequence

from optuna.trial import FrozenTrial

from sweep.domain import Report, Trial
from sweep.errors import StudyNotFoundError, StudyStoreError
from sweep.search.lives import Life
from sweep.search.space import SearchSpace
from sweep.search.storages import DAMAGE_ERRORS, STORAGE_ERRORS, History, open_history, without_password
from sweep.spec.model import StudySpec


class StudyReader:
    """Reads a study's history while its driver writes; takes no lock and writes nothing.

    Raises:
        StudyNotFoundError: If the storage has no such study.
        StudyStoreError: If the storage cannot be read.
    """

    def __init__(self, spec: StudySpec) -> None:
        self._spec = spec
        self._space = SearchSpace(spec.search.space)
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

    def trials(self) -> Sequence[Trial]:
        """All trials by number, as stored by now."""
        return [life.trial(self._spec.rule) for life in self._lives()]

    def reports(self, trial_number: int) -> Sequence[Report]:
        """All stored evaluations of a trial, by step; none for an unknown trial."""
        return next((life.reports for life in self._lives() if life.number == trial_number), [])

    def close(self) -> None:
        """Let go of the storage; idempotent."""
        self._history.close()

    def _lives(self) -> list[Life]:
        try:
            return [life for life, _ in read_lives(self._history, self._study_id, self._space)]
        except STORAGE_ERRORS as err:
            raise self._unreadable(err) from err

    def _unreadable(self, err: BaseException) -> StudyStoreError:
        return StudyStoreError(
            f"{self._history.place}: the study's history cannot be read "
            f"({without_password(err, self._spec.history)}). Check that it is reachable and whole."
        )


def read_lives(history: History, study_id: int, space: SearchSpace) -> list[tuple[Life, FrozenTrial]]:
    """All trials of a study, by number, each with what Optuna knows of it.

    Raises:
        Exception: Of ``STORAGE_ERRORS``, if the storage cannot be read.
        StudyStoreError: If it says what nobody can have written.
    """
    study_attrs = history.storage.get_study_user_attrs(study_id)
    frozen_trials = history.storage.get_all_trials(study_id, deepcopy=False)
    try:
        return [(Life.of(frozen, space, study_attrs), frozen) for frozen in frozen_trials]
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
