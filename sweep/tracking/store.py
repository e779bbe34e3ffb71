"""MLflow's own SQLite store, made ready quickly and set to write-ahead logging."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

PREFIX = "sqlite:///"


def sqlite_path(tracking_uri: str) -> Path | None:
    """The file of a SQLite tracking URI, absolute; None for any other URI."""
    if not tracking_uri.startswith(PREFIX):
        return None
    return Path(tracking_uri.removeprefix(PREFIX).split("?", 1)[0]).absolute()


def absolute_uri(tracking_uri: str) -> str:
    """The same store, whatever the working directory."""
    path = sqlite_path(tracking_uri)
    return tracking_uri if path is None else f"{PREFIX}{path}"


def prepare_sqlite(path: Path, cache: Path) -> None:
    """Make the store's file if it is missing, and set write-ahead logging once.

    MLflow builds an empty store by some fifty migrations, each with its own fsync. Here they run in
    memory, once for each version of MLflow; a copy of the result is put in place, never over an existing file.

    Args:
        path: The store.
        cache: Folder of the copy to start from.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        try:
            template = _template(cache)
        except (ImportError, OSError, sqlite3.Error):
            # Only speed is lost: MLflow makes the store itself when it opens it.
            return
        temporary = path.with_name(f".{path.name}-{os.getpid()}")
        try:
            _copy_durably(template, temporary)
            # A link, unlike a rename, fails where another process was quicker.
            with suppress(FileExistsError):
                os.link(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    with closing(sqlite3.connect(path, timeout=20)) as database:
        database.execute("PRAGMA journal_mode=WAL")


def cache_folder() -> Path:
    """Where this user's caches lie."""
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(root) / "sweep"


def _template(cache: Path) -> Path:
    version = importlib.metadata.version("mlflow")
    template = cache / f"mlflow-{version}.db"
    if _is_sound(template):
        return template
    cache.mkdir(parents=True, exist_ok=True)
    temporary = cache / f".{template.name}-{os.getpid()}"
    try:
        _build(temporary)
        _sync(temporary)
        temporary.replace(template)
    finally:
        temporary.unlink(missing_ok=True)
    return template


def _build(path: Path) -> None:
    from mlflow.store.db.utils import _initialize_tables as initialize_tables
    from mlflow.store.db.utils import create_sqlalchemy_engine

    # In memory: what is killed leaves nothing behind.
    engine = create_sqlalchemy_engine("sqlite://")
    try:
        initialize_tables(engine)
        with closing(sqlite3.connect(path)) as database, closing(engine.raw_connection()) as built:
            built.driver_connection.backup(database)
    finally:
        engine.dispose()


def _is_sound(template: Path) -> bool:
    """Whether the cached copy is a whole database with a schema and nothing of any user's in it."""
    if not template.is_file():
        return False
    try:
        with closing(sqlite3.connect(f"file:{template}?mode=ro", uri=True)) as database:
            whole = database.execute("PRAGMA quick_check").fetchone()[0] == "ok"
            schema = database.execute("SELECT count(*) FROM alembic_version").fetchone()[0]
            runs = database.execute("SELECT count(*) FROM runs").fetchone()[0]
    except sqlite3.Error:
        return False
    return bool(whole and schema == 1 and runs == 0)


def _copy_durably(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)
    _sync(target)


def _sync(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())
