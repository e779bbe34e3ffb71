"""``sweep resume``."""

from __future__ import annotations

from sweep.cli.options import JsonOption, StorageOption, StudyArgument, find_spec
from sweep.cli.run import AddressOption, HoursOption, TrialsOption, WorkersOption


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

    budget = {"trials": trials, "hours": hours}
    resources = {"workers": workers, "address": address}
    spec = find_spec(
        study,
        storage,
        needed=None,
        budget={key: value for key, value in budget.items() if value is not None},
        resources={key: value for key, value in resources.items() if value is not None},
    )
    drive_and_tell(spec, resuming=True, as_json=as_json)
