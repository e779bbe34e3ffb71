"""``sweep enqueue``."""

from __future__ import annotations

from typing import Annotated

import typer

from sweep.cli.options import StorageOption, StudyArgument, find_spec
from sweep.errors import UserError


def enqueue(
    study: StudyArgument,
    values: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...", help="Hyperparameters; others have trial 0's value.", show_default=False
        ),
    ] = None,
    trials: Annotated[int | None, typer.Option("--trials", min=1, help="Finish so many trials more.")] = None,
    storage: StorageOption = None,
) -> None:
    """Give a running study more to do: a configuration of your own, or more trials.

    A configuration is tried in the place of the next draw, validated against the search space.

    Example: `sweep enqueue intents learning_rate=1e-4 dropout=0.2`
    """
    from sweep import steering
    from sweep.search import read_trials

    if not values and trials is None:
        raise UserError("nothing to enqueue. Give KEY=VALUE, such as learning_rate=1e-4, or --trials N.")
    given = {}
    for item in values or ():
        name, equals, text = item.partition("=")
        if not equals or name.strip() in given:
            rule = "is given twice" if equals else "is not KEY=VALUE"
            raise UserError(f"{item[:80]!r} {rule}. Write each hyperparameter once, such as learning_rate=1e-4.")
        given[name.strip()] = text
    spec = find_spec(study, storage)
    if trials is not None:
        typer.echo(steering.add_trials(spec, trials))
    if given:
        typer.echo(steering.enqueue(spec, read_trials(spec), given))
