"""``sweep list``."""

from __future__ import annotations

import typer

from sweep.cli.options import JsonOption, StorageOption, named_storages, print_json
from sweep.cli.text import number
from sweep.layout import CONFIRMATION_SUFFIX, StudyLayout


def list_studies(storage: StorageOption = None, as_json: JsonOption = False) -> None:
    """List the studies, newest first.

    Example: `sweep list --storage /shared/mlruns`
    """
    from sweep.cli.status import status_of, tell_of_damaged_notes
    from sweep.errors import SweepError
    from sweep.study_files import read_spec

    rows = []
    for layout in _with_finals(named_storages(storage).studies()):
        tell_of_damaged_notes(layout)
        try:
            rows.append(status_of(read_spec(layout)))
        except SweepError as err:
            rows.append({"study": layout.study, "state": "UNREADABLE", "error": str(err)})
    if as_json:
        print_json(rows)
        return
    if not rows:
        typer.echo("No studies yet. Start one with `sweep run`.")
        return
    width = max(len(row["study"]) + 2 * row["study"].endswith(CONFIRMATION_SUFFIX) for row in rows)
    for row in rows:
        if row["study"].endswith(CONFIRMATION_SUFFIX):
            row = {**row, "study": f"  {row['study']}"}
        if "error" in row:
            typer.echo(f"{row['study']:<{width}}  {row['state']:<10}  {row['error']}")
            continue
        budget, best = row["budget"], row["best"]
        score = f"{row['metric']['name']} {number(best['value'])}" if best else "–"
        done = f"{budget['finished']}/{budget['trials']}"
        typer.echo(f"{row['study']:<{width}}  {row['state']:<10}  {done:>9}  {score:<20}  {row['storage']}")


def _with_finals(layouts: list[StudyLayout]) -> list[StudyLayout]:
    """Each final after its study."""
    places = {layout: place for place, layout in enumerate(layouts)}
    return sorted(layouts, key=lambda layout: (places.get(layout.searched or layout, places[layout]), layout.study))
