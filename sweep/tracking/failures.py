"""Which failures of the tracker pass, and which would come back for ever."""

from __future__ import annotations

import requests
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

_REFUSED = frozenset(
    {
        "INVALID_PARAMETER_VALUE",
        "BAD_REQUEST",
        "MALFORMED_REQUEST",
        "RESOURCE_DOES_NOT_EXIST",
        "RESOURCE_ALREADY_EXISTS",
        "INVALID_STATE",
        "NOT_FOUND",
        "ALREADY_EXISTS",
    }
)
"""A login that is refused is not among them: that is no fault of the record, and can be mended meanwhile."""

_REFUSED_STATUS = frozenset({400, 404, 409, 413, 422})

FAILURES: tuple[type[Exception], ...] = (
    MlflowException,
    requests.RequestException,
    SQLAlchemyError,
    OSError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
)
"""All that delivering one record may raise; one record must never end the delivery of the others."""


def is_refusal(error: Exception) -> bool:
    """Whether repeating the request cannot help: the record is set aside then, and tried no more."""
    if isinstance(error, MlflowException):
        return str(error.error_code) in _REFUSED
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return error.response.status_code in _REFUSED_STATUS
    if isinstance(error, requests.RequestException | SQLAlchemyError):
        return False
    if isinstance(error, OSError):
        # A file that is gone stays gone; a full disk or a lost connection does not.
        return isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError)
    return True


def is_missing(error: Exception) -> bool:
    """Whether the tracker says that what was asked for does not exist."""
    code = str(error.error_code) if isinstance(error, MlflowException) else ""
    return code in ("RESOURCE_DOES_NOT_EXIST", "NOT_FOUND")


def reason(error: Exception) -> str:
    """One line for the log."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"
