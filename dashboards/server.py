"""One server on one port: MLflow's own UI, our pages of the studies, and Optuna's dashboard, in one process.

Run as ``python -m dashboards.server`` with MLflow's store in the environment variable ``SWEEP_TRACKING_URI``; MLflow
reads its settings from the environment when it is imported, so the server is a program of its own. ``sweep ui``
becomes it, so that whatever ends ``sweep ui`` ends the server.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import warnings
from pathlib import Path
from typing import Any

GRACE_SECONDS = 3
"""For requests that are being answered when the server is told to end."""


def _configure(tracking_uri: str, artifacts: str) -> None:
    """Tell MLflow, by its environment, which store to serve; one process, no job runner, no telemetry."""
    from mlflow.server.constants import (
        ARTIFACT_ROOT_ENV_VAR,
        ARTIFACTS_DESTINATION_ENV_VAR,
        BACKEND_STORE_URI_ENV_VAR,
        SERVE_ARTIFACTS_ENV_VAR,
    )

    os.environ[BACKEND_STORE_URI_ENV_VAR] = tracking_uri
    os.environ[ARTIFACT_ROOT_ENV_VAR] = artifacts
    os.environ[ARTIFACTS_DESTINATION_ENV_VAR] = artifacts
    os.environ[SERVE_ARTIFACTS_ENV_VAR] = "true"


def create_app(storage: Path, mlflow: str | None = None) -> Any:
    """MLflow's application, with our pages and Optuna's dashboard routed inside its security middleware.

    Args:
        storage: Storage root whose studies are shown.
        mlflow: Address of the MLflow server that has the record, in whose place none is served here.
    """
    from dashboards.routes import all_routes

    if mlflow is None:
        from mlflow.server.fastapi_app import app
    else:
        from fastapi import FastAPI
        from mlflow.server.fastapi_security import init_fastapi_security

        app = FastAPI(openapi_url=None)
        init_fastapi_security(app)
    # They must precede MLflow's catch-all mount at "/".
    app.router.routes[:0] = all_routes(storage, mlflow)
    return app


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m dashboards.server")
    parser.add_argument("--storage", type=Path, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--mlflow", help="Address of the MLflow server that has the record.")
    parser.add_argument("--ready", default="", help="What to say once it serves.")
    arguments = parser.parse_args()
    # What is imported is no garbage: looking for some in it takes a sixth of the start.
    gc.disable()
    from sweep.redaction import Redactor, redact_streams

    redact_streams(Redactor.from_environment(os.environ))
    os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    warnings.simplefilter("ignore")
    _configure(os.environ["SWEEP_TRACKING_URI"], str(arguments.storage / "artifacts"))
    import uvicorn

    class Server(uvicorn.Server):
        """Says when it serves."""

        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            gc.freeze()
            gc.enable()
            if self.started and arguments.ready:
                sys.stdout.write(f"{arguments.ready}\n")
                sys.stdout.flush()

    config = uvicorn.Config(
        create_app(arguments.storage, arguments.mlflow),
        host=arguments.host,
        port=arguments.port,
        log_level="warning",
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    try:
        Server(config).run()
    except KeyboardInterrupt:
        sys.stderr.write("stopped\n")


if __name__ == "__main__":
    main()
