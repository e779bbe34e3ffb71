"""What a fork server imports once for all writers of these tests."""

import os
import warnings

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
warnings.simplefilter("ignore")

import matplotlib.backends.backend_agg  # noqa: E402, F401
import mlflow.store.tracking.sqlalchemy_store  # noqa: E402, F401

import sweep.tracking.tailing  # noqa: E402, F401
import tests.writers  # noqa: E402, F401
