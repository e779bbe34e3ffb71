"""``sweep rollback``."""

from __future__ import annotations

from typing import Annotated

import typer

from sweep.cli.options import JsonOption, StorageOption, print_json
from sweep.cli.promote import AliasOption, check_alias
from sweep.cli.registries import TrackingOption, find_registry
from sweep.errors import UserError


def rollback(
    model: Annotated[
        str | None, typer.Argument(metavar="[MODEL]", help="Registered model; default: the only one there is.")
    ] = None,
    alias: AliasOption = "champion",
    why: Annotated[str, typer.Option("--why", help="Kept in the history of the alias.")] = "",
    tracking: TrackingOption = None,
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give the champion's place back to the version that had it before; once more goes one further back.

    Example: `sweep rollback intents --why "too many refunds"`
    """
    check_alias(alias)
    from sweep.promotion import roll_back

    registry = find_registry(model, tracking, storage)
    if model is None:
        names = registry.names()
        if len(names) != 1:
            raise UserError(f"name a registered model; there are: {', '.join(sorted(names)) or 'none'}.")
        model = names[0]
    before, now = roll_back(registry, name=model, alias=alias, why=why)
    if as_json:
        print_json({"name": model, "alias": alias, "before": before.number, "version": now.number})
        return
    typer.echo(f"models:/{model}@{alias} is version {now.number} again (before: version {before.number}).")
