"""``sweep report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sweep.cli.options import JsonOption, OptionalStudy, StorageOption, find_spec, print_json


def report(
    study: OptionalStudy = None,
    to: Annotated[
        Path | None, typer.Option("--to", help="HTML file; default: in the study's folder.", show_default=False)
    ] = None,
    png: Annotated[
        Path | None, typer.Option("--png", help="Folder for a PNG of each chart.", show_default=False)
    ] = None,
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write everything there is to see of a study into one HTML file that needs no network.

    Example: `sweep report intents --to intents.html --png pictures`
    """
    from sweep.errors import UserError
    from sweep.reporting import report_folder, write_report

    spec = find_spec(study, storage)
    file = (to or report_folder(spec.layout) / "report.html").absolute()
    if file.is_dir():
        raise UserError(f"--to {to}: is a folder. Name a file in it, such as {Path(to or '') / 'report.html'}.")
    if png is not None and png.exists() and not png.is_dir():
        raise UserError(f"--png {png}: is no folder. Name one, or leave it out.")
    write_report(spec, file, png.absolute() if png else None)
    if as_json:
        print_json({"study": spec.study, "report": str(file), "pictures": str(png.absolute()) if png else None})
    else:
        typer.echo(str(file))
