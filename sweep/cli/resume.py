"""``sweep resume``."""

from __future__ import annotations

from sweep.cli.options import JsonOption, StorageOption, StudyArgument, find_study
from sweep.cli.run import AddressOption, HoursOption, TrialsOption, WorkersOption, overrides_of


def resume(
    study: StudyArgument,
    trials: TrialsOption = None,
    hours: HoursOption = None,
    workers: WorkersOption = None,
    address: AddressOption = None,
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Go on with a study that was stopped or broke off, or give a finished one more trials.

    Unfinished trials continue from their last checkpoint; nothing is trained twice.

    Example: `sweep resume intents --trials 24`
    """
    from sweep.cli.driving import drive_and_tell
    from sweep.spec import load_spec
    from sweep.wiring import read_spec

    layout = find_study(study, storage)
    overrides = overrides_of(None, trials=trials, hours=hours, workers=workers, address=address)
    read_spec(layout)
    place = f"storage={layout.storage}"
    drive_and_tell(load_spec(layout.spec, [*overrides, place]), resuming=True, as_json=as_json)
