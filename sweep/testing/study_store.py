"""What every study store must do, whatever it writes to.

Each function takes a way to make a fresh store and one to open it again, and raises AssertionError.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sweep.domain import AttemptEnd, Report, Setback, Spent, Trial, TrialState
from sweep.errors import StudyStoreError
from sweep.ports import StudyStore

METRIC = "accuracy"


@dataclass(frozen=True, slots=True)
class StoreUnderTest:
    """How to get at a store of a study that maximizes ``accuracy`` by its best evaluation.

    Attributes:
        create: Begins the study.
        reopen: Opens it again, as after a crash; the first store is not closed before.
    """

    create: Callable[[], StudyStore]
    reopen: Callable[[], StudyStore]


def evaluation(
    trial_number: int, step: int, value: float, *, fidelity: float | None = None, attempt: int = 1
) -> Report:
    """A report as an objective would make it."""
    return Report(
        trial_number=trial_number,
        attempt=attempt,
        step=step,
        fidelity=step / 10 if fidelity is None else fidelity,
        metrics={METRIC: value, "loss": 1 - value},
        checkpoint=f"/checkpoints/trial-{trial_number:04d}/step-{step:08d}",
        wall_seconds=step * 1.5,
        reported_at=1_700_000_000.25 + step,
    )


def check_life_of_a_trial(under_test: StoreUnderTest) -> None:
    """Ask, attempt, pause, attempt, report, tell and test metrics, each of them durable at once."""
    store = under_test.create()
    asked = store.ask()
    _expect(asked.number == 0 and asked.state is TrialState.RUNNING and asked.attempt == 0, asked)
    _expect(store.begin_attempt(0) == 1, "first attempt is 1")
    first, second, third = (evaluation(0, s, v) for s, v in ((4, 0.7), (8, 0.9), (12, 0.8)))
    store.report(first, 0.7)
    setback = Setback(attempt=1, end=AttemptEnd.OOM, step=4, reason="out of memory")
    store.pause(0, setback)
    store.pause(0, setback)
    paused = _same_after_reopening(under_test, store)[0]
    _expect(paused.state is TrialState.PAUSED and paused.value == 0.7 and paused.attempt == 1, paused)
    _expect(paused.setbacks == (setback,) and paused.micro_batch_split == 2, "a setback is kept once")
    _expect(store.begin_attempt(0) == 2, "second attempt is 2")
    _expect(_same_after_reopening(under_test, store)[0].state is TrialState.RUNNING, "an attempt wakes a trial")
    store.report(second, 0.9)
    store.report(third, 0.9)
    running = _same_after_reopening(under_test, store)[0]
    _expect(running.value == 0.9 and running.step == 8 and running.checkpoint == second.checkpoint, running)
    store.tell(0, TrialState.COMPLETE, second)
    store.keep_test(0, {METRIC: 0.85})
    store.spend(Spent(seconds=3600.5, gpu_seconds=1.25))
    _expect(under_test.reopen().spent == store.spent == Spent(seconds=3600.5, gpu_seconds=1.25), "spending is kept")
    done = _same_after_reopening(under_test, store)[0]
    _expect(done.state is TrialState.COMPLETE and done.value == 0.9 and done.step == 8, done)
    _expect(done.metrics == second.metrics and done.test == {METRIC: 0.85}, done)
    _expect(done.wall_seconds == third.wall_seconds and done.attempt == 2, done)
    _expect(done.hyperparameters == asked.hyperparameters, "hyperparameters never change")
    _expect(done.ended_at is not None and done.started_at is not None, "times are known")
    _expect(list(store.reports(0)) == [first, second, third], "reports come back equal, by step")
    store.close()
    store.close()


def check_reports_are_idempotent(under_test: StoreUnderTest) -> None:
    """A step that is already stored is ignored, also after the trial's end and after reopening."""
    store = under_test.create()
    store.ask()
    store.begin_attempt(0)
    first = evaluation(0, 4, 0.7)
    store.report(first, 0.7)
    store.report(evaluation(0, 4, 0.1, attempt=2), 0.1)
    store.tell(0, TrialState.COMPLETE, first)
    store.report(first, 0.7)
    store = under_test.reopen()
    store.report(first, 0.7)
    _expect(list(store.reports(0)) == [first], "the first report of a step counts")
    store.close()


def check_tell_is_idempotent(under_test: StoreUnderTest) -> None:
    """The same end again is ignored; another end, or going on after it, is refused."""
    store = under_test.create()
    for state in (TrialState.FAILED, TrialState.OOM, TrialState.CANCELLED, TrialState.TIMEOUT):
        number = store.ask().number
        store.begin_attempt(number)
        store.tell(number, state, None, "why")
    store = under_test.reopen()
    for number, state in enumerate((TrialState.FAILED, TrialState.OOM, TrialState.CANCELLED, TrialState.TIMEOUT)):
        store.tell(number, state, None, "another text")
        trial = store.trials()[number]
        _expect(trial.state is state and trial.error == "why" and trial.value is None, trial)
        _refused(lambda n=number: store.tell(n, TrialState.PRUNED, None))  # type: ignore[misc]
        _refused(lambda n=number: store.begin_attempt(n))  # type: ignore[misc]
        _refused(lambda n=number: store.pause(n))  # type: ignore[misc]
        _refused(lambda n=number: store.report(evaluation(n, 4, 0.5), 0.5))  # type: ignore[misc]
    store.close()


def check_misuse_is_refused(under_test: StoreUnderTest) -> None:
    """Unknown trials, ends that are none, and a COMPLETE without an evaluation."""
    store = under_test.create()
    store.ask()
    _refused(lambda: store.begin_attempt(1))
    _refused(lambda: store.should_prune(-1))
    _refused(lambda: store.tell(0, TrialState.PAUSED, None))
    _refused(lambda: store.tell(0, TrialState.COMPLETE, None))
    _refused(lambda: store.keep_test(0, {METRIC: 0.5}))
    store.close()
    _refused(lambda: store.ask())


def check_reopening_goes_on_where_it_was(under_test: StoreUnderTest) -> None:
    """Numbers continue, no configuration comes twice, and waiting verdicts are still there."""
    store = under_test.create()
    verdicts = []
    for number in range(6):
        store.ask()
        store.begin_attempt(number)
        for step in (5, 10, 20):
            store.report(evaluation(number, step, 0.9 - number / 100 + step / 1000), 0.9)
        verdicts.append(store.should_prune(number))
    store = under_test.reopen()
    _expect([store.should_prune(n) for n in range(6)] == verdicts, "verdicts outlive the driver")
    trial = store.ask()
    _expect(trial.number == 6, trial)
    drawn = [tuple(sorted(t.hyperparameters.items(), key=str)) for t in store.trials()]
    _expect(len(set(drawn)) == len(drawn), "a configuration came twice")
    store.close()


def _same_after_reopening(under_test: StoreUnderTest, store: StudyStore) -> list[Trial]:
    trials = list(store.trials())
    again = under_test.reopen()
    _expect(list(again.trials()) == trials, (trials, again.trials()))
    for trial in trials:
        _expect(list(again.reports(trial.number)) == list(store.reports(trial.number)), "reports differ")
    again.close()
    return trials


def _refused(call: Callable[[], object]) -> None:
    try:
        call()
    except StudyStoreError:
        return
    raise AssertionError("was not refused")


def _expect(is_true: bool, told: object) -> None:
    if not is_true:
        raise AssertionError(told)


CHECKS = (
    check_life_of_a_trial,
    check_reports_are_idempotent,
    check_tell_is_idempotent,
    check_misuse_is_refused,
    check_reopening_goes_on_where_it_was,
)
