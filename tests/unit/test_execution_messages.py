from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweep.domain import Assignment, HyperparameterValue, MetricRule, Report, TrainRequest
from sweep.errors import ExecutionError
from sweep.execution.channel import MAX_MESSAGE_BYTES, MessageChannel
from sweep.execution.messages import (
    argument_from_json,
    argument_to_json,
    report_from_json,
    report_to_json,
    request_from_json,
    request_to_json,
)
from sweep.execution.ray_cluster import TrialShare

finite = st.floats(allow_nan=False, allow_infinity=False)
scalars = st.one_of(finite, st.integers(), st.text(), st.booleans(), st.none())
values: st.SearchStrategy[HyperparameterValue] = st.one_of(scalars, st.lists(scalars, max_size=4).map(tuple))


@pytest.fixture
def pair() -> Iterator[tuple[MessageChannel, MessageChannel]]:
    left, right = (MessageChannel(end) for end in socket.socketpair())
    yield left, right
    left.close()
    right.close()


@given(hyperparameters=st.dictionaries(st.text(), values, max_size=4), start_from=st.none() | st.text())
def test_a_train_request_survives_the_way_to_its_process(
    hyperparameters: dict[str, HyperparameterValue], start_from: str | None
) -> None:
    request = TrainRequest(
        assignment=Assignment(
            trial_number=3, attempt=2, hyperparameters=hyperparameters, seed=7, start_from=start_from
        ),
        prepared="/prepared",
        model="bundled:minilm-l6",
        settings={"epochs": 2.5, "keep_layers": [0, 2, 5], "freeze": []},
        metric=MetricRule(name="accuracy", direction="maximize", source="last"),
        evaluate_at=(0.25, 1.0),
        fidelity_unit="epochs",
        checkpoints="/c",
        artifacts="/a",
        cpus=2,
        gpus=0.5,
    )
    assert request_from_json(json.loads(json.dumps(request_to_json(request)))) == request
    assert argument_from_json(json.loads(json.dumps(argument_to_json(request)))) == request


@given(metrics=st.dictionaries(st.text(), finite), checkpoint=st.none() | st.text())
def test_a_report_survives_the_way_to_the_driver(metrics: dict[str, float], checkpoint: str | None) -> None:
    report = Report(
        trial_number=0,
        attempt=1,
        step=5,
        fidelity=0.1,
        metrics=metrics,
        checkpoint=checkpoint,
        wall_seconds=1.5,
        reported_at=1e9,
    )
    assert report_from_json(json.loads(json.dumps(report_to_json(report)))) == report


def test_arguments_keep_their_types() -> None:
    for argument in (Path("/x"), {"a": [1]}, "text", None):
        assert argument_from_json(json.loads(json.dumps(argument_to_json(argument)))) == argument


def test_messages_come_whole_and_in_order(pair: tuple[MessageChannel, MessageChannel]) -> None:
    ours, theirs = pair
    long = "x" * 1_000_000
    sender = threading.Thread(target=lambda: [theirs.send({"n": n, "long": long}) for n in range(5)])
    sender.start()
    assert [(ours.receive(5) or {})["n"] for _ in range(5)] == list(range(5))
    sender.join()
    assert ours.receive(0.01) is None
    assert not ours.at_end


def test_what_was_said_before_hanging_up_is_heard(pair: tuple[MessageChannel, MessageChannel]) -> None:
    ours, theirs = pair
    theirs.send({"last": "words"})
    theirs.close()
    assert not ours.at_end
    assert ours.drain() == [{"last": "words"}]
    assert ours.at_end
    assert ours.receive() is None


def test_talking_to_nobody_is_an_error(pair: tuple[MessageChannel, MessageChannel]) -> None:
    ours, theirs = pair
    theirs.close()
    with pytest.raises(ExecutionError, match="gone"):
        ours.send({})
    assert ours.is_broken


def test_what_json_cannot_hold_is_refused(pair: tuple[MessageChannel, MessageChannel]) -> None:
    with pytest.raises(ExecutionError, match="not JSON-able"):
        pair[0].send({"x": object()})
    with pytest.raises(ExecutionError, match="at most"):
        pair[0].send({"x": "x" * MAX_MESSAGE_BYTES})
    assert not pair[0].is_broken


@pytest.mark.parametrize("garbage", [b"not json\n", b"[1]\n"])
def test_garbage_is_named(garbage: bytes) -> None:
    left, right = socket.socketpair()
    channel = MessageChannel(left)
    right.sendall(garbage)
    right.close()
    with pytest.raises(ExecutionError, match="which is not"):
        channel.drain()
    channel.close()


@pytest.mark.parametrize(
    ("share", "room"),
    [
        (TrialShare(cpus=1), 8),
        (TrialShare(cpus=3), 2),
        (TrialShare(cpus=0.1), 80),
        (TrialShare(cpus=1, gpus=0.25), 8),
        (TrialShare(cpus=1, gpus=1), 2),
        (TrialShare(cpus=0, gpus=0.5), 4),
        (TrialShare(cpus=9), 0),
    ],
)
def test_trials_that_fit_on_a_node(share: TrialShare, room: int) -> None:
    assert share.fits({"CPU": 8.0, "GPU": 2.0}) == room
