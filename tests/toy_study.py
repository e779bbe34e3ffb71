"""A real study of toy trials on this host: engine, trial processes, store, spool and writer, without Ray or a model.

As a program (``python -m tests.toy_study FOLDER``) it is a driver to be killed: two trials report, then hang.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sweep.clock import SystemClock
from sweep.domain import Assignment, Report, TrainRequest, Trial, ranked
from sweep.engine.control import StopRequest
from sweep.engine.lock import driver_lock
from sweep.engine.loop import LoopResult, StudyLoop
from sweep.execution.local import LocalExecutor
from sweep.execution.warm_client import WarmParent
from sweep.ports import AttemptLimits, StudyBegun, StudyOver
from sweep.search import OptunaStore
from sweep.spec import parse_spec, spec_text
from sweep.testing.doubles import MemoryKeeper, SilentObserver
from sweep.testing.toy_objectives import ToyObjective
from sweep.tracking import SpoolRecorder, undelivered
from tests.mlflow_server import no_constant

SPEC = """
study: toy
objective:
  model: bundled:minilm-l6
  data: bundled:tweets
  training: {epochs: 4}
search:
  learning_rate: 1e-6..1e-2 log
  sampler: random
  pruner: none
metric: {name: accuracy, from: best}
on: {failed: {retries: 0, stop_after: 99}, lost: {retries: 0}, oom: {halvings: 1}}
storage: .
"""

LAST = "last"
"""Key of what a trial does in every later attempt."""


class OddObjective(ToyObjective):
    """A toy whose settings may add metrics to every report."""

    def _report(self, request: TrainRequest, step: int) -> Report:
        report = super()._report(request, step)
        return replace(report, metrics={**report.metrics, **request.settings.get("metrics", {})})


def load(name: str) -> OddObjective:
    return OddObjective()


class ToyStudy:
    """Sessions of a driver, one after another.

    Args:
        folder: The storage.
        settings: What each trial does; see ``ToyObjective``.
        uri: MLflow; the storage's own store if it is None.
        name: The study's name.
    """

    def __init__(
        self, folder: Path, settings: Sequence[Mapping[str, Any]], *, uri: str | None = None, name: str = "toy"
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        overrides = [f"budget.trials={len(settings)}", f"study={name}"]
        overrides += [f"tracking.uri={uri}"] if uri else []
        self.spec = parse_spec(SPEC, place="study.yaml", folder=folder, overrides=overrides)
        self.layout = self.spec.layout
        self.uri = uri or self.layout.tracking_uri
        self.settings = settings
        self.layout.folder.mkdir(parents=True, exist_ok=True)
        self.layout.spec.write_text(spec_text(self.spec.resolved()))

    def run(self, *, observer: SilentObserver | None = None, silence_seconds: float = 60.0) -> LoopResult:
        """Drive it to its budget and close the record."""
        is_new = not self.layout.history.exists()
        clock = SystemClock()
        with driver_lock(self.layout.lock, study=self.spec.study, now=clock.now()):
            store = OptunaStore.create(self.spec) if is_new else OptunaStore.open(self.spec)
            recorder = SpoolRecorder(self.layout, self.uri)
            parent = WarmParent(("sweep.testing.toy_objectives",))
            limits = AttemptLimits(silence_seconds=silence_seconds, grace_seconds=1.0)
            executor = LocalExecutor(2, parent, "odd", loader="tests.toy_study:load", limits=limits)
            try:
                recorder.record(
                    StudyBegun(
                        study=self.spec.study, spec=self.spec.resolved(), data={}, environment={}, at=clock.now()
                    )
                )
                loop = StudyLoop(
                    spec=self.spec,
                    store=store,
                    executor=executor,
                    recorder=recorder,
                    keeper=MemoryKeeper(),
                    clock=clock,
                    observer=observer or SilentObserver(),
                    request_for=self._request,
                    log_of=self.layout.log,
                    artifacts_of=self.layout.artifacts,
                    stop_requested=lambda: StopRequest.NONE,
                )
                result = loop.run()
                trials = store.trials()
                ranking = [trial.number for trial in ranked(trials, self.spec.rule)]
                recorder.record(
                    StudyOver(state=result.state, ranking=ranking, counts=loop.snapshot().counts, at=clock.now())
                )
                assert recorder.close(60) == 0
                return result
            finally:
                executor.close()
                parent.close()
                store.close()
                recorder.close(0.5)

    def sweep(self, verb: str, *arguments: str, expect: int = 0) -> subprocess.CompletedProcess[str]:
        """The command line on this study."""
        command = [sys.executable, "-m", "sweep.cli.main", verb, self.spec.study, *arguments]
        command += ["--storage", str(self.layout.storage)]
        result = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert result.returncode == expect, f"{verb}: {result.returncode}\n{result.stdout}\n{result.stderr}"
        assert "Traceback" not in result.stderr
        return result

    def json(self, verb: str, *arguments: str, expect: int = 0) -> Any:
        """What a verb prints, which must be JSON by the standard."""
        printed = self.sweep(verb, *arguments, "--json", expect=expect).stdout
        return json.loads(printed, parse_constant=no_constant)

    def _request(self, assignment: Assignment) -> TrainRequest:
        wanted = self.settings[assignment.trial_number]
        return TrainRequest(
            assignment=assignment,
            prepared="",
            model="",
            settings=wanted.get(LAST, {}) if assignment.attempt > 1 and LAST in wanted else wanted,
            metric=self.spec.rule,
            evaluate_at=self.spec.evaluate_at,
            fidelity_unit=self.spec.fidelity_unit,
            checkpoints=str(self.layout.checkpoints(assignment.trial_number)),
            artifacts=str(self.layout.artifacts(assignment.trial_number)),
        )


class Doing(SilentObserver):
    """Does something at each report."""

    def __init__(self, action: Callable[[Report], None]) -> None:
        super().__init__()
        self._action = action

    def reported(self, trial: Trial, report: Report) -> None:
        self._action(report)


def main() -> None:
    study = ToyStudy(Path(sys.argv[1]), [{"reports": 2, "then": "hang"}] * 2)
    seen: set[tuple[int, int]] = set()

    def tell(report: Report) -> None:
        seen.add((report.trial_number, report.step))
        while len(seen) == 4 and undelivered(study.layout):
            time.sleep(0.1)
        if len(seen) == 4:
            print("delivered", flush=True)

    study.run(observer=Doing(tell))


if __name__ == "__main__":
    main()
