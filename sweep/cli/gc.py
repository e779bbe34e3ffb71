"""``sweep gc``."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sweep.cli.options import JsonOption, OptionalStudy, StorageOption, find_spec, print_json
from sweep.cli.text import disk, size
from sweep.errors import VerificationError
from sweep.layout import StudyLayout
from sweep.storages import Storages

if TYPE_CHECKING:
    from sweep.checkpoints.surplus import Surplus
    from sweep.spec.model import StudySpec


def gc(
    study: OptionalStudy = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would be removed.")] = False,
    prepared: Annotated[
        bool, typer.Option("--prepared", help="Also prepared data that no study of the storage names.")
    ] = False,
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove what nobody needs from a study that is not running: leftovers of crashes, models no longer kept.

    The best models, the defaults' model and what unfinished trials continue from always stay. Each removal is noted
    in the study's gc.jsonl first.

    Example: `sweep gc intents --dry-run`
    """
    from sweep.checkpoints.garbage import committed_bytes, remove_audited, unused_prepared
    from sweep.checkpoints.prepared import alone_with
    from sweep.checkpoints.space import disk_use
    from sweep.sole_driver import sole_driver

    spec, now = find_spec(study, storage), time.time()
    layout = spec.layout
    with sole_driver(spec), alone_with(layout.prepared) if prepared else nullcontext():
        found = list(find_surplus(spec, now))
        if prepared:
            found += unused_prepared(layout, _prepared_in_use(layout))
        # What is made slim needs a little room itself, so whole things go first.
        found.sort(key=lambda surplus: surplus.path.name == "state")
        if not dry_run:
            remove_audited(found, layout.removals, now)
        use, committed = disk_use(layout), committed_bytes(layout)
    if as_json:
        rows = [{"path": str(s.path), "bytes": s.disk_bytes, "reason": s.reason} for s in found]
        result = {"study": layout.study, "dry_run": dry_run, "removed": rows, "disk": use, "committed_bytes": committed}
        print_json(result)
        return
    for surplus in found:
        typer.echo(f"{size(surplus.disk_bytes):>10}  {surplus.path.relative_to(layout.storage)}  ({surplus.reason})")
    total = size(sum(surplus.disk_bytes for surplus in found))
    typer.echo(f"{'would remove' if dry_run else 'removed'} {len(found)} things, {total}.")
    typer.echo(f"left: {disk(use)}")


def find_surplus(spec: StudySpec, now: float) -> Iterator[Surplus]:
    """What nobody needs in a study's folder, nothing of it in use while nobody drives the study."""
    from sweep.checkpoints import FolderKeeper
    from sweep.checkpoints.garbage import left_behind
    from sweep.checkpoints.surplus import surplus_folder
    from sweep.domain import kept_numbers
    from sweep.search import read_trials

    layout, trials = spec.layout, read_trials(spec)
    kept = kept_numbers(trials, spec.rule, keep=spec.keep)
    registered, unneeded = _exports(layout, kept)
    keeper = FolderKeeper(layout.checkpoints)
    for trial in trials:
        weights = {step for number, step in registered if number == trial.number}
        if trial.step is not None and (trial.number in kept or not trial.state.is_finished):
            weights.add(trial.step)
        resumable = set[int]() if trial.state.is_finished else _two_newest(keeper, trial.number)
        yield from keeper.surplus(trial.number, resumable, weights)
    for folder in unneeded:
        yield surplus_folder(folder, "the export of a trial no longer kept")
    yield from left_behind(layout, now)


def _two_newest(keeper: Any, trial_number: int) -> set[int]:
    """The newest resumable checkpoint, and the one to fall back on."""
    steps = keeper.resumable_steps(trial_number)
    return {step for _, step in zip(range(2), steps, strict=False)}


def _exports(layout: StudyLayout, kept: set[int]) -> tuple[set[tuple[int, int]], list[Path]]:
    """Trial and step of each export that somebody made there, and our own exports of trials no longer kept."""
    from sweep.deployment.lineage import read_lineage
    from sweep.tracking import undelivered

    registered, unneeded = set[tuple[int, int]](), []
    is_told = not undelivered(layout)  # else an export may be on its way to MLflow
    for folder in sorted(layout.exports.glob("[!.]*")):
        try:
            lineage = read_lineage(folder)
        except VerificationError:
            continue
        if lineage.trial_number is None or lineage.step is None:
            continue
        if folder != layout.export(lineage.trial_number):
            registered.add((lineage.trial_number, lineage.step))
        elif lineage.trial_number not in kept and is_told:
            unneeded.append(folder)
    return registered, unneeded


def _prepared_in_use(layout: StudyLayout) -> set[str]:
    """Keys of the prepared data that studies of the storage name; the storage may have been moved since."""
    from sweep.study_files import read_facts

    facts = [read_facts(known, "data") for known in Storages(layout.storage).studies()]
    named = [folder for data in facts for folder in (data.get("folder"), *data.get("prepared", ())) if folder]
    named += [data["model"] for data in facts if data.get("base_model")]
    return {Path(folder).name for folder in named}
