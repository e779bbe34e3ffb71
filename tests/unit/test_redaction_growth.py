"""No line makes any pattern of ours slow: four times as long a line takes about four times as long."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import pytest

from sweep.redaction import Redactor, patterns

UNITS = [
    *("a", "-", " ", "\\", "'", '"', "a://", "a://b:c", "?token ", "?token=", "password=", "password='", "key:)"),
    *("token --", "--token ", "token: ", "authorization: bearer ", "bearer ", "-----BEGIN ", "-----BEGIN A "),
    *("sk-", "sk-aaaaaaaaaaaaaaaa-", "hf_", "-hf_", "-eyJ", "-eyJaaaaaaaa", "eyJaaaaaaaa.", "xoxb-", "glpat-"),
    *("github_pat_", "AKIA", "-----BEGIN PRIVATE KEY-----", "-----END ", "${", "c4n/", "c4n%2F", "%", "YzRu"),
]
SHORT, TIMES = 5_000, 4
PATTERNS = {name: value for name, value in vars(patterns).items() if isinstance(value, re.Pattern)}


def seconds(action: Callable[[str], object], text: str) -> float:
    """Of this process alone, the best of three: what else the machine does must not count."""

    def once() -> float:
        began = time.process_time()
        action(text)
        return time.process_time() - began

    return min(once() for _ in range(3))


def grows_too_fast(action: Callable[[str], object]) -> list[str]:
    """Units for which four times the length takes more than nine times as long; sixteen times, if it is quadratic."""
    found = []
    for unit in UNITS:
        line = unit * (SHORT // len(unit))
        longer = seconds(action, line * TIMES)
        # What is this quick cannot be measured, nor does it matter.
        if longer > 0.02 and longer > 9 * seconds(action, line):
            found.append(unit)
    return found


@pytest.mark.parametrize("name", PATTERNS)
def test_the_work_of_a_pattern_grows_with_the_length_of_a_line_and_no_faster(name: str) -> None:
    assert grows_too_fast(lambda text: PATTERNS[name].sub("***", text)) == []


def test_the_work_of_the_whole_grows_with_the_length_of_a_line_and_no_faster() -> None:
    redactor = Redactor().knowing("c4n/ry-secret", "c4nary", "hunterxyz", "0123456789abcdef")
    assert grows_too_fast(redactor.text) == []
