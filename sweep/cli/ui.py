"""``sweep ui``."""

from __future__ import annotations

import ipaddress
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Annotated

import typer

from sweep.cli.options import OptionalStudy, StorageOption, find_spec
from sweep.errors import SweepError, UserError

if TYPE_CHECKING:
    from sweep.spec.model import StudySpec

LOCALHOST = "127.0.0.1"
START_TIMEOUT_SECONDS = 90.0


def ui(
    study: OptionalStudy = None,
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Port to serve on.")] = 5000,
    host: Annotated[str, typer.Option("--host", help="Address to bind to.")] = LOCALHOST,
    storage: StorageOption = None,
) -> None:
    """Open the MLflow UI over a study's storage, with Optuna's dashboard of the study at /optuna.

    Example: `sweep ui intents --port 5001`
    """
    from sweep.cli.status import settle_study
    from sweep.engine.lock import current_holder
    from sweep.redaction import redacted
    from sweep.study_files import tracking_uri

    spec = find_spec(study, storage, needed=("tracking.uri",))
    if current_holder(spec.layout.lock) is None:
        settle_study(spec)
    if spec.tracking.uri is not None and spec.tracking.uri.startswith(("http://", "https://")):
        typer.echo(f"The record of {spec.study!r} lies on a server of its own: {redacted(spec.tracking.uri)}")
        return
    _refuse_taken(host, port)
    if not is_loopback(host):
        sys.stderr.write(
            f"warning: {host} can be reached from other machines, and everybody there can read and change every run: "
            "there is no password. Leave --host out to be alone.\n"
        )
    # Everybody may read a command line; the URI may hold a password.
    environment = {**os.environ, "SWEEP_TRACKING_URI": tracking_uri(spec)}
    server = subprocess.Popen(_command(spec, host, port), env=environment, start_new_session=True)
    try:
        address = f"http://{host}:{port}"
        _wait_until_up(server, address)
        typer.echo(f"MLflow    {address}/{_ranked_view(spec)}")
        if _journal(spec) is not None:
            typer.echo(f"Optuna    {address}/optuna   (study {spec.study}, read-only)")
        typer.echo("Ctrl-C ends it.")
        sys.stdout.flush()
        server.wait()
    except KeyboardInterrupt:
        sys.stderr.write("stopped\n")
    finally:
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGTERM)
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(server.pid, signal.SIGKILL)


def _ranked_view(spec: StudySpec) -> str:
    """MLflow's page of the study's runs, the best first."""
    from sweep.tracking import experiment_id

    experiment = experiment_id(spec.layout)
    if experiment is None:
        return ""
    order = "orderByKey=metrics.%60objective_value%60&orderByAsc=" + str(spec.rule.direction == "minimize").lower()
    return f"#/experiments/{experiment}/runs?workflowType=machine_learning&{order}"


def _journal(spec: StudySpec) -> str | None:
    path = spec.layout.history / "journal.log"
    return str(path) if spec.history is None and path.exists() else None


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server that binds there."""
    try:
        found = socket.getaddrinfo(host, None)
    except OSError:
        return False
    return all(ipaddress.ip_address(address[0]).is_loopback for *_, address in found)


def _command(spec: StudySpec, host: str, port: int) -> list[str]:
    command = [sys.executable, "-m", "dashboards.server", "--host", host, "--port", str(port)]
    command += ["--artifacts", str(spec.layout.tracking_artifacts)]
    journal = _journal(spec)
    return [*command, "--history", journal, "--study", spec.study] if journal else command


def _refuse_taken(host: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as err:
            raise UserError(f"--port {port}: {host}:{port} cannot be bound ({err.strerror}). Choose another.") from err


def _wait_until_up(server: subprocess.Popen[bytes], address: str) -> None:
    until = time.monotonic() + START_TIMEOUT_SECONDS
    while time.monotonic() < until:
        if server.poll() is not None:
            raise SweepError(
                f"the server ended with exit code {server.returncode}; its messages stand above. Mend their cause."
            )
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise SweepError(
        f"the server did not answer on {address} within {START_TIMEOUT_SECONDS:g} s. "
        "Try again once the machine is less busy."
    )
