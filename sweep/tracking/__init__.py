"""The record people look at: a durable spool, a process that delivers it to MLflow, and readers.

Tags that people filter by: every finished trial's run and every kept model has ``sweep.rank`` (complete trials first,
see :mod:`sweep.tracking.ranks`), the winner's run and its model alone have ``sweep.best``.

Importing this package imports no MLflow.
"""

from sweep.tracking.reader import damaged_notes, experiment_id, resolve_model, run_ids, set_aside, undelivered
from sweep.tracking.recorder import SpoolRecorder
from sweep.tracking.sync import drain, settle, start_over

__all__ = [
    "SpoolRecorder",
    "damaged_notes",
    "drain",
    "experiment_id",
    "resolve_model",
    "run_ids",
    "set_aside",
    "settle",
    "start_over",
    "undelivered",
]
