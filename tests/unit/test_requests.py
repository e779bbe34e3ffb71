"""What people ask of a running driver: end a trial, train more, try a configuration."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sweep import steering
from sweep.domain import Trial, TrialState
from sweep.engine.lock import driver_lock
from sweep.engine.requests import CancelTrial, Enqueue, Inbox, RaiseBudget, Request, send
from sweep.errors import InvalidSpecError, UserError
from sweep.spec.configuration import read_configuration, value_text
from sweep.spec.space import Choices, FloatRange, IntRange
from tests.simulated import Study

WANTED = {"learning_rate": 3e-4, "dropout": 0.25}
SPACE = {
    "learning_rate": FloatRange(low=1e-6, high=1e-2, log=True),
    "dropout": FloatRange(low=0.0, high=0.5, step=0.1),
    "batch_size": IntRange(low=8, high=64, step=8),
    "keep_layers": Choices(((0, 2, 5), (0, 5), None)),
    "flag": Choices((True, 2, "1e-5")),
}
DEFAULTS = {"learning_rate": 5e-5, "dropout": 0.1, "batch_size": 16, "keep_layers": None, "flag": True}


@pytest.fixture
def study(tmp_path: Path) -> Study:
    study = Study(tmp_path, "search.pruner.name=none", "budget.trials=6")
    study.inbox = Inbox(study.spec.layout.control, study.spec)
    return study


def ask_at(study: Study, reports: int, *requests: Request) -> Callable[[], None]:
    """Send requests once so many evaluations were stored; hooked where the loop looks at the disk."""
    left = list(requests)

    def space() -> None:
        while left and study.observer.reports >= reports:
            send(study.spec.layout, left.pop(0))

    return space


def states(study: Study) -> dict[int, TrialState]:
    return {trial.number: trial.state for trial in study.trials}


def test_a_running_trial_ends_as_cancelled_with_what_it_reported_and_the_others_go_on(study: Study) -> None:
    study.space = ask_at(study, 3, CancelTrial(trial_number=1), CancelTrial(trial_number=77))
    assert study.run().state == "COMPLETE"
    assert states(study).pop(1) is TrialState.CANCELLED
    assert study.trials[1].value is not None
    assert {state for number, state in states(study).items() if number != 1} == {TrialState.COMPLETE}
    assert len(study.trials) == 6
    assert study.inbox is not None
    assert study.inbox.waiting() == []


def test_a_paused_trial_is_cancelled_before_it_would_go_on(study: Study) -> None:
    study.run(stop_after_reports=3)
    assert study.trials[1].state is TrialState.PAUSED
    send(study.spec.layout, CancelTrial(trial_number=1))
    study.run()
    assert study.trials[1].state is TrialState.CANCELLED
    assert study.attempts(1) == [1]


def test_a_finished_trial_cannot_be_cancelled(study: Study) -> None:
    study.run()
    send(study.spec.layout, CancelTrial(trial_number=2))
    study.run()
    assert study.trials[2].state is TrialState.COMPLETE


def test_a_larger_budget_is_trained_and_stored_and_a_smaller_one_is_not_heeded(study: Study) -> None:
    study.space = ask_at(study, 3, RaiseBudget(trials=8), RaiseBudget(trials=7))
    assert study.run().state == "COMPLETE"
    assert len(study.trials) == 8
    assert study.budgets == [8]


def test_a_wanted_configuration_takes_the_place_of_the_next_draw_and_never_of_the_baseline(study: Study) -> None:
    send(study.spec.layout, Enqueue(hyperparameters=WANTED))
    study.run()
    drawn = Study(study.spec.layout.storage / "other", "search.pruner.name=none", "budget.trials=6")
    drawn.run()
    assert study.trials[0].hyperparameters == study.spec.defaults()
    assert study.trials[1].hyperparameters == WANTED
    later = [trial.hyperparameters for trial in study.trials[2:]]
    assert later == [trial.hyperparameters for trial in drawn.trials[2:]], "the other draws stay as they were"


def test_a_wish_made_twice_or_left_by_a_crash_is_trained_once(study: Study) -> None:
    for _ in range(2):
        send(study.spec.layout, Enqueue(hyperparameters=WANTED))
    study.run(stop_after_reports=4)
    send(study.spec.layout, Enqueue(hyperparameters=WANTED))
    study.run()
    assert [trial.number for trial in study.trials if trial.hyperparameters == WANTED] == [1]
    assert len(study.trials) == 6


def test_a_wish_waits_for_the_next_session_when_the_budget_is_used_up(study: Study) -> None:
    study.run()
    send(study.spec.layout, Enqueue(hyperparameters=WANTED))
    study.run()
    assert study.inbox is not None
    assert study.inbox.enqueued() == [Enqueue(hyperparameters=WANTED)]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        '{"request": "erase"}',
        '{"request": "raise-budget", "trials": 1e999}',
        "[" * 100_000,
        '{"request": "enqueue", "hyperparameters": {"learning_rate": "9"}}',
    ],
)
def test_what_is_no_request_is_removed_and_harms_nothing(study: Study, text: str) -> None:
    study.spec.layout.control.mkdir(parents=True)
    (study.spec.layout.control / "request-1.json").write_text(text, encoding="utf-8")
    assert study.run().state == "COMPLETE"
    assert list(study.spec.layout.control.iterdir()) == []


def test_a_configuration_is_read_from_text_as_it_is_written() -> None:
    for name, values in {
        "learning_rate": [3e-4, 1e-6],
        "dropout": [0.3],
        "batch_size": [64],
        "keep_layers": [(0, 2, 5), None],
        "flag": [True, 2, "1e-5"],
    }.items():
        for value in values:
            read = read_configuration(SPACE, {name: value_text(value)}, DEFAULTS)[name]
            assert read == value
            assert type(read) is type(value)
    assert read_configuration(SPACE, {"keep_layers": "[0,5]"}, DEFAULTS) == {**DEFAULTS, "keep_layers": (0, 5)}


def test_all_problems_of_a_configuration_are_told_at_once_with_the_remedy() -> None:
    given = {
        "learning_rat": "1e-4",
        "learning_rate": "1",
        "dropout": "0.25",
        "batch_size": "8.5",
        "keep_layers": "[1]",
    }
    with pytest.raises(InvalidSpecError) as caught:
        read_configuration(SPACE, given, DEFAULTS)
    assert caught.value.problems == [
        "learning_rat is not a hyperparameter of this study. Did you mean learning_rate?",
        "learning_rate=1 is outside of 1e-06..0.01. Give a value from 1e-06 to 0.01.",
        "dropout=0.25 is not on the grid of step 0.1. The nearest is 0.2.",
        "batch_size=8.5 is not a whole number. Write a whole number.",
        "keep_layers=[1] is not one of the choices. Give one of [0, 2, 5], [0, 5], null.",
    ]


@contextmanager
def driven(study: Study) -> Iterator[None]:
    with driver_lock(study.spec.layout.lock, study="simulated", now=time.time()):
        yield


def test_a_file_that_cannot_be_read_as_a_request_ends_no_study(study: Study) -> None:
    (study.spec.layout.control / "request-1.json").mkdir(parents=True)
    assert study.run().state == "COMPLETE"


def test_requests_to_a_study_in_its_final_are_refused_and_a_stop_of_the_final_stops_the_study(study: Study) -> None:
    layout = study.spec.layout
    final = study.spec.model_copy(update={"study": layout.confirmation.study})
    with driven(study), driver_lock(layout.confirmation.lock, study="final", now=time.time()):
        for spec in (study.spec, final):
            with pytest.raises(UserError, match="'simulated' is in its final"):
                steering.add_trials(spec, 1)
        steering.stop_study(final.layout)
    assert list(layout.control.glob("stop*")) != []
    assert not layout.confirmation.control.exists()


def test_a_study_without_a_driver_says_how_to_go_on(study: Study) -> None:
    for ask in (
        lambda: steering.stop_study(study.spec.layout),
        lambda: steering.cancel_trial(study.spec, [], 0),
        lambda: steering.add_trials(study.spec, 1),
        lambda: steering.enqueue(study.spec, [], {}),
    ):
        with pytest.raises(UserError, match=r"not running.*sweep resume simulated"):
            ask()
    assert not study.spec.layout.control.exists()


def test_what_cannot_be_heeded_is_refused_and_what_is_asked_for_adds_up(study: Study) -> None:
    trials = [
        Trial(number=0, state=TrialState.COMPLETE, hyperparameters=study.spec.defaults()),
        Trial(number=1, state=TrialState.RUNNING, hyperparameters=WANTED),
    ]
    given = {name: value_text(value) for name, value in WANTED.items()}
    assert study.inbox is not None
    with driven(study):
        for number, words in ((0, "has ended as COMPLETE"), (2, "has trials 0 to 1")):
            with pytest.raises(UserError, match=words):
                steering.cancel_trial(study.spec, trials, number)
        with pytest.raises(UserError, match="trial 1 has this configuration already"):
            steering.enqueue(study.spec, trials, given)
        steering.enqueue(study.spec, trials, {**given, "dropout": "0.5"})
        with pytest.raises(UserError, match="waits already"):
            steering.enqueue(study.spec, trials, {**given, "dropout": "0.5"})
        with pytest.raises(UserError, match="all 6 trials of the budget"):
            steering.enqueue(study.spec, [trials[1]] * 5, {**given, "dropout": "0.4"})
        steering.add_trials(study.spec, 2)
        steering.add_trials(study.spec, 3)
        for count in (0, 10**9):
            with pytest.raises(UserError, match="out of bounds"):
                steering.add_trials(study.spec, count)
    assert study.inbox.budget() == 11
    assert len(study.inbox.waiting()) == 3
