"""Optuna's dashboard over all studies of a storage, read-only, loaded when somebody first asks for it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from threading import Lock
from typing import Any

from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.study._frozen import FrozenStudy
from optuna.trial import FrozenTrial

from dashboards.studies import Studies
from sweep.errors import SweepError
from sweep.search.storages import History, open_history

PATHS = ("/dashboard", "/static/", "/api/studies", "/api/meta", "/api/trials", "/api/artifacts", "/csv/")
"""Optuna's dashboard uses absolute paths; none of these collides with MLflow's (``/static-files``, ``/api/2.0`` …)."""

READING_METHODS = {"GET", "HEAD"}

WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def reading_only(app: WsgiApp) -> WsgiApp:
    """Refuse every request that could change a study: its history has one writer, the driver."""

    def guarded(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ.get("REQUEST_METHOD") not in READING_METHODS:
            start_response("403 Forbidden", [("Content-Type", "text/plain")])
            return [b"This view of the study is read-only."]
        # optuna-dashboard looks the header up without asking whether it is there.
        environ.setdefault("HTTP_ACCEPT_ENCODING", "identity")
        return app(environ, start_response)

    return guarded


class JoinedHistories(BaseStorage):
    """The histories of several studies as one storage of Optuna's that cannot be written.

    Args:
        studies: Where they are; a study that begins later appears by itself.
    """

    def __init__(self, studies: Studies) -> None:
        self._studies = studies
        self._lock = Lock()
        self._numbers: dict[str, int] = {}
        self._opened: dict[int, tuple[BaseStorage, int]] = {}
        self._histories: dict[int, tuple[int, History]] = {}

    def number_of(self, study: str) -> int | None:
        """The study's id here, or None while it has no history that can be read."""
        with self._lock:
            number = self._numbers.get(study, len(self._numbers))
            of, known = self._histories.get(number, (0, None))
            try:
                stamp = self._studies.stamp(study)
                if known is None or of != stamp:
                    history = open_history(self._studies.spec(study), readonly=True)
                    self._opened[number] = history.storage, history.storage.get_study_id_from_name(study)
                    self._histories[number] = stamp, history
                    self._numbers[study] = number
                    if known is not None:
                        known.close()
            except (SweepError, KeyError):
                return None
            return number

    def get_all_studies(self) -> list[FrozenStudy]:
        """All studies whose history can be read."""
        found = []
        for study in self._studies.names():
            number = self.number_of(study)
            if number is None:
                continue
            storage, own = self._opened[number]
            (frozen,) = [each for each in storage.get_all_studies() if each._study_id == own]
            found.append(
                FrozenStudy(
                    study_name=frozen.study_name,
                    direction=None,
                    directions=frozen.directions,
                    user_attrs=frozen.user_attrs,
                    system_attrs=frozen.system_attrs,
                    study_id=number,
                )
            )
        return found

    def get_study_id_from_name(self, study_name: str) -> int:
        """The id of a study; KeyError if there is none."""
        number = self.number_of(study_name) if study_name in self._studies.names() else None
        if number is None:
            raise KeyError(study_name)
        return number

    def get_study_name_from_id(self, study_id: int) -> str:
        """The name of a study."""
        storage, own = self._opened[study_id]
        return storage.get_study_name_from_id(own)

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        """The direction of a study's metric."""
        storage, own = self._opened[study_id]
        return storage.get_study_directions(own)

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        """A study's user attributes."""
        storage, own = self._opened[study_id]
        return storage.get_study_user_attrs(own)

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        """A study's system attributes."""
        storage, own = self._opened[study_id]
        return storage.get_study_system_attrs(own)

    def get_all_trials(self, study_id: int, deepcopy: bool = True, states: Any = None) -> list[FrozenTrial]:
        """All trials of a study; their ids are unique within it alone."""
        storage, own = self._opened[study_id]
        return storage.get_all_trials(own, deepcopy=deepcopy, states=states)

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """Not to be had: ids are unique within a study alone, and only whoever writes asks for them."""
        raise KeyError(trial_id)

    def _refuse(self, *arguments: Any, **named: Any) -> Any:
        raise RuntimeError("This view of the study is read-only.")

    create_new_study = delete_study = set_study_user_attr = set_study_system_attr = _refuse
    create_new_trial = set_trial_param = set_trial_state_values = set_trial_intermediate_value = _refuse
    set_trial_user_attr = set_trial_system_attr = _refuse


class OptunaPage:
    """The dashboard as a WSGI application; importing it takes seconds, so the first request does.

    Args:
        studies: The studies to show.
    """

    def __init__(self, studies: Studies) -> None:
        self.histories = JoinedHistories(studies)
        self._lock = Lock()
        self._app: WsgiApp | None = None

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request."""
        with self._lock:
            if self._app is None:
                from optuna_dashboard import wsgi

                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    self._app = reading_only(wsgi(self.histories))
        return self._app(environ, start_response)
