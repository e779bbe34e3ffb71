"""The ``sweep`` command."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

import sweep
from sweep.cli import (
    best,
    check,
    compare,
    enqueue,
    export,
    gc,
    init,
    list_studies,
    lr_find,
    promote,
    report,
    resume,
    rollback,
    run,
    status,
    stop,
    sync,
    tasks,
    ui,
    verify,
    watch,
)
from sweep.errors import SweepError, is_disk_full
from sweep.redaction import Redactor, redact_streams

INTERRUPTED = 130

app = typer.Typer(
    name="sweep",
    help="Hyperparameter sweeps over fine-tuning: search, train side by side, record, and export the winner.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)

_STUDIES = "Run studies"
_RESULTS = "See and use results"

app.command("init", rich_help_panel=_STUDIES)(init.init)
app.command("check", rich_help_panel=_STUDIES)(check.check)
app.command("tasks", rich_help_panel=_STUDIES)(tasks.tasks)
app.command("lr-find", rich_help_panel=_STUDIES)(lr_find.lr_find)
app.command("run", rich_help_panel=_STUDIES)(run.run)
app.command("resume", rich_help_panel=_STUDIES)(resume.resume)
app.command("watch", rich_help_panel=_STUDIES)(watch.watch)
app.command("stop", rich_help_panel=_STUDIES)(stop.stop)
app.command("enqueue", rich_help_panel=_STUDIES)(enqueue.enqueue)
app.command("gc", rich_help_panel=_STUDIES)(gc.gc)
app.command("status", rich_help_panel=_RESULTS)(status.status)
app.command("list", rich_help_panel=_RESULTS)(list_studies.list_studies)
app.command("best", rich_help_panel=_RESULTS)(best.best)
app.command("compare", rich_help_panel=_RESULTS)(compare.compare)
app.command("export", rich_help_panel=_RESULTS)(export.export)
app.command("verify", rich_help_panel=_RESULTS)(verify.verify)
app.command("report", rich_help_panel=_RESULTS)(report.report)
app.command("promote", rich_help_panel=_RESULTS)(promote.promote)
app.command("rollback", rich_help_panel=_RESULTS)(rollback.rollback)
app.command("ui", rich_help_panel=_RESULTS)(ui.ui)
app.command("sync", rich_help_panel=_RESULTS)(sync.sync)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"sweep {sweep.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line; a user's mistake ends in one message, never in a traceback."""
    redact_streams(Redactor.from_environment(os.environ))
    try:
        app()
    except SweepError as err:
        typer.echo(f"error: {err}", err=True)
        sys.exit(err.exit_code)
    except KeyboardInterrupt:
        typer.echo("interrupted", err=True)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output went away (`sweep list | head`): not our error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as err:
        if is_disk_full(err):
            message = f"{err.filename or 'a file'} cannot be written ({err.strerror}). Free space, then try again."
        else:
            # Rights, a broken disk, a name too long: a traceback would not help to mend it.
            message = f"{err}. Mind rights and names."
        typer.echo(f"error: {message}", err=True)
        sys.exit(SweepError.exit_code)


if __name__ == "__main__":
    main()
