"""Promotion: verify a study's winner, hold it against the champion, register it, move the alias; and the way back.

Every step looks before it acts, so that a promotion that was killed anywhere is finished by running it again.
Promotions from one storage take turns.
"""

from __future__ import annotations

import fcntl
import getpass
import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sweep import objective_jobs
from sweep.checkpoints.prepared import in_use
from sweep.clock import SystemClock
from sweep.deployable import deployable
from sweep.deployment import alias_history
from sweep.deployment.card import card_text
from sweep.deployment.export import content_of_model, export_model, hashes_of, verify_files
from sweep.deployment.gate import LEVEL, Comparison, Decision, decide
from sweep.deployment.lineage import Lineage, content_of, read_lineage
from sweep.deployment.scores import ScoreCheck
from sweep.errors import PromotionRefusedError, SweepError, UserError, VerificationError
from sweep.execution.jobs import run_job
from sweep.selection.assessment import ModelOnSplit
from sweep.selection.test_split import TestOpening, record_opening, said
from sweep.selection.winner import Winner
from sweep.spec.model import StudySpec
from sweep.tracking.pyfunc import make_servable
from sweep.tracking.registry import PACKAGE, Origin, Registry, Version
from sweep.verification import Examiner

_SCRATCH = ".promotion-"
_SPLIT = ("test_fraction", "validation_fraction", "split_seed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Promotion:
    """How a promotion went.

    Attributes:
        name: The registered model.
        winner: The study's model.
        checks: Its scores, recorded and now.
        decision: The gate's.
        champion: Whom the alias named before, or None.
        version: Whom it names now; None if nothing was changed.
        opened_test: Whether the champion was evaluated on the challenger's test split.
    """

    name: str
    winner: Winner
    checks: list[ScoreCheck]
    decision: Decision
    champion: Version | None
    version: Version | None
    opened_test: bool


def promote(
    spec: StudySpec,
    registry: Registry,
    *,
    name: str,
    alias: str,
    if_better: bool,
    dry_run: bool,
    note: Callable[[str], None],
) -> Promotion:
    """Make a study's winner the champion, if the gate lets it.

    Args:
        spec: The study.
        registry: Where to.
        name: The registered model.
        alias: The champion's.
        if_better: See :mod:`sweep.deployment.gate`.
        dry_run: Decide, and change nothing.
        note: Takes one line for each thing that takes a while.

    Raises:
        UserError: If the study is a final.
        VerificationError: If the winner does not reproduce its record.
        PromotionRefusedError: If somebody else moved the alias meanwhile.
        SweepError: If it fails for another reason.
    """
    if (search := spec.layout.searched) is not None:
        raise UserError(
            f"{spec.study!r} is the final of {search.study!r}. Promote the study: `sweep promote {search.study}`."
        )
    # An MLflow that does not answer is told before anything is computed.
    registry.names()
    layout = spec.layout
    with _turn(layout.storage, note), in_use(layout.prepared), objective_jobs.warm_parent() as parent:
        chosen, lineage = deployable(spec)
        note("evaluating the winner again")
        examiner = Examiner(parent=parent, trust_remote_code=spec.objective.trust_remote_code)
        checks = examiner.check(chosen.model, lineage)
        for check in checks:
            if not check.reproduced:
                raise VerificationError(
                    f"{chosen.model}: {check.split} {check.metric} was recorded as {check.recorded:.6f} and is "
                    f"{check.now:.6f} now, so it is not promoted. See what changed: data, packages, machine."
                )
        content = content_of_model(chosen.model)
        champion = registry.champion(name, alias)
        decision = _gate(examiner, registry, spec, chosen, lineage, content, champion, if_better=if_better, note=note)
        result = Promotion(
            name=name,
            winner=chosen,
            checks=checks,
            decision=decision,
            champion=champion,
            version=None,
            opened_test=decision.kind == "compared",
        )
        if dry_run or not decision.passes:
            return result
        if champion is not None and decision.kind == "already":
            return replace(result, version=champion)
        note("registering it")
        settings = {**examiner.settings(lineage), "data": lineage.objective["data"]}
        offer = run_job(parent, lineage.task, "serving", {"settings": settings})
        version = register(registry, spec.layout.storage, chosen, lineage, offer, name=name, content=content)
        move(registry, version, alias, champion, why=f"study {spec.study}: {decision.reason}")
        return replace(result, version=version)


def move(registry: Registry, version: Version, alias: str, champion: Version | None, *, why: str) -> None:
    """Give an alias to a version, if the champion that was compared with still has it.

    Raises:
        PromotionRefusedError: If somebody else moved it meanwhile.
    """
    name = version.name
    found = registry.champion(name, alias)
    if (found and found.number) != (champion and champion.number):
        raise PromotionRefusedError(f"{name}@{alias}: somebody else moved it meanwhile. Run the same command again.")
    history = alias_history.settled(registry.history(name, alias), champion.number if champion else None)
    moved = alias_history.moved(history, "promote", version.number, at=_now(), by=_who(), why=why)
    registry.move_alias(name, alias, version.number, moved, before=champion.number if champion else None)


def roll_back(registry: Registry, *, name: str, alias: str, why: str) -> tuple[Version, Version]:
    """Give an alias back to the version before.

    Returns:
        The version it named, and the one it names now.

    Raises:
        UserError: If there is no version to go back to.
        PromotionRefusedError: If somebody else moves the alias at the same moment.
    """
    current = registry.champion(name, alias)
    if current is None:
        raise UserError(f"{name}@{alias}: nobody has that alias. Promote a model first: `sweep promote STUDY`.")
    history = alias_history.settled(registry.history(name, alias), current.number)
    for number in alias_history.earlier(history):
        version = registry.version(name, number)
        # A version that somebody deleted is passed over.
        if version is not None:
            moved = alias_history.moved(history, "rollback", number, at=_now(), by=_who(), why=why)
            registry.move_alias(name, alias, number, moved, before=current.number)
            return current, version
    raise UserError(f"{name}@{alias}: version {current.number} is the first that had it; there is none to go back to.")


def _gate(
    examiner: Examiner,
    registry: Registry,
    spec: StudySpec,
    chosen: Winner,
    lineage: Lineage,
    content: str,
    champion: Version | None,
    *,
    if_better: bool,
    note: Callable[[str], None],
) -> Decision:
    if champion is None:
        return Decision(passes=True, kind="first", reason="there is no champion to beat")
    with registry.fetched(champion.uri) as folder:
        try:
            theirs = read_lineage(folder)
            verify_files(folder, theirs)
        except VerificationError as err:
            raise VerificationError(
                f"{champion.uri}, the champion: {err} Roll back, or move the alias in MLflow."
            ) from err
        # The files of the weights alone: what makes it servable comes on top.
        own = {file: digest for file, digest in theirs.files.items() if (chosen.model / file).is_file()}
        if content_of(own) == content:
            return Decision(
                passes=True, kind="already", reason=f"it is the champion already, version {champion.number}"
            )
        objection = _incomparable(lineage, theirs)
        if objection is not None:
            return Decision(passes=False, kind="incomparable", reason=objection)
        note(f"evaluating the champion, version {champion.number}, on the test split of {spec.study!r}")
        return decide(_compare(examiner, spec, chosen, lineage, champion, folder, theirs, note), if_better=if_better)


def _incomparable(ours: Lineage, theirs: Lineage) -> str | None:
    """Why two models cannot be held against each other, with the remedy; None if they can."""
    if not dict(ours.data.get("rows") or {}).get("test"):
        return "it has no test split to compare on. Give the study test rows (data.test or test_fraction)"
    if theirs.task != ours.task:
        return f"the champion's task is {theirs.task}, not {ours.task}. Register it under another --name"
    mine, other = list(ours.data.get("labels") or []), list(theirs.data.get("labels") or [])
    if mine != other:
        return f"its labels {mine} are not the champion's {other}. Register it under another --name"
    splits = [one.data.get("test_hash") for one in (ours, theirs)]
    if theirs.data.get("data_hash") == ours.data.get("data_hash") and all(splits) and len(set(splits)) > 1:
        written = dict(theirs.objective.get("data") or {})
        own = ", ".join(f"{key}: {written[key]}" for key in _SPLIT if key in written)
        return (
            "the champion was trained on another split of the same data, so it may know the test rows by heart. "
            f"Give the study the champion's split{f' ({own})' if own else ''}, or register it under another --name"
        )
    return None


def _compare(
    examiner: Examiner,
    spec: StudySpec,
    chosen: Winner,
    lineage: Lineage,
    champion: Version,
    folder: Path,
    theirs: Lineage,
    note: Callable[[str], None],
) -> Comparison:
    name, rows = spec.rule.name, int(lineage.data["rows"]["test"])
    prepared = examiner.prepared(lineage)
    # The challenger's rows, in the champion's own tokens; its configuration has layers and dropout as trained.
    training = {**theirs.settings, "keep_layers": None, "dropout": None, "freeze": []}
    objective = {**lineage.objective, "model": str(folder), "training": training, "space": {}}
    own = examiner.prepare(theirs.task, objective, spec.layout.prepared)
    if own["data_hash"] != lineage.data["data_hash"]:
        raise VerificationError(f"{spec.study}: its data has changed since. Restore it, then promote again.")

    who = "soup" if chosen.trial_number is None else f"trial {chosen.trial_number}"
    opened = TestOpening(at=SystemClock().now(), reason="promotion", models=(who, champion.uri))
    note(f"the test split is {said(record_opening(spec.layout, opened))}: for this comparison")
    pair = [
        ModelOnSplit(model=model, prepared=str(data), settings=examiner.settings(origin))
        for model, data, origin in ((chosen.model, prepared, lineage), (folder, own["folder"], theirs))
    ]
    with tempfile.TemporaryDirectory(prefix="sweep-") as answers:
        found = objective_jobs.assess_models(
            examiner.parent, pair, task=lineage.task, split="test", metric=name, level=LEVEL, folder=Path(answers)
        )
    challenger, holder = (one["metrics"][name] for one in found["models"])
    sign = spec.rule.sign
    difference, answered = found["difference"], found["models"][0]["rows"]
    return Comparison(
        metric=name,
        direction=spec.rule.direction,
        rows=rows if answered is None else answered,
        challenger=challenger,
        champion=holder,
        gain=sign * (challenger - holder),
        interval=None if difference is None else sorted(sign * bound for bound in difference["interval"]),
        p_value=None if difference is None else difference["p_value"],
        note=found["note"],
    )


def register(
    registry: Registry,
    storage: Path,
    chosen: Winner,
    lineage: Lineage,
    offer: Mapping[str, Any],
    *,
    name: str,
    content: str,
) -> Version:
    """Make a model servable and register it, unless a version has this content already.

    Args:
        registry: Where to.
        storage: For scratch files: weights are linked where they lie on the same disk.
        chosen: The model.
        lineage: Its origin.
        offer: How it is served; see :meth:`sweep.ports.Deployable.serving`.
        name: The registered model.
        content: Hash of its weights, tokenizer and config.
    """
    known = registry.version_of(name, content)
    if known is not None:
        return known

    def add(folder: Path, origin: Lineage) -> Lineage:
        make_servable(folder, offer, created_at=origin.created_at)
        return origin

    with tempfile.TemporaryDirectory(prefix=_SCRATCH, dir=storage) as scratch:
        package = Path(scratch) / "model"
        complete = export_model(chosen.model, lineage, package, link=True, add=add)
        metric = complete.metric["name"]
        tags = {
            "sweep.study": lineage.study,
            "sweep.trial_number": str(chosen.trial_number),
            "sweep.step": str(chosen.step),
            "sweep.seed": str(chosen.seed),
            "sweep.data_hash": str(complete.data.get("data_hash")),
            PACKAGE: content_of(hashes_of(package)),
            f"sweep.validation.{metric}": f"{complete.validation[metric]:.6f}",
            **({f"sweep.test.{metric}": f"{complete.test[metric]:.6f}"} if complete.test else {}),
            "sweep.registered_by": _who(),
            "sweep.registered_at": _now(),
        }
        origin = Origin(study=chosen.study, run_id=complete.run_id, trial_number=chosen.run, step=chosen.step)
        return registry.publish(
            package, name, content=content, origin=origin, tags=tags, description=card_text(complete)
        )


@contextmanager
def _turn(storage: Path, note: Callable[[str], None]) -> Iterator[None]:
    """One promotion at a time in a storage; the kernel lets go when the process dies."""
    path = storage / "registry.lock"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as err:
        raise SweepError(f"{path}: cannot be opened for writing ({err}). Make the storage writable.") from err
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            note("another promotion is under way; waiting for it")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        # Whoever was killed left its scratch folder.
        for left in storage.glob(f"{_SCRATCH}*"):
            shutil.rmtree(left, ignore_errors=True)
        yield
    finally:
        os.close(descriptor)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _who() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"
