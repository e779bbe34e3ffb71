"""How far delivery got and what it made: one small file, replaced as a whole."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

from sweep.errors import RecordingError

FILE = "acked.json"


@dataclass(slots=True, kw_only=True)
class Acknowledged:
    """What the tracker has taken of a spool.

    Attributes:
        offset: Bytes of the spool delivered.
        tracking_uri: Where they went, without its password; elsewhere, all is still undelivered.
        experiment_id: The study's experiment, once made.
        parent_run_id: The study's run, once made.
        runs: Run by trial number.
        models: LoggedModel by ``trial/step``.
        settled: Whether the tracker says that nothing runs; not so from the first record of a session to its end.
    """

    offset: int = 0
    tracking_uri: str = ""
    experiment_id: str | None = None
    parent_run_id: str | None = None
    runs: dict[int, str] = field(default_factory=dict)
    models: dict[str, str] = field(default_factory=dict)
    settled: bool = False

    @classmethod
    def load(cls, folder: Path) -> Acknowledged:
        """What was saved last, or nothing acknowledged.

        Raises:
            RecordingError: If the file is there but cannot be read.
        """
        path = folder / FILE
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            data["runs"] = {int(number): run_id for number, run_id in data["runs"].items()}
            return cls(**data)
        except FileNotFoundError:
            return cls()
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as err:
            raise RecordingError(
                f"{path}: cannot be read ({err}). Delete it; delivery then starts over and repeats nothing."
            ) from err

    @classmethod
    def readable(cls, folder: Path) -> Acknowledged:
        """What was saved last; nothing acknowledged where that cannot be read, as delivery itself takes it."""
        try:
            return cls.load(folder)
        except RecordingError:
            return cls()

    def forget(self) -> None:
        """Start over: nothing was delivered and nothing made."""
        self.repeat()
        self.experiment_id = None

    def repeat(self) -> None:
        """Deliver everything again, into the same experiment; runs that are still there are found by their tags."""
        self.offset, self.parent_run_id, self.settled = 0, None, False
        self.runs.clear()
        self.models.clear()

    def save(self, folder: Path) -> None:
        """Replace the file, durably."""
        path = folder / FILE
        temporary = path.with_suffix(".tmp")
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(asdict(self), file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
