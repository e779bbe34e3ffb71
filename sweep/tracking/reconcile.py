"""Statuses in MLflow mirror the states of trials, whatever killed whom, and whoever edited a run by hand."""

from __future__ import annotations

import logging

from mlflow.entities import Run

from sweep.tracking import words
from sweep.tracking.blame import Blame
from sweep.tracking.failures import FAILURES, is_refusal, reason
from sweep.tracking.memory import StudyMemory
from sweep.tracking.tracker import Tracker

_log = logging.getLogger(__name__)

_ENDED = frozenset({"FINISHED", "FAILED", "KILLED"})


def reconcile(tracker: Tracker, memory: StudyMemory, blame: Blame, hopeless: set[str]) -> None:
    """Compare every run with what the records told, and mend those that say something else.

    Args:
        tracker: The study's runs.
        memory: What the records told.
        blame: Finds out whether a run alone fails.
        hopeless: Runs, by id, that fail for ever; they stay as they are. Those found are added.

    Raises:
        Exception: Of ``failures.FAILURES``, if the tracker cannot be reached.
    """
    for run in tracker.survey():
        run_id = run.info.run_id
        if run_id in hopeless:
            continue
        try:
            _mend(tracker, memory, run)
        except FAILURES as err:
            if not is_refusal(err):
                if not blame.is_on(run_id, err):
                    raise
                hopeless.add(run_id)
            # Or somebody deleted it a moment ago.
            _log.warning("run %s stays as it is: %s", run_id, reason(err))


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
