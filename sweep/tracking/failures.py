"""Which failures of the tracker pass, and which would come back for ever."""

from __future__ import annotations

import json
import sqlite3

import requests
from google.protobuf.json_format import ParseError
from mlflow.exceptions import MlflowException, RestException
from sqlalchemy.exc import SQLAlchemyError

from sweep.errors import is_disk_full

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

_FULL_DISK_WORDS = ("No space left on device", "database or disk is full")

_REFUSED_STATUS = frozenset({400, 404, 409, 413, 422})

FAILURES: tuple[type[Exception], ...] = (
    MlflowException,
    requests.RequestException,
    SQLAlchemyError,
    sqlite3.Error,
    ParseError,
    OSError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
)
"""All that delivering one record may raise; one record must never end the delivery of the others."""


class StoreLostError(Exception):
    """The store no longer has what was made there: all must be delivered again."""


def is_refusal(error: Exception) -> bool:
    """Whether repeating the request cannot help: the record is set aside then, and tried no more."""
    if is_disk_full(error) or _tells_of_a_full_disk(error):
        return False
    if isinstance(error.__cause__, MlflowException) and not is_refusal(error.__cause__):
        # Some of MLflow's methods ask twice, and call it an invalid parameter if the first answer did not come.
        return False
    if isinstance(error.__cause__, OverflowError):
        # A number that a database opened directly has no room for; MLflow calls it an error of its own.
        return True
    if isinstance(error, MlflowException):
        return not _is_from_a_proxy(error) and str(error.error_code) in _REFUSED
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return error.response.status_code in _REFUSED_STATUS
    if isinstance(error, requests.RequestException | SQLAlchemyError | sqlite3.Error):
        return False
    if isinstance(error, json.JSONDecodeError | ParseError):
        # An answer that was cut off, or none of MLflow's.
        return False
    if isinstance(error, OSError):
        # A file that is gone stays gone; a full disk or a lost connection does not.
        return isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError)
    return True


def _tells_of_a_full_disk(error: Exception) -> bool:
    """Whether a server answers that its own disk is full; across HTTP there are only words."""
    return isinstance(error, MlflowException) and any(words in str(error) for words in _FULL_DISK_WORDS)


def is_missing(error: Exception) -> bool:
    """Whether the tracker says that what was asked for does not exist."""
    if not isinstance(error, MlflowException) or _is_from_a_proxy(error):
        return False
    return str(error.error_code) in ("RESOURCE_DOES_NOT_EXIST", "NOT_FOUND")


def _is_from_a_proxy(error: MlflowException) -> bool:
    """Whether the answer was none of MLflow's: a gateway's 404 page says nothing about the record."""
    return str(error).startswith("API request to") and not isinstance(error, RestException)


def reason(error: Exception) -> str:
    """One line for the log."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"
