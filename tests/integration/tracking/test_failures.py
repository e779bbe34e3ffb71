"""Which failures are tried again, and which set the record aside."""

from __future__ import annotations

import errno

import pytest

from sweep.domain import Report
from tests.recording import report


@pytest.mark.filterwarnings("ignore")
def test_only_what_the_tracker_itself_refuses_is_given_up() -> None:
    import requests
    from mlflow.exceptions import MlflowException, RestException
    from mlflow.utils.rest_utils import verify_rest_response
    from sqlalchemy.exc import OperationalError

    from sweep.tracking.failures import is_missing, is_refusal

    def answered(status: int, body: str) -> Exception:
        response = requests.Response()
        response.status_code, response._content = status, body.encode()
        try:
            verify_rest_response(response, "/api")
        except MlflowException as err:
            return err
        raise AssertionError("the answer passed for a good one")

    refused = answered(400, '{"error_code": "INVALID_PARAMETER_VALUE", "message": "no"}')
    missing = answered(404, '{"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no"}')
    assert isinstance(refused, RestException)
    given_up = [refused, missing, FileNotFoundError("gone"), TypeError("odd")]
    tried_again = [
        answered(400, "<html>a gateway's page</html>"),
        answered(404, "<html>a gateway's page</html>"),
        answered(502, "<html>bad gateway</html>"),
        answered(403, '{"error_code": "PERMISSION_DENIED", "message": "log in"}'),
        answered(429, '{"error_code": "REQUEST_LIMIT_EXCEEDED", "message": "slow down"}'),
        MlflowException("API request to http://x failed with exception refused"),
        requests.ConnectionError("refused"),
        OperationalError("INSERT", {}, Exception("database is locked")),
        OSError(errno.ENOSPC, "no space left"),
    ]
    assert [is_refusal(error) for error in given_up] == [True] * len(given_up)
    assert [is_refusal(error) for error in tried_again] == [False] * len(tried_again)
    assert is_refusal(_caused(MlflowException("Python int too large"), OverflowError()))
    assert is_missing(missing)
    assert not any(is_missing(error) for error in [refused, *tried_again])


def _caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


def test_only_a_record_that_fails_again_and_again_while_others_are_taken_is_at_fault() -> None:
    from sweep.tracking.blame import FAILURES_IN_A_ROW, Blame

    class Tracker:
        takes_others = True

        def probe(self) -> None:
            if not self.takes_others:
                raise OSError(errno.ECONNREFUSED, "refused")

    tracker, one, other = Tracker(), report(0, 1), report(0, 2)

    def verdicts(*records: Report, code: int = errno.ETIMEDOUT) -> list[bool]:
        blame = Blame(tracker)  # type: ignore[arg-type]
        return [blame.is_on(record, OSError(code, "failed")) for record in records]

    row = [one] * (FAILURES_IN_A_ROW + 1)
    assert verdicts(*row) == [False] * FAILURES_IN_A_ROW + [True]
    assert not any(verdicts(*row[1:], other, *row[1:])), "in a row"
    assert not any(verdicts(*row, code=errno.ENOSPC)), "a full disk takes small things still"
    tracker.takes_others = False
    assert not any(verdicts(*row))


def test_a_tracker_that_recovers_after_the_last_failure_and_before_it_is_probed_leaves_the_record_innocent() -> None:
    from sweep.tracking.blame import FAILURES_IN_A_ROW, Blame

    class Recovered:
        takes_others = False

        def probe(self) -> None:
            if not self.takes_others:
                raise OSError(errno.ECONNREFUSED, "refused")

    tracker, record = Recovered(), report(0, 1)
    blame = Blame(tracker)  # type: ignore[arg-type]
    assert not any(blame.is_on(record, OSError(errno.ETIMEDOUT, "failed")) for _ in range(FAILURES_IN_A_ROW))
    tracker.takes_others = True
    assert not blame.is_on(record, OSError(errno.ETIMEDOUT, "failed")), "it failed before the tracker recovered"
    assert blame.is_on(record, OSError(errno.ETIMEDOUT, "failed")), "and now while others are taken"
