"""Statuses in MLflow mirror the states of trials, whatever killed whom, and whoever edited a run by hand."""

from __future__ import annotations

import logging

from mlflow.entities import Run

from sweep.tracking import words
from sweep.tracking.failures import FAILURES, is_refusal, reason
from sweep.tracking.memory import StudyMemory
from sweep.tracking.tracker import Tracker

_log = logging.getLogger(__name__)

_ENDED = frozenset({"FINISHED", "FAILED", "KILLED"})


def reconcile(tracker: Tracker, memory: StudyMemory) -> None:
    """Compare every run with what the records told, and mend those that say something else.

    Raises:
        Exception: Of ``failures.FAILURES``, if the tracker cannot be reached.
    """
    for run in tracker.survey():
        try:
            _mend(tracker, memory, run)
        except FAILURES as err:
            if not is_refusal(err):
                raise
            # Somebody deleted it a moment ago.
            _log.warning("run %s stays as it is: %s", run.info.run_id, reason(err))


def _mend(tracker: Tracker, memory: StudyMemory, run: Run) -> None:
    run_id = run.info.run_id
    if run.data.tags[words.ROLE] == "study":
        state, ended_at = memory.session, memory.over.at if memory.over else None
        status = words.STUDY_STATUS.get(state, "KILLED")
    else:
        trial = memory.trials.get(int(run.data.tags[words.TRIAL]))
        if trial is None:
            # Delivered before, and about to be delivered again.
            return
        state, ended_at = trial.state.value, trial.over.at if trial.over else None
        status = words.STATUS[trial.state]
    if run.data.tags.get(words.STATE) != state:
        tracker.log(run_id, tags={words.STATE: state})
    if run.info.status == status:
        return
    _log.warning("run %s said %s, its records say %s", run_id, run.info.status, state)
    if status in _ENDED and ended_at is not None:
        tracker.client.set_terminated(run_id, status, end_time=words.milliseconds(ended_at))
    else:
        tracker.client.update_run(run_id, status=status)
