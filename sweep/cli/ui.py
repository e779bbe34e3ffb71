"""``sweep ui``."""

from __future__ import annotations

import ipaddress
import os
import socket
import sys
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from sweep.cli.options import OptionalStudy, StorageOption, find_spec
from sweep.errors import UserError

if TYPE_CHECKING:
    from sweep.spec.model import StudySpec

LOCALHOST = "127.0.0.1"


def ui(
    study: OptionalStudy = None,
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Port to serve on.")] = 5000,
    host: Annotated[str, typer.Option("--host", help="Address to bind to.")] = LOCALHOST,
    storage: StorageOption = None,
) -> None:
    """Show the studies of a storage in the browser: our pages, the MLflow UI and Optuna's dashboard on one port.

    Example: `sweep ui intents --port 5001`
    """
    from sweep.cli.status import settle_study
    from sweep.engine.lock import current_holder
    from sweep.study_files import tracking_uri

    spec = find_spec(study, storage, needed=("tracking.uri",))
    if current_holder(spec.layout.lock) is None:
        settle_study(spec)
    _refuse_taken(host, port)
    if not is_loopback(host):
        sys.stderr.write(
            f"warning: {host} can be reached from other machines, and everybody there can read and change every run: "
            "there is no password. Leave --host out to be alone.\n"
        )
    # Everybody may read a command line; the URI may hold a password.
    os.environ["SWEEP_TRACKING_URI"] = tracking_uri(spec)
    sys.stdout.flush()
    sys.stderr.flush()
    # This process becomes the server: whatever ends `sweep ui`, a signal or its terminal, ends both.
    os.execv(sys.executable, _command(spec, host, port, _server_of(spec)))


def _ranked_view(spec: StudySpec) -> str:
    """MLflow's page of the study's runs, the best first."""
    from sweep.tracking import experiment_id

    experiment = experiment_id(spec.layout)
    if experiment is None:
        return ""
    order = "orderByKey=metrics.%60objective_value%60&orderByAsc=" + str(spec.rule.direction == "minimize").lower()
    return f"#/experiments/{experiment}/runs?workflowType=machine_learning&{order}"


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server that binds there."""
    try:
        found = socket.getaddrinfo(host, None)
    except OSError:
        return False
    return all(ipaddress.ip_address(address[0]).is_loopback for *_, address in found)


def _server_of(spec: StudySpec) -> str | None:
    """The MLflow server that the study's record lies on, without user and password; None if it lies in a store."""
    parts = urlsplit(spec.tracking.uri or "")
    if parts.scheme not in ("http", "https"):
        return None
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}".rstrip("/")


def _command(spec: StudySpec, host: str, port: int, mlflow: str | None) -> list[str]:
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    ready = [
        f"Sweep     {address}/sweep/{spec.study}",
        f"MLflow    {mlflow or address}/{_ranked_view(spec)}",
        f"Optuna    {address}/optuna/{spec.study}   (read-only)",
        "Ctrl-C ends it.",
    ]
    command = [sys.executable, "-m", "dashboards.server", "--host", host, "--port", str(port)]
    command += ["--storage", str(spec.layout.storage), "--ready", "\n".join(ready)]
    return command if mlflow is None else [*command, "--mlflow", mlflow]


def _refuse_taken(host: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as err:
            raise UserError(f"--port {port}: {host}:{port} cannot be bound ({err.strerror}). Choose another.") from err
