"""Where the history is kept: a journal file of ours, or a database by URL."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage, JournalStorage
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import SQLAlchemyError

from sweep.errors import StudyNotFoundError, StudyStoreError
from sweep.search.journal import JOURNAL_NAME, Journal, make_journal, mend_torn_tail
from sweep.spec.model import StudySpec

STORAGE_ERRORS = (OSError, SQLAlchemyError, optuna.exceptions.OptunaError, KeyError, ValueError)
DAMAGE_ERRORS = (*STORAGE_ERRORS, TypeError, AttributeError, AssertionError, RecursionError)
"""What Optuna raises besides when it replays a journal whose lines say something else than it wrote."""


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """An open storage.

    Attributes:
        storage: Optuna's view of it.
        place: Where it is, for messages; without a password.
        batch: Context in which writes are gathered into one, where the storage can.
        close: Lets go of it.
    """

    storage: BaseStorage
    place: str
    batch: Callable[[], AbstractContextManager[None]]
    close: Callable[[], None]


def open_history(spec: StudySpec, *, is_new: bool = False, readonly: bool = False) -> History:
    """Open the storage that a spec names.

    The caller holds the driver's lock unless ``readonly``: a torn journal is mended.

    Raises:
        StudyNotFoundError: If there is none, and it should not be made.
        StudyStoreError: If it cannot be reached, read or written.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if spec.history is not None:
        return _open_database(spec.history, readonly=readonly)
    path = spec.layout.history / JOURNAL_NAME
    if not is_new and not path.exists():
        raise StudyNotFoundError(
            f"{path}: there is no study {spec.study!r} in this storage. See `sweep list`, or check `storage`."
        )
    try:
        return _open_journal(path, readonly=readonly)
    except DAMAGE_ERRORS as err:
        raise StudyStoreError(
            f"{path}: the study's history cannot be opened ({err}). Check permissions and free space; "
            "if a line is damaged, restore the file from a backup."
        ) from err


def _open_journal(path: Path, *, readonly: bool) -> History:
    if not readonly:
        make_journal(path)
        mend_torn_tail(path)
    journal = Journal(path, is_writable=not readonly)
    try:
        storage = JournalStorage(journal)
    except DAMAGE_ERRORS:
        journal.close()
        raise
    return History(storage=storage, place=str(path), batch=journal.batch, close=journal.close)


def database_url(url: str) -> URL:
    """A history's URL with the driver that is used for it.

    Raises:
        StudyStoreError: If it is none.
    """
    try:
        parsed = make_url(url)
    except SQLAlchemyError as err:
        # The text of the error repeats the URL, password and all.
        raise StudyStoreError(
            "history: this is no database URL. Write postgresql://user@host/database."
        ) from err.with_traceback(None)
    return parsed.set(drivername="postgresql+psycopg") if parsed.drivername == "postgresql" else parsed


def _open_database(url: str, *, readonly: bool) -> History:
    parsed = database_url(url)
    place = parsed.render_as_string(hide_password=True)
    options: dict[str, Any] = {} if parsed.drivername.startswith("sqlite") else {"pool_pre_ping": True}
    try:
        storage = optuna.storages.RDBStorage(
            parsed.render_as_string(hide_password=False),
            engine_kwargs=options,
            skip_table_creation=readonly,
        )
    except ImportError as err:
        raise missing_driver(parsed) from err
    except STORAGE_ERRORS as err:
        raise StudyStoreError(
            f"{place}: the database cannot be opened ({without_password(err, url)}). "
            "Check that it runs and that `history` names it."
        ) from err

    def close() -> None:
        storage.remove_session()
        storage.engine.dispose()

    return History(storage=storage, place=place, batch=contextlib.nullcontext, close=close)


def missing_driver(url: URL) -> StudyStoreError:
    """The error for a database whose Python driver is not installed, with the command that installs it."""
    database = url.drivername.split("+")[0]
    remedy = (
        "pip install 'sweep-finetune[postgresql]'"
        if database == "postgresql"
        else f"pip install a driver for {url.drivername}"
    )
    place = url.render_as_string(hide_password=True)
    return StudyStoreError(f"{place}: the database driver is not installed. Run: {remedy}")


def without_password(err: BaseException, url: str | None) -> str:
    """First line of an error's text, the URL's password struck out."""
    text = str(err).strip().splitlines()[0] if str(err).strip() else type(err).__name__
    try:
        password = make_url(url).password if url else None
    except SQLAlchemyError:
        password = None
    return text.replace(password, "***") if password else text
