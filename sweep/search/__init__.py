"""The study's history, its samplers and its pruners; the only room that imports Optuna."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sweep.search.reading import StoredTrial, StudyReader, read_trials
    from sweep.search.store import OptunaStore

__all__ = ["OptunaStore", "StoredTrial", "StudyReader", "read_trials"]


def __getattr__(name: str) -> Any:
    # Importing Optuna takes a third of a second: only for those who use it.
    if name == "OptunaStore":
        from sweep.search.store import OptunaStore

        return OptunaStore
    if name in ("StoredTrial", "StudyReader", "read_trials"):
        from sweep.search import reading

        return getattr(reading, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
