"""The recorder a driver uses: a durable spool here, delivery in a process of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from sweep.layout import StudyLayout
from sweep.ports import AttemptBegun, AttemptOver, Record, StudyBegun, TrialOver
from sweep.redaction import Redactor, passwords_of
from sweep.tracking.reader import undelivered
from sweep.tracking.spool import Spool
from sweep.tracking.writer_process import WriterProcess


class SpoolRecorder:
    """Implements ``ports.Recorder``: a record is on disk when ``record`` returns, and reaches MLflow later.

    Secrets are struck out before a record is written. Nothing here waits for MLflow except ``close``, and
    that for a bounded time.
    """

    def __init__(self, layout: StudyLayout, tracking_uri: str, redactor: Redactor | None = None) -> None:
        """Open the study's spool and start its writer process.

        Args:
            layout: The study's paths.
            tracking_uri: MLflow's store or server.
            redactor: Knows the secrets of this study; None knows what secrets look like.

        Raises:
            RecordingError: If the spool cannot be written or the writer cannot be started.
        """
        self._layout = layout
        self._redactor = (redactor or Redactor()).knowing(*passwords_of(tracking_uri))
        self._spool = Spool.open(layout.spool)
        self._left: int | None = None
        try:
            self._writer = WriterProcess(layout, tracking_uri)
        except BaseException:
            self._spool.close()
            raise

    @property
    def writer_pid(self) -> int:
        """Process id of the writer."""
        return self._writer.pid

    def record(self, record: Record) -> None:
        """Make the record durable; one that is already held is ignored.

        Raises:
            RecordingError: If it cannot be written.
        """
        self.record_all([record])

    def record_all(self, records: Sequence[Record]) -> None:
        """Make several records durable at the price of one.

        Raises:
            RecordingError: If they cannot be written; then none of them is held.
        """
        self._spool.append([_shown(record, self._redactor) for record in records])
        self._writer.keep_alive()

    def close(self, timeout_seconds: float) -> int:
        """Wait, bounded, for delivery; idempotent.

        Args:
            timeout_seconds: 0 waits for nothing; the writer goes on for a while by itself.

        Returns:
            How many records are still undelivered; ``sync.drain`` delivers them later.
        """
        if self._left is None:
            self._spool.close()
            self._writer.finish(timeout_seconds)
            self._left = undelivered(self._layout)
        return self._left


def _shown(record: Record, redactor: Redactor) -> Record:
    """A record as everybody may read it; paths stay, delivery needs them."""
    match record:
        case StudyBegun():
            parts = {name: redactor.values(getattr(record, name)) for name in ("spec", "data", "environment")}
            return dataclasses.replace(record, **parts)
        case AttemptBegun():
            parts = {name: redactor.values(getattr(record, name)) for name in ("hyperparameters", "settings")}
            return dataclasses.replace(record, **parts)
        case AttemptOver():
            return dataclasses.replace(record, reason=redactor.text(record.reason))
        case TrialOver(error=str(error)):
            return dataclasses.replace(record, error=redactor.text(error))
        case _:
            return record
