"""What every objective must do, a user's own too.

Each check takes an objective and a small study of it, and raises AssertionError. In a test of yours::

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    def test_my_objective_keeps_the_promise(check, tmp_path):
        spec = parse_spec(SPEC, place="study.yaml", folder=tmp_path)
        check(ObjectiveUnderTest(create=MyObjective, spec=spec))
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from sweep import objective_jobs
from sweep.checkpoints import FolderKeeper, intact, model_folder, read_manifest
from sweep.domain import Assignment, Report, TrainRequest, trial_seed
from sweep.ports import DivergedError, LeftEarly, Objective, PredictingObjective
from sweep.selection.predictions import check_columns, numbers
from sweep.spec import StudySpec

_TRIAL = 3
_KEYS = {"folder", "data_hash", "rows", "labels", "training_rows", "checkpoint_bytes", "warnings"}
_CLOCKED = frozenset({"examples_per_second"})


@dataclass(frozen=True, kw_only=True)
class ObjectiveUnderTest:
    """An objective, and a study of it that takes seconds.

    Attributes:
        create: Makes the objective, as the loader does.
        spec: The study; at least three evaluations, its storage in a folder of the test's own.
        clocked: Metrics that depend on the clock or the machine, besides ``system/…`` and ``examples_per_second``.
        diverging: Settings with which its loss becomes NaN or infinite; empty leaves that check out.
        resumes: Whether it keeps checkpoints; one that does not begins every attempt anew.
    """

    create: Callable[[], Objective]
    spec: StudySpec
    clocked: frozenset[str] = frozenset()
    diverging: Mapping[str, Any] = field(default_factory=dict)
    resumes: bool = True

    def prepared(self) -> dict[str, Any]:
        """The data, prepared as a study prepares it."""
        summary = self.create().prepare(self.settings, self.spec.layout.prepared)
        return {**summary, "model": self.spec.objective.model}

    @cached_property
    def _data(self) -> dict[str, Any]:
        return self.prepared()

    @property
    def settings(self) -> dict[str, Any]:
        """What ``prepare`` is given: JSON, as it comes from another process."""
        settings: dict[str, Any] = json.loads(json.dumps(self.spec.objective_settings()))
        return settings

    def request(self, name: str = "", *, attempt: int = 1, start_from: str | None = None) -> TrainRequest:
        """Trial 0's configuration, as a trial whose folders are called ``name``."""
        assignment = Assignment(
            trial_number=_TRIAL,
            attempt=attempt,
            hyperparameters=self.spec.defaults(),
            seed=trial_seed(self.spec.search.seed, _TRIAL),
            start_from=start_from,
        )
        made = objective_jobs.request_maker(self.spec, self._data)(assignment)
        folder = Path(self.spec.storage) / f"under-test{name}"
        return dataclasses.replace(made, checkpoints=str(folder / "checkpoints"), artifacts=str(folder / "artifacts"))

    def steady(self, report: Report) -> tuple[int, float, dict[str, float]]:
        """What has to be the same again of a report."""
        unsteady = self.clocked | _CLOCKED
        metrics = {n: v for n, v in report.metrics.items() if n not in unsteady and not n.startswith("system/")}
        return report.step, report.fidelity, metrics


def check_prepare_is_idempotent(under_test: ObjectiveUnderTest) -> None:
    """Data is prepared once: the second call writes nothing and tells the same."""
    first = under_test.prepared()
    _expect(first.keys() >= _KEYS, f"prepare leaves out {sorted(_KEYS - first.keys())}")
    json.dumps(first, allow_nan=False)
    folder = Path(first["folder"])
    _expect(folder.parent == under_test.spec.layout.prepared, f"{folder} is not a sub-folder of the one given")
    before = _files(folder)
    again = under_test.prepared()
    _expect(_files(folder) == before, "prepare wrote again what was there")
    told = {key: value for key, value in first.items() if key != "reused"}
    _expect(told == {key: value for key, value in again.items() if key != "reused"}, "prepare tells something else")


def check_check_writes_nothing(under_test: ObjectiveUnderTest) -> None:
    """``check`` tries trial 0 and leaves no file; it names the study's metric among those reported."""
    request = under_test.request()
    before = _files(Path(under_test.spec.storage))
    found = under_test.create().check(request)
    _expect(_files(Path(under_test.spec.storage)) == before, "check left files behind")
    json.dumps(found, allow_nan=False)
    _expect(under_test.spec.rule.name in found["metrics"], f"{under_test.spec.rule.name} is not among the metrics")
    _expect(found["step_seconds"] > 0 and found["parameters"] >= 0, found)


def check_reports_ascend(under_test: ObjectiveUnderTest) -> None:
    """Steps and fidelities ascend, every metric is finite, the study's is there, and the last report is the end's."""
    request = under_test.request()
    reports = list(under_test.create().train(request))
    _expect(len(reports) >= 3, f"{len(reports)} reports are too few to test with: give the study three evaluations")
    for name in ("step", "fidelity", "wall_seconds"):
        values = [getattr(report, name) for report in reports]
        strictly = name != "wall_seconds"
        _expect(values == sorted(values) and (not strictly or len(set(values)) == len(values)), f"{name}: {values}")
    for report in reports:
        own = (report.trial_number, report.attempt) == (_TRIAL, 1)
        _expect(own and report.step >= 1, f"a report of another trial or attempt: {report}")
        _expect(all(map(math.isfinite, report.metrics.values())), f"step {report.step}: {report.metrics}")
        _expect(under_test.spec.rule.name in report.metrics, f"step {report.step} lacks {under_test.spec.rule.name}")
    full = float(request.settings[request.fidelity_unit])
    _expect(math.isclose(reports[-1].fidelity, full, rel_tol=0.05), f"ends at {reports[-1].fidelity}, not at {full}")


def check_checkpoint_is_committed_before_its_report(under_test: ObjectiveUnderTest) -> None:
    """Whoever has a report has its checkpoint, whole, whatever happens next."""
    for report in under_test.create().train(under_test.request()):
        if under_test.resumes or report.checkpoint is not None:
            _expect(report.checkpoint is not None, f"step {report.step} has no checkpoint")
            _expect(intact(Path(str(report.checkpoint))), f"{report.checkpoint} is not committed")


def check_same_seed_gives_the_same_trial(under_test: ObjectiveUnderTest) -> None:
    """Two runs of one trial are the same, number for number."""
    runs = [list(under_test.create().train(under_test.request(name))) for name in ("-one", "-other")]
    _expect_same(under_test, *runs)


def check_resumed_training_is_bit_identical(under_test: ObjectiveUnderTest) -> None:
    """Ended after any report and begun again from its checkpoint, a trial goes on as if nothing had been."""
    whole = list(under_test.create().train(under_test.request("-whole")))
    for count in range(1, len(whole)) if under_test.resumes else ():
        name = f"-broken-{count}"
        broken: Iterator[Report] = under_test.create().train(under_test.request(name))
        before = [next(broken) for _ in range(count)]
        getattr(broken, "close", lambda: None)()
        resumed = under_test.request(name, attempt=2, start_from=before[-1].checkpoint)
        after = list(under_test.create().train(resumed))
        again = dataclasses.replace(before[-1], attempt=2)
        _expect(bool(after) and after[0] == again, f"the newest report does not come again: {after[:1]}")
        _expect_same(under_test, [*before[:-1], *after], whole)


def check_leaving_loses_nothing(under_test: ObjectiveUnderTest) -> None:
    """Told to leave, it commits what it has and ends; the next attempt goes on there. Not to ask is allowed."""
    whole = list(under_test.create().train(under_test.request("-whole")))
    for times in (1, 5) if under_test.resumes else ():
        name = f"-left-{times}"
        objective, asked = under_test.create(), iter(range(times))
        objective.leaving = lambda asked=asked: next(asked, None) is None
        request, before = under_test.request(name), list[Report]()
        try:
            before.extend(objective.train(request))
        except LeftEarly:
            checkpoints = Path(request.checkpoints)
            newest = FolderKeeper(lambda _, folder=checkpoints: folder).newest(_TRIAL)  # type: ignore[misc]
            after = list(under_test.create().train(under_test.request(name, attempt=2, start_from=newest)))
            steps = {report.step for report in after}
            before = [*[report for report in before if report.step not in steps], *after]
        _expect_same(under_test, before, whole)


def check_divergence_is_told(under_test: ObjectiveUnderTest) -> None:
    """A loss that is no number ends the trial by DivergedError, and is never reported."""
    if not under_test.diverging:
        return
    request = under_test.request()
    request = dataclasses.replace(request, settings={**request.settings, **under_test.diverging})
    try:
        for report in under_test.create().train(request):
            _expect(all(map(math.isfinite, report.metrics.values())), f"step {report.step}: {report.metrics}")
    except DivergedError as told:
        _expect(bool(str(told)), "the error says nothing")
    else:
        raise AssertionError("training to infinity ended like any other")


def check_saved_model_is_evaluated_as_reported(under_test: ObjectiveUnderTest) -> None:
    """Where a checkpoint holds a model, ``evaluate`` gives what its report said; ``predict`` the answers behind it."""
    request = under_test.request()
    objective = under_test.create()
    report = list(objective.train(request))[-1]
    if report.checkpoint is None or not model_folder(Path(report.checkpoint)).is_dir():
        return
    where = (model_folder(Path(report.checkpoint)), Path(request.prepared), "validation", request.settings)
    found = under_test.create().evaluate(*where)
    for name in found.keys() & report.metrics.keys():
        both = (found[name], report.metrics[name])
        _expect(math.isclose(*both, rel_tol=1e-6, abs_tol=1e-6), f"{name}: {both[0]} evaluated, {both[1]} reported")
    if isinstance(objective, PredictingObjective):
        columns = objective.predict(*where)
        check_columns(columns)
        counted = objective.metrics(numbers(columns))
        for name, value in counted.items():
            _expect(math.isclose(value, found[name], rel_tol=1e-6, abs_tol=1e-9), f"{name}: {value}, not {found[name]}")


CHECKS: tuple[Callable[[ObjectiveUnderTest], None], ...] = (
    check_prepare_is_idempotent,
    check_check_writes_nothing,
    check_reports_ascend,
    check_checkpoint_is_committed_before_its_report,
    check_same_seed_gives_the_same_trial,
    check_resumed_training_is_bit_identical,
    check_leaving_loses_nothing,
    check_divergence_is_told,
    check_saved_model_is_evaluated_as_reported,
)


def _expect_same(under_test: ObjectiveUnderTest, one: list[Report], other: list[Report]) -> None:
    """The same reports, and the same weights and state in the last checkpoint, bit for bit."""
    steady = [[under_test.steady(report) for report in reports] for reports in (one, other)]
    for mine, yours in zip(*steady, strict=False):
        _expect(mine == yours, f"step {yours[0]}: {mine} is not {yours}")
    _expect(len(one) == len(other), f"{len(one)} reports are not {len(other)}")
    if one[-1].checkpoint is not None and other[-1].checkpoint is not None:
        hashes = [
            {name: entry.sha256 for name, entry in read_manifest(Path(path)).files.items() if name.endswith("tensors")}
            for path in (one[-1].checkpoint, other[-1].checkpoint)
        ]
        _expect(hashes[0] == hashes[1], "the last checkpoints hold other weights or another state")


def _files(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of change of each file under a folder."""
    found = [path for path in folder.rglob("*") if path.is_file()] if folder.is_dir() else []
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in found}


def _expect(holds: bool, what: object) -> None:
    if not holds:
        raise AssertionError(what)
