"""Which failures are tried again, and which set the record aside."""

from __future__ import annotations

import errno

import pytest


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
    assert is_missing(missing)
    assert not any(is_missing(error) for error in [refused, *tried_again])
