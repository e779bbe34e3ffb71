"""``sweep resume``."""

from __future__ import annotations

from typing import Annotated

import typer

from sweep.cli.options import JsonOption, StorageOption, StudyArgument, find_spec
from sweep.cli.run import (
    AddressOption,
    ConfirmOption,
    GpuHoursOption,
    HoursOption,
    TrialsOption,
    WorkersOption,
)
from sweep.errors import UserError


def resume(
    study: StudyArgument,
    trials: TrialsOption = None,
    hours: HoursOption = None,
    gpu_hours: GpuHoursOption = None,
    workers: WorkersOption = None,
    address: AddressOption = None,
    disk_gb: Annotated[float | None, typer.Option("--disk-gb", help="Quota of the study's folder, in GB.")] = None,
    free_disk_gb: Annotated[
        float | None, typer.Option("--free-disk-gb", help="What must stay free on the disk, in GB.")
    ] = None,
    evaluation_minutes: Annotated[
        float | None, typer.Option("--evaluation-minutes", help="Longest evaluation of a finished model.")
    ] = None,
    confirm: ConfirmOption = False,
    finalists: Annotated[
        int | None, typer.Option("--finalists", help="Trials in the final; implies --confirm.")
    ] = None,
    seeds: Annotated[
        int | None, typer.Option("--seeds", help="Fresh seeds for each finalist; implies --confirm.")
    ] = None,
    soup: Annotated[str | None, typer.Option("--soup", help="none, uniform or greedy; implies --confirm.")] = None,
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Go on with a study that was stopped or broke off, or give a finished one more trials.

    Unfinished trials continue from their last checkpoint; nothing is trained twice. `--confirm` adds a final; more
    `--seeds` or `--finalists` train what is new alone.

    Example: `sweep resume intents --trials 24`
    """
    from sweep.cli.driving import drive_and_tell

    budget = {"trials": trials, "hours": hours, "gpu_hours": gpu_hours}
    resources = {"workers": workers, "address": address}
    limits = {"disk_gb": disk_gb, "free_disk_gb": free_disk_gb, "evaluation_minutes": evaluation_minutes}
    wanted = {"finalists": finalists, "seeds": seeds, "soup": soup}
    final = {key: value for key, value in wanted.items() if value is not None}
    spec = find_spec(
        study,
        storage,
        needed=None,
        budget={key: value for key, value in budget.items() if value is not None},
        resources={key: value for key, value in resources.items() if value is not None},
        limits={key: value for key, value in limits.items() if value is not None},
        **({"confirm": final} if confirm or final else {}),
    )
    if spec.layout.searched is not None:
        name = spec.layout.searched.study
        raise UserError(f"study {spec.study!r} is the final of {name!r}. Go on with `sweep resume {name}`.")
    drive_and_tell(spec, resuming=True, as_json=as_json)
