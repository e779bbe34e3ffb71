"""``sweep lr-find``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from sweep.cli.options import JsonOption, print_json
from sweep.cli.run import SetOption
from sweep.cli.trying import trying
from sweep.errors import UserError

_PICTURES = (".png", ".html")
_ROWS_PER_DECADE = 4
_WIDTH = 40


def lr_find(
    spec_file: Annotated[Path, typer.Argument(metavar="SPEC", help="Spec file.", show_default=False)],
    set_: SetOption = None,
    output: Annotated[
        Path | None, typer.Option("--output", help="Picture of the test: .png or .html.", show_default=False)
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Find the learning rates worth searching, by a range test of the defaults.

    The rate rises at each step until the training loss has turned up. The range proposed goes from a tenth of the rate
    at which the loss begins to fall to twice the rate at which it is lowest. With `learning_rate: auto` under `search`
    a study finds it when it begins.

    Example: `sweep lr-find study.yaml --output rates.html`
    """
    from sweep import objective_jobs

    if output is not None and (output.suffix not in _PICTURES or not output.absolute().parent.is_dir()):
        raise UserError(f"--output {output}: is no {' or '.join(_PICTURES)} file in a folder that exists. Name one.")
    said = "" if as_json else "preparing data, then training with a rising learning rate …\n"
    with trying(spec_file, set_, said) as (spec, parent, data):
        found = objective_jobs.find_learning_rate(spec, parent, data)
    if output is not None:
        _draw(found, output)
    if as_json:
        print_json({"study": spec.study, **found})
        return
    for warning in found.get("warnings", []):
        sys.stderr.write(f"warning: {warning}\n")
    typer.echo("\n".join(_lines(found)))


def _draw(found: dict[str, Any], output: Path) -> None:
    """Draw the test by a process of its own, as reports are: charts take libraries that this one does not carry."""
    from sweep.errors import SweepError

    command = [sys.executable, "-P", "-m", "dashboards.range_test", str(output.absolute())]
    drawn = subprocess.run(command, input=json.dumps(found), text=True, capture_output=True, check=False)
    if drawn.returncode:
        raise SweepError(f"{output}: the picture cannot be drawn: {drawn.stderr.strip()[-500:]}")


def _lines(found: dict[str, Any]) -> list[str]:
    """The smoothed loss as bars, a few for each decade, and what to write under ``search``."""
    rates, losses = found["rates"], found["smoothed"]
    decade = next((step for step, rate in enumerate(rates) if rate >= 10 * rates[0]), len(rates))
    chosen = range(0, len(rates), max(1, decade // _ROWS_PER_DECADE))
    top = max(losses[0], min(losses))
    lines = ["  rate        loss"]
    for step in chosen:
        bar = "█" * max(1, round(_WIDTH * min(losses[step] / top, 1.0))) if top > 0 else ""
        mark = "  ← searched" if found["low"] <= rates[step] <= found["high"] else ""
        lines.append(f"  {rates[step]:<10.1e} {losses[step]:7.4f}  {bar:<{_WIDTH}}{mark}")
    return [*lines, "", "search:", f"  learning_rate: {found['low']:g}..{found['high']:g} log"]
