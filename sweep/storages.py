"""Finding a study by its name: in the storage named, in ``./mlruns``, or where this user ran studies before."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from sweep.errors import StudyNotFoundError
from sweep.layout import StudyLayout

DEFAULT_STORAGE = "mlruns"
MAX_REMEMBERED = 50


def _memory() -> Path:
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(home) / "sweep" / "storages"


def _remembered() -> list[Path]:
    try:
        lines = _memory().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
    return [Path(line) for line in lines if line]


def remember(storage: Path) -> None:
    """Note a storage root, newest first, so that its studies are found from any folder; failures do not matter."""
    paths = [storage, *(path for path in _remembered() if path != storage)]
    memory = _memory()
    temporary = memory.with_name(f".storages-{os.getpid()}")
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text("".join(f"{path}\n" for path in paths[:MAX_REMEMBERED]), encoding="utf-8")
        temporary.replace(memory)
    except OSError:
        temporary.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Storages:
    """Storage roots to look into.

    Attributes:
        named: The one the user named; then no other is looked at.
    """

    named: Path | None = None

    @property
    def roots(self) -> list[Path]:
        """Roots that exist, each once: the named one alone, else ``./mlruns`` before the remembered ones."""
        if self.named is not None:
            return [self.named.absolute()]
        roots = [Path(DEFAULT_STORAGE).absolute(), *_remembered()]
        return [root for root in dict.fromkeys(roots) if (root / "studies").is_dir()]

    def studies(self) -> list[StudyLayout]:
        """All studies, newest first."""
        found = [
            (spec.stat().st_mtime, StudyLayout(root, spec.parent.name))
            for root in self.roots
            for spec in root.glob("studies/*/spec.yaml")
            if spec.is_file()
        ]
        return [layout for _, layout in sorted(found, key=lambda pair: -pair[0])]

    def find(self, study: str | None) -> StudyLayout:
        """The study of that name, or the newest one.

        Raises:
            StudyNotFoundError: If there is none, or several storages hold one of that name.
        """
        studies = self.studies()
        if study is None and studies:
            return studies[0]
        matches = [layout for layout in studies if layout.study == study]
        here = [layout for layout in matches if layout.storage == Path(DEFAULT_STORAGE).absolute()]
        if len(matches) == 1 or here:
            return (here or matches)[0]
        places = ", ".join(str(root) for root in self.roots) or str(Path(DEFAULT_STORAGE).absolute())
        if matches:
            where = ", ".join(str(layout.storage) for layout in matches)
            raise StudyNotFoundError(f"study {study!r} exists in {where}. Choose one with --storage.")
        if study is None:
            raise StudyNotFoundError(f"no study in {places}. Start one with `sweep run`, or name --storage.")
        names = ", ".join(sorted({layout.study for layout in studies})[:8]) or "none"
        raise StudyNotFoundError(
            f"no study {study[:80]!r} in {places}. Studies there: {names}. See `sweep list`, or name --storage."
        )
