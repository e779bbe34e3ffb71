"""One driver for a study in a shared database: a lock of the server's that dies with its holder's connection.

A study of the same name in the same database is the same study, whatever storage or host drives it, so the lock of
the study's folder is not enough.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from sweep.domain import Holder
from sweep.errors import StudyBusyError, StudyStoreError
from sweep.search.storages import database_url, missing_driver, without_password
from sweep.spec.model import StudySpec

# A server that is gone is noticed within half a minute.
_KEEPALIVES = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 25_000}
_LONGEST_NAME = 63

_TAKE = text("SELECT pg_backend_pid(), pg_try_advisory_lock(:key), set_config('application_name', :name, false)")
_SESSION = text("SELECT pg_backend_pid()")
_HOLDER = text(
    "SELECT a.application_name FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE l.granted AND l.objsubid = 1 "
    "AND l.locktype = 'advisory' AND l.classid::bigint = :high AND l.objid::bigint = :low "
    "AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


@contextlib.contextmanager
def claimed(spec: StudySpec, *, now: float) -> Iterator[Callable[[], None]]:
    """Hold a study in its shared database for this process; the server lets go when the connection dies.

    Only PostgreSQL has such locks; the holder's name is its session's ``application_name``.

    Args:
        spec: The study.
        now: Unix seconds.

    Yields:
        A fence, to be called before each write: raises StudyStoreError once the study is not held any more.

    Raises:
        StudyBusyError: If another driver holds it.
        StudyStoreError: If the database cannot be reached.
    """
    url = database_url(spec.history) if spec.history is not None else None
    if url is None or not url.drivername.startswith("postgresql"):
        yield lambda: None
        return
    options = _KEEPALIVES if "psycopg" in url.drivername else {}
    place = url.render_as_string(hide_password=True)
    try:
        engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT", connect_args=options)
    except ImportError as err:
        raise missing_driver(url) from err
    with contextlib.ExitStack() as stack:
        try:
            connection = stack.enter_context(engine.connect())
            session, is_held, _ = connection.execute(_TAKE, {"key": _key(spec.study), "name": _name(now)}).one()
            holder = None if is_held else _holder(connection, spec.study)
        except SQLAlchemyError as err:
            raise StudyStoreError(
                f"{place}: the database cannot be used ({without_password(err, spec.history)}). "
                "Check that it runs and that `history` names it."
            ) from err
        if not is_held:
            raise StudyBusyError(
                f"{place}: study {spec.study!r} is being driven by {holder or 'another process'}. Stop it there with "
                f"`sweep stop {spec.study}`, or end that process: the database lets go of the study with it."
            )
        yield lambda: _check(connection, session, place, spec)


def database_file(history: str | None) -> Path | None:
    """The file of a history that is an SQLite database, or None."""
    url = database_url(history) if history is not None else None
    if url is None or not url.drivername.startswith("sqlite") or not url.database:
        return None
    return Path(url.database).resolve()


def _check(connection: Connection, session: int, place: str, spec: StudySpec) -> None:
    reason = "the session has changed"
    try:
        # Behind a pooler the session may have become another one, which holds nothing.
        if connection.execute(_SESSION).scalar_one() == session:
            return
    except SQLAlchemyError as err:
        reason = without_password(err, spec.history)
    raise StudyStoreError(
        f"{place}: the connection that holds study {spec.study!r} was lost ({reason}), so another driver may have "
        f"taken over. This one stops; nothing stored is lost. Go on with `sweep resume {spec.study}`."
    )


def _holder(connection: Connection, study: str) -> Holder | None:
    key = _key(study)
    name = connection.execute(_HOLDER, {"high": key >> 32 & 0xFFFFFFFF, "low": key & 0xFFFFFFFF}).scalar()
    try:
        _, pid, since, host = str(name).split(" ", 3)
        return Holder(pid=int(pid), since=float(since), host=host)
    except ValueError:
        return None


def _name(now: float) -> str:
    return f"sweep {os.getpid()} {int(now)} {socket.gethostname()}"[:_LONGEST_NAME]


def _key(study: str) -> int:
    digest = hashlib.sha256(f"sweep study {study}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)
