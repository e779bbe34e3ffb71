"""Where the history is kept: a journal file of ours, or a database by URL."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import BaseJournalBackend, JournalFileBackend
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from sweep.errors import StudyNotFoundError, StudyStoreError
from sweep.spec.model import StudySpec

JOURNAL_NAME = "journal.log"
STORAGE_ERRORS = (OSError, SQLAlchemyError, optuna.exceptions.OptunaError, KeyError, ValueError)
_MOST_TO_CUT_BYTES = 1 << 20


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

    The caller holds the driver's lock unless ``readonly``: a torn journal is mended, a stale lock removed.

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
        return _read_journal(path) if readonly else _open_journal(path)
    except STORAGE_ERRORS as err:
        raise StudyStoreError(
            f"{path}: the study's history cannot be opened ({err}). Check permissions and free space; "
            "if a line is damaged, restore the file from a backup."
        ) from err


def mend_torn_tail(path: Path) -> int:
    """Cut what a crash left behind the last whole record; the bytes are kept in a file beside it.

    Args:
        path: A journal with one JSON record on each line.

    Returns:
        How many bytes were cut.

    Raises:
        StudyStoreError: If more is damaged than a crash can explain.
    """
    with path.open("r+b") as stream:
        end = stream.seek(0, os.SEEK_END)
        start = max(0, end - _MOST_TO_CUT_BYTES)
        stream.seek(start)
        tail = stream.read()
        keep = len(tail)
        while keep:
            line_start = tail.rfind(b"\n", 0, keep - 1) + 1
            if _is_record(tail[line_start:keep]):
                break
            keep = line_start
        if keep == 0 and start > 0:
            raise StudyStoreError(
                f"{path}: the last {_MOST_TO_CUT_BYTES} bytes are not records. Restore it from a backup."
            )
        cut = tail[keep:]
        if cut:
            evidence = path.with_name(f"{path.stem}-torn-at-{start + keep}.bin")
            with evidence.open("ab") as kept:
                kept.write(cut)
                kept.flush()
                os.fsync(kept.fileno())
            stream.truncate(start + keep)
            os.fsync(stream.fileno())
    return len(cut)


class _BatchingJournal(BaseJournalBackend):
    """A journal file that can write several records with one fsync."""

    def __init__(self, path: Path) -> None:
        self._file = JournalFileBackend(str(path))
        self._gathered: list[dict[str, Any]] | None = None

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        yield from self._file.read_logs(log_number_from)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        if self._gathered is not None:
            self._gathered.extend(logs)
        else:
            self._file.append_logs(logs)

    @contextlib.contextmanager
    def batch(self) -> Iterator[None]:
        self._gathered = []
        try:
            yield
            gathered = self._gathered
        finally:
            self._gathered = None
        if gathered:
            self._file.append_logs(gathered)


class _JournalReader(BaseJournalBackend):
    """Reads whole records while somebody else writes; takes no lock, writes nothing."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0
        self._offset = 0

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        if log_number_from != self._read:
            self._read = self._offset = 0
        with self._path.open("rb") as stream:
            stream.seek(self._offset)
            for line in stream:
                if not line.endswith(b"\n"):
                    return  # being written, or torn: the writer will finish or cut it
                record = json.loads(line)
                self._offset += len(line)
                self._read += 1
                if self._read > log_number_from:
                    yield record

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        raise StudyStoreError(f"{self._path}: opened for reading. Only the study's driver writes.")


def _open_journal(path: Path) -> History:
    is_missing = not path.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    if is_missing:
        path.touch()
        handle = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    else:
        mend_torn_tail(path)
    # We hold the driver's lock, so whoever made this one is dead; Optuna would wait for half a minute.
    Path(f"{path}.lock").unlink(missing_ok=True)
    backend = _BatchingJournal(path)
    storage = JournalStorage(backend)
    return History(storage=storage, place=str(path), batch=backend.batch, close=lambda: None)


def _read_journal(path: Path) -> History:
    storage = JournalStorage(_JournalReader(path))
    return History(storage=storage, place=str(path), batch=contextlib.nullcontext, close=lambda: None)


def _open_database(url: str, *, readonly: bool) -> History:
    try:
        parsed = make_url(url)
    except SQLAlchemyError as err:
        # The text of the error repeats the URL, password and all.
        raise StudyStoreError(
            "history: this is no database URL. Write postgresql://user@host/database."
        ) from err.with_traceback(None)
    if parsed.drivername in ("postgres", "postgresql"):
        parsed = parsed.set(drivername="postgresql+psycopg")
    place = parsed.render_as_string(hide_password=True)
    options: dict[str, Any] = {} if parsed.drivername.startswith("sqlite") else {"pool_pre_ping": True}
    try:
        storage = optuna.storages.RDBStorage(
            parsed.render_as_string(hide_password=False),
            engine_kwargs=options,
            skip_table_creation=readonly,
        )
    except ImportError as err:
        extra = parsed.drivername.split("+")[0]
        remedy = (
            "pip install 'sweep-finetune[postgresql]'"
            if extra == "postgresql"
            else f"pip install a driver for {parsed.drivername}"
        )
        raise StudyStoreError(f"{place}: the database driver is not installed. Run: {remedy}") from err
    except STORAGE_ERRORS as err:
        raise StudyStoreError(
            f"{place}: the database cannot be opened ({without_password(err, url)}). "
            "Check that it runs and that `history` names it."
        ) from err

    def close() -> None:
        storage.remove_session()
        storage.engine.dispose()

    return History(storage=storage, place=place, batch=contextlib.nullcontext, close=close)


def without_password(err: BaseException, url: str | None) -> str:
    """First line of an error's text, the URL's password struck out."""
    text = str(err).strip().splitlines()[0] if str(err).strip() else type(err).__name__
    try:
        password = make_url(url).password if url else None
    except SQLAlchemyError:
        password = None
    return text.replace(password, "***") if password else text


def _is_record(line: bytes) -> bool:
    if not line.endswith(b"\n"):
        return False
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False
