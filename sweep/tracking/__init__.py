"""The record people look at: a durable spool, a process that delivers it to MLflow, and readers.

Importing this package imports no MLflow.
"""

from sweep.tracking.reader import experiment_id, resolve_model, run_ids, undelivered
from sweep.tracking.recorder import SpoolRecorder
from sweep.tracking.sync import drain

__all__ = ["SpoolRecorder", "drain", "experiment_id", "resolve_model", "run_ids", "undelivered"]
