"""A study as plain values: true, incremental, readable while it is written, and without secrets."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from sweep.cli.status import status_of
from sweep.domain import AttemptEnd, Planned, Report, Setback, Spent, TrialState
from sweep.engine.lock import driver_lock
from sweep.search import OptunaStore
from sweep.spec import spec_text
from sweep.study_view import StudyView, StudyWatch, read_study, to_json
from sweep.testing.study_store import evaluation
from tests.written_history import BEGAN_AT, Clock, spec_in, write_study


class Written:
    """A study that a test writes step by step, a minute later each time."""

    def __init__(self, folder: Path, *overrides: str, study: str = "written") -> None:
        self.spec = spec_in(folder, *overrides).model_copy(update={"study": study})
        self.clock = Clock()
        self.spec.layout.folder.mkdir(parents=True)
        self.spec.layout.spec.write_text(spec_text(self.spec.resolved()))
        self.store = OptunaStore.create(self.spec, now=self.clock)

    def begin(self, worker: str | None = "host/0", plan: Planned | None = None) -> int:
        number = self.store.ask(plan).number
        self.begin_again(number, worker)
        return number

    def begin_again(self, number: int, worker: str | None = "host/0") -> None:
        self.store.begin_attempt(number)
        if worker is not None:
            self.store.attempt_started(number, worker)

    def report(self, number: int, fidelity: float, value: float, *, seconds: float, attempt: int = 1) -> Report:
        self.clock.now = BEGAN_AT + seconds
        report = Report(
            trial_number=number,
            attempt=attempt,
            step=round(fidelity * 100),
            fidelity=fidelity,
            metrics={self.spec.rule.name: value},
            checkpoint=None,
            wall_seconds=seconds,
            reported_at=self.clock.now,
        )
        self.store.report(report, value)
        return report

    def view(self) -> StudyView:
        return read_study(self.spec)

    def read_by_its_driver(self) -> StudyView:
        with driver_lock(self.spec.layout.lock, study=self.spec.study, now=BEGAN_AT):
            return self.view()


@pytest.fixture
def written(tmp_path: Path) -> Written:
    return Written(tmp_path)


def test_the_gain_of_a_trial_is_over_the_defaults_and_better_is_positive_in_both_directions(tmp_path: Path) -> None:
    for metric, direction, better in (("accuracy", "maximize", 0.9), ("loss", "minimize", 0.5)):
        written = Written(tmp_path / metric, f"metric.name={metric}", f"metric.direction={direction}")
        for value in (0.7, better):
            number = written.begin()
            written.store.tell(number, TrialState.COMPLETE, written.report(number, 4, value, seconds=10))
        view = written.view()
        assert view.trials[0].gain == 0
        assert view.trials[1].gain == view.facts.gain == pytest.approx(0.2)
        assert view.ranking == (1, 0)


def test_in_a_final_each_run_is_held_against_the_defaults_on_its_own_seed(tmp_path: Path) -> None:
    final = Written(tmp_path, study="written.confirm")
    for index, (defaults, other) in enumerate([(0.6, 0.65), (0.7, 0.72)]):
        for confirms, value in ((0, defaults), (3, other)):
            plan = Planned(confirms=confirms, seed_index=index, hyperparameters=final.spec.defaults())
            number = final.begin(plan=plan)
            final.store.tell(number, TrialState.COMPLETE, final.report(number, 4, value, seconds=10))
    view = final.view()
    assert [round(trial.gain or 0.0, 9) for trial in view.trials] == [0, 0.05, 0, 0.02]
    assert [trial.is_baseline for trial in view.trials] == [True, False, True, False]
    assert [trial.name for trial in view.trials][1:3] == ["trial 3 on seed 1", "trial 0 on seed 2"]
    facts = view.facts
    assert (facts.best, facts.baseline, facts.baseline_value, facts.gain) == (3, 2, 0.7, pytest.approx(0.02))
    status = status_of(final.spec)
    assert (status["best"]["trial_number"], status["baseline"]["trial_number"]) == (3, 2)
    assert status["gain"] == pytest.approx(0.02)


def test_what_pruning_saved_is_the_rest_of_the_run_at_the_trials_own_pace(written: Written) -> None:
    written.begin()
    number = written.begin()
    written.report(number, 0.25, 0.5, seconds=20)
    # 10 s an epoch between the two: what came before the first is no part of the pace.
    chosen = written.report(number, 1.25, 0.6, seconds=30)
    written.store.tell(number, TrialState.PRUNED, chosen)
    assert written.view().spend.saved_seconds == pytest.approx((4 - 1.25) * 10)


def test_a_trial_that_was_cut_at_its_first_evaluation_saved_by_its_mean_pace(written: Written) -> None:
    number = written.begin()
    written.store.tell(number, TrialState.PRUNED, written.report(number, 0.25, 0.5, seconds=5))
    spend = written.view().spend
    assert spend.saved_seconds == spend.saved_cpu_seconds == pytest.approx((4 - 0.25) * 20)
    assert spend.saved_gpu_seconds == 0


def test_spend_counts_every_attempt_with_the_cores_and_gpus_that_a_trial_holds(tmp_path: Path) -> None:
    written = Written(tmp_path, "resources.cpus_per_trial=2", "resources.gpus_per_trial=0.5")
    number = written.begin()
    written.clock.now += 30
    written.store.pause(number, Setback(attempt=1, end=AttemptEnd.LOST, step=0, reason="killed"))
    written.clock.now += 1000  # waiting costs nothing
    written.begin_again(number)
    written.clock.now += 10
    written.store.tell(number, TrialState.FAILED, None, "why")
    spend = written.view().spend
    assert (spend.seconds, spend.cpu_seconds, spend.gpu_seconds) == (40, 80, 20)
    assert spend.lost_seconds == 40
    assert spend.by_state == {"FAILED": 40}


def test_rungs_tell_who_reached_them_who_was_cut_and_who_was_best(written: Written) -> None:
    curves = [(0.25, 0.75, 2.25, 4.0), (0.25,), (0.25, 0.75), (0.25,)]
    for number, curve in enumerate(curves):
        written.begin()
        for fidelity in curve:
            chosen = written.report(number, fidelity, 0.5 + number / 100 + fidelity / 10, seconds=fidelity * 10)
        if number != 3:
            written.store.tell(number, TrialState.COMPLETE if number == 0 else TrialState.PRUNED, chosen)
    rungs = written.view().rungs
    assert [(r.fidelity, r.reached, r.cut, r.best_trial) for r in rungs] == [
        (0.25, 4, 1, 3),
        (0.75, 2, 1, 2),
        (2.25, 1, 0, 0),
        (4.0, 1, 0, 0),
    ]
    assert [rung.is_full_run for rung in rungs] == [False, False, False, True]


def test_attempts_that_ended_badly_are_marked_with_worker_and_times(written: Written) -> None:
    number = written.begin("host/0")
    written.clock.now += 5
    written.store.pause(number, Setback(attempt=1, end=AttemptEnd.OOM, step=0, reason="out of memory"))
    written.begin_again(number, "host/1")
    chosen = written.report(number, 4, 0.5, seconds=60, attempt=2)
    written.store.tell(number, TrialState.COMPLETE, chosen)
    spans = written.view().timeline
    assert [(s.worker, s.end, s.is_bad, s.began_at - BEGAN_AT, (s.ended_at or 0) - BEGAN_AT) for s in spans] == [
        ("host/0", "OOM", True, 0, 5),
        ("host/1", "FINISHED", False, 5, 60),
    ]


def test_without_its_driver_nothing_runs_and_the_attempt_was_lost_when_it_was_last_heard_of(written: Written) -> None:
    number = written.begin()
    written.report(number, 0.25, 0.5, seconds=7)
    running = written.read_by_its_driver()
    assert (running.facts.state, running.trials[0].state, running.timeline[0].end) == ("RUNNING", "RUNNING", "RUNNING")
    assert running.timeline[0].ended_at is None
    dead = written.view()
    assert (dead.facts.state, dead.trials[0].state, dead.timeline[0].end) == ("PAUSED", "PAUSED", "LOST")
    assert dead.timeline[0].ended_at == BEGAN_AT + 7


def test_a_history_of_an_older_release_knows_no_workers_and_is_read_all_the_same(written: Written) -> None:
    number = written.begin(worker=None)
    written.store.pause(number, Setback(attempt=1, end=AttemptEnd.LOST, step=0, reason="killed"))
    written.begin_again(number, worker=None)
    written.store.tell(number, TrialState.COMPLETE, written.report(number, 4, 0.5, seconds=60, attempt=2))
    trial = written.view().trials[0]
    assert (trial.spans, trial.attempts, trial.seconds, len(trial.setbacks)) == ((), 2, 60, 1)


def test_a_further_look_gives_what_has_changed_and_the_same_objects_for_the_rest(written: Written) -> None:
    for _ in range(3):
        written.begin()
    with StudyWatch(written.spec) as watch:
        first = watch.read()
        assert watch.read().changed_since(first.token) == ()
        written.report(1, 0.25, 0.5, seconds=5)
        second = watch.read()
        assert [trial.number for trial in second.changed_since(first.token)] == [1]
        assert second.trials[0] is first.trials[0]
        written.begin()
        third = watch.read()
        assert [trial.number for trial in third.changed_since(second.token)] == [3]
        assert [trial.number for trial in third.changed_since(first.token)] == [1, 3]
        for unknown in (None, "", "another-7", first.token + "x"):
            assert third.changed_since(unknown) == third.trials
        # The gain of all of them is over the defaults, which have a value only now.
        written.report(0, 0.25, 0.4, seconds=6)
        assert [trial.number for trial in watch.read().changed_since(third.token)] == [0, 1]


def test_a_test_score_and_a_larger_budget_are_seen_by_a_reader_that_looked_before(written: Written) -> None:
    number = written.begin()
    written.store.tell(number, TrialState.COMPLETE, written.report(number, 4, 0.5, seconds=5))
    with StudyWatch(written.spec) as watch:
        before = watch.read()
        written.store.keep_test(number, {"accuracy": 0.45})
        larger = {**written.spec.resolved(), "budget": {"trials": 99, "hours": None}}
        written.spec.layout.spec.write_text(spec_text(larger))
        view = watch.read()
    assert view.changed_since(before.token)[0].test == {"accuracy": 0.45}
    assert view.facts.trials == 99


def test_the_time_left_counts_what_is_done_of_the_running_trials(written: Written) -> None:
    assert written.view().eta_seconds is None
    for number in range(2):
        written.begin()
        written.store.tell(number, TrialState.COMPLETE, written.report(number, 4, 0.5, seconds=60 * (number + 1)))
    for slot in range(2):
        written.begin(f"host/{slot}")
    with (
        driver_lock(written.spec.layout.lock, study="written", now=BEGAN_AT),
        StudyWatch(written.spec, now=lambda: BEGAN_AT + 150) as watch,
    ):
        eta = watch.read().eta_seconds
    # 18 trials are left for two workers, each of which has been at one for 30 s.
    each = (60 + 120) / 2
    assert eta == pytest.approx((18 * each - 2 * 30) / 2)


def test_the_time_left_counts_the_final_and_what_the_sessions_before_have_spent(tmp_path: Path) -> None:
    def eta(folder: Path, *overrides: str) -> float:
        written = Written(folder, *overrides)
        written.begin()
        written.store.tell(0, TrialState.COMPLETE, written.report(0, 4, 0.5, seconds=60))
        written.begin()
        written.store.tell(1, TrialState.PRUNED, written.report(1, 1, 0.4, seconds=80))
        written.begin()
        written.store.spend(Spent(seconds=3000.0))
        with (
            driver_lock(written.spec.layout.lock, study="written", now=BEGAN_AT),
            StudyWatch(written.spec, now=lambda: BEGAN_AT + 80) as watch,
        ):
            found = watch.read().eta_seconds
        written.store.close()
        assert found is not None
        return found

    search = eta(tmp_path / "search")
    # Full runs, as trial 0 was: two finalists and the defaults on five seeds.
    final = eta(tmp_path / "final", "confirm={finalists: 2, seeds: 5}")
    assert final == pytest.approx(search + 15 * 60)
    assert eta(tmp_path / "hours", "budget.hours=1") == pytest.approx(3600 - 3000)


def test_errors_are_one_telling_line_without_secrets(written: Written) -> None:
    number = written.begin()
    error = 'Traceback (most recent call last):\n  File "a.py", line 1\nValueError: https://me:hunter22@host refused'
    written.store.tell(number, TrialState.FAILED, None, error)
    told = written.view().trials[0].error
    assert told is not None
    assert told.startswith("ValueError: https://")
    assert "hunter22" not in json.dumps(to_json(written.view()))


@pytest.mark.parametrize(
    ("text", "shown"), [(None, None), ("{", None), ("[]", None), ('{"sentence": "so"}', {"sentence": "so"})]
)
def test_a_verdict_is_shown_where_there_is_one(written: Written, text: str | None, shown: object) -> None:
    if text is not None:
        (written.spec.layout.folder / "verdict.json").write_text(text)
    assert written.view().verdict == shown


def test_the_whole_view_is_json_by_the_standard(tmp_path: Path) -> None:
    spec = spec_in(tmp_path, "budget.trials=30")
    write_study(spec, 30)
    view = read_study(spec)
    again = json.loads(json.dumps(to_json(view), allow_nan=False))
    assert len(again["trials"]) == 30
    assert again["facts"]["state"] == "COMPLETE"
    assert sum(view.facts.counts.values()) == view.facts.finished == 30
    assert view.spend.saved_seconds > 0
    assert {span.end for span in view.timeline} >= {"FINISHED", "STOPPED", "LOST"}
    assert view.facts.began_at == BEGAN_AT


def test_a_reader_sees_the_values_of_a_fresh_one_after_each_write(written: Written) -> None:
    number = 0
    steps: list[Callable[[], object]] = [
        lambda: written.begin(),
        lambda: written.report(0, 0.25, 0.5, seconds=5),
        lambda: written.store.pause(0),
        lambda: written.begin_again(0),
        lambda: written.store.tell(0, TrialState.COMPLETE, evaluation(number, 50, 0.6, fidelity=4)),
        lambda: written.store.keep_test(0, {"accuracy": 0.5}),
    ]
    with StudyWatch(written.spec) as watch:
        for step in steps:
            step()
            fresh, seen = to_json(read_study(written.spec)), to_json(watch.read())
            for view in (fresh, seen):
                view.pop("token"), view.pop("at")
                for trial in view["trials"]:
                    del trial["version"]
            assert seen == fresh
