"""``sweep run``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sweep.cli.options import JsonOption

if TYPE_CHECKING:
    from sweep.spec.model import StudySpec

SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a spec value, e.g. `--set search.seed=7`."),
]
TrialsOption = Annotated[int | None, typer.Option("--trials", help="Finished trials wanted in all.")]
HoursOption = Annotated[float | None, typer.Option("--hours", help="Stop after this many hours, over all sessions.")]
GpuHoursOption = Annotated[float | None, typer.Option("--gpu-hours", help="Likewise, hours of attempts times GPUs.")]
WorkersOption = Annotated[int | None, typer.Option("--workers", help="Trials side by side.")]
AddressOption = Annotated[
    str | None, typer.Option("--address", help="Ray cluster to join; default: Ray on this machine.")
]
ConfirmOption = Annotated[
    bool, typer.Option("--confirm", help="Train the best trials and the defaults anew on fresh seeds, and judge them.")
]


def overrides_of(
    given: list[str] | None,
    *,
    trials: int | None,
    hours: float | None,
    gpu_hours: float | None,
    workers: int | None,
    address: str | None,
) -> list[str]:
    """All command-line options as ``--set`` overrides, so that one rule book judges them."""
    options = {
        "budget.trials": trials,
        "budget.hours": hours,
        "budget.gpu_hours": gpu_hours,
        "resources.workers": workers,
        "resources.address": address,
    }
    return [*(given or []), *(f"{key}={value}" for key, value in options.items() if value is not None)]


def run(
    spec_file: Annotated[
        Path | None,
        typer.Argument(metavar="[SPEC]", help="Spec file; without it the bundled study runs.", show_default=False),
    ] = None,
    trials: TrialsOption = None,
    hours: HoursOption = None,
    gpu_hours: GpuHoursOption = None,
    workers: WorkersOption = None,
    address: AddressOption = None,
    confirm: ConfirmOption = False,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Start a study and see it through.

    Ctrl-C pauses it at the next steps, a second Ctrl-C at once; `sweep resume` goes on either way.

    Example: `sweep run study.yaml --trials 40 --workers 4`
    """
    from sweep.cli.driving import drive_and_tell
    from sweep.spec import load_spec
    from sweep.spec.model import ConfirmSpec

    overrides = overrides_of(set_, trials=trials, hours=hours, gpu_hours=gpu_hours, workers=workers, address=address)
    if spec_file is None:
        spec, resuming = _bundled(overrides)
    else:
        spec, resuming = load_spec(spec_file, overrides), False
    if confirm and spec.confirm is None:
        spec = spec.model_copy(update={"confirm": ConfirmSpec()})
    drive_and_tell(spec, resuming=resuming, as_json=as_json)


def _bundled(overrides: list[str]) -> tuple[StudySpec, bool]:
    """The bundled study: goes on with an unfinished one, else takes the next free name."""
    import sys

    from sweep.cli.status import status_of
    from sweep.errors import SweepError
    from sweep.spec import bundled_spec
    from sweep.storages import DEFAULT_STORAGE
    from sweep.study_files import read_spec

    storage = Path(DEFAULT_STORAGE).absolute()
    spec = bundled_spec(storage, overrides)
    name, number = spec.study, 1
    while spec.layout.spec.exists():
        if not overrides:
            try:
                state = status_of(spec)["state"]
            except SweepError:
                state = "unreadable"
            if state == "PAUSED":
                sys.stderr.write(f"going on with the unfinished study {spec.study!r}\n")
                return read_spec(spec.layout, needed=None), True
        number += 1
        spec = bundled_spec(storage, [*overrides, f"study={name}-{number}"])
    return spec, False
