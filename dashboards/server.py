"""One server on one port: MLflow's own UI, and Optuna's dashboard of one study beside it.

Run as ``python -m dashboards.server`` with MLflow's store in the environment variable ``SWEEP_TRACKING_URI``; MLflow
reads its settings from the environment when it is imported, so the server has a process of its own.
"""

from __future__ import annotations

import argparse
import os
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

OPTUNA_PATHS = ("/dashboard", "/static/", "/api/studies", "/api/meta", "/api/trials", "/api/artifacts", "/csv/")
"""Optuna's dashboard uses absolute paths; none of these collides with MLflow's (``/static-files``, ``/api/2.0`` …)."""

READING_METHODS = {"GET", "HEAD"}

WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


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


def create_app(history: Path | None, study: str | None) -> Any:
    """MLflow's application, with Optuna's dashboard routed inside its security middleware.

    Args:
        history: Journal file of the study that Optuna's dashboard shows, or None for MLflow alone.
        study: Its name.
    """
    from fastapi.responses import RedirectResponse
    from mlflow.server.fastapi_app import _EfficientWSGIMiddleware, app

    if history is None:
        return app
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend
    from optuna_dashboard import wsgi
    from starlette.routing import BaseRoute, Match, Route
    from starlette.types import Receive, Scope, Send

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dashboard = _EfficientWSGIMiddleware(reading_only(wsgi(JournalStorage(JournalFileBackend(str(history))))))

    class OptunaRoute(BaseRoute):
        """Matches the absolute paths of Optuna's dashboard."""

        def matches(self, scope: Scope) -> tuple[Match, Scope]:
            if scope["type"] == "http" and str(scope["path"]).startswith(OPTUNA_PATHS):
                return Match.FULL, {}
            return Match.NONE, {}

        async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
            await dashboard(scope, receive, send)

    async def to_dashboard(request: Any) -> RedirectResponse:
        return RedirectResponse("/dashboard/")

    # They must precede MLflow's catch-all mount at "/".
    app.router.routes[:0] = [OptunaRoute(), Route("/optuna", to_dashboard)]
    return app


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m dashboards.server")
    parser.add_argument("--artifacts", required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--history", type=Path)
    parser.add_argument("--study")
    arguments = parser.parse_args()
    os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    warnings.simplefilter("ignore")
    _configure(os.environ["SWEEP_TRACKING_URI"], arguments.artifacts)
    import uvicorn

    app = create_app(arguments.history, arguments.study)
    uvicorn.run(app, host=arguments.host, port=arguments.port, log_level="warning")


if __name__ == "__main__":
    main()
