"""Records as JSON."""

from __future__ import annotations

import json
import math
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweep.domain import Report, TrialState
from sweep.errors import RecordingError
from sweep.ports import AttemptBegun, AttemptOver, ModelKept, Record, StudyBegun, StudyOver, TrialOver
from sweep.tracking.records import from_json, identity, to_json
from tests.recording import over, report

_names = st.text(max_size=8)
_numbers = st.floats(allow_nan=False)
_counts = st.integers(0, 10**6)
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | _numbers | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_names, inner, max_size=3),
    max_leaves=6,
)
_objects = st.dictionaries(_names, _json, max_size=3)
_metrics = st.dictionaries(_names, _numbers, max_size=3)
_drawn = st.recursive(
    st.none() | st.booleans() | st.integers() | _numbers | st.text(),
    lambda inner: st.lists(inner, max_size=3).map(tuple),
    max_leaves=4,
)
_states = st.sampled_from(TrialState)
_texts = st.none() | st.text()

_records: st.SearchStrategy[Record] = st.one_of(
    st.builds(StudyBegun, study=_names, spec=_objects, data=_objects, environment=_objects, at=_numbers),
    st.builds(
        AttemptBegun,
        trial_number=_counts,
        attempt=_counts,
        hyperparameters=st.dictionaries(_names, _drawn, max_size=3),
        settings=_objects,
        seed=_counts,
        at=_numbers,
    ),
    st.builds(AttemptOver, trial_number=_counts, attempt=_counts, state=_states, reason=st.text(), at=_numbers),
    st.builds(
        Report,
        trial_number=_counts,
        attempt=_counts,
        step=_counts,
        fidelity=_numbers,
        metrics=_metrics,
        checkpoint=_texts,
        wall_seconds=_numbers,
        reported_at=_numbers,
    ),
    st.builds(
        TrialOver,
        trial_number=_counts,
        state=_states,
        value=st.none() | _numbers,
        step=st.none() | _counts,
        error=_texts,
        artifacts=_texts,
        log=_texts,
        at=_numbers,
    ),
    st.builds(
        ModelKept,
        trial_number=_counts,
        step=_counts,
        folder=st.text(),
        metrics=_metrics,
        test=st.none() | _metrics,
        at=_numbers,
    ),
    st.builds(
        StudyOver,
        state=st.text(),
        ranking=st.lists(_counts, max_size=4),
        counts=st.dictionaries(_names, _counts, max_size=3),
        at=_numbers,
    ),
)


@given(_records)
def test_every_record_survives_its_line(record: Record) -> None:
    line = to_json(record)
    assert "\n" not in line
    assert line.isascii()
    assert from_json(line) == record


def test_a_field_of_a_newer_release_is_left_out() -> None:
    payload = {**json.loads(to_json(report(1, 10))), "colour": "red", "version": 2}
    assert from_json(json.dumps(payload)) == report(1, 10)


def test_numbers_of_other_libraries_are_written_as_numbers() -> None:
    import numpy as np

    odd = report(1, 10, a=np.float32(0.5), b=np.int64(3))  # type: ignore[arg-type]
    read = from_json(to_json(odd))
    assert isinstance(read, Report)
    assert (read.metrics["a"], read.metrics["b"]) == (0.5, 3)


def test_what_json_does_not_know_is_written_as_text_and_never_refused() -> None:
    assert '"error":"1.5"' in to_json(over(1, error=Decimal("1.5")))


def test_a_value_that_is_not_a_number_survives() -> None:
    read = from_json(to_json(over(1, value=math.nan)))
    assert isinstance(read, TrialOver)
    assert read.value is not None
    assert math.isnan(read.value)


@pytest.mark.parametrize("line", ['{"kind":"unknown"}', "[]", '{"kind":"report","step":1}'])
def test_a_line_that_is_no_record_is_refused_with_a_remedy(line: str) -> None:
    with pytest.raises(RecordingError, match="Update sweep"):
        from_json(line)


def test_the_same_step_of_another_attempt_is_the_same_record() -> None:
    assert identity(report(1, 10)) == identity(report(1, 10, accuracy=0.1))
    assert identity(report(1, 10)) != identity(report(1, 20))
    assert identity(report(1, 10)) != identity(report(2, 10))


def test_half_a_character_in_a_text_is_written_out_so_that_every_database_takes_it() -> None:
    told = TrialOver(
        trial_number=1,
        state=TrialState.FAILED,
        value=None,
        step=None,
        error="no such file: caf\udce9.csv",
        artifacts=None,
        log=None,
        at=1.0,
    )
    record = from_json(to_json(told))
    assert isinstance(record, TrialOver)
    assert record.error == "no such file: caf\\udce9.csv"
