"""How MLflow behaves in a process of ours: no telemetry, no chatter, no retries behind our back."""

from __future__ import annotations

import logging
import os
import warnings

ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "GIT_PYTHON_REFRESH": "quiet",
    "MPLBACKEND": "Agg",
}

REQUEST_SECONDS = 30
"""How long delivery waits for an answer, unless the user's environment says otherwise."""


def quiet_mlflow(*, delivering: bool = False) -> None:
    """Set MLflow's switches for this process; call it before MLflow is imported.

    Args:
        delivering: Whether this process owns its retries.
    """
    os.environ.update(ENVIRONMENT)
    if delivering:
        # A request repeated blindly can make a second run; delivery looks before it repeats.
        os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(REQUEST_SECONDS))
    for name in ("mlflow", "alembic", "git"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # The store's own use of SQLAlchemy; nothing a user could act on.
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    warnings.filterwarnings("ignore", message=".*noload.*")
