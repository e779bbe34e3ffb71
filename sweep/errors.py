"""Every error a user can meet, as one tree.

::

    SweepError                     exit code 1
    ├── UserError                  exit code 2: what was asked for cannot be done; nothing was started
    │   ├── InvalidSpecError       one or more problems in a spec, all told at once
    │   ├── InvalidDataError       a data file that cannot be read, split or learnt from
    │   ├── ModelError             a model that cannot be found, loaded or configured
    │   ├── StudyNotFoundError     no study of that name in the storage
    │   ├── StudyExistsError       the name is taken
    │   └── StudyBusyError         another driver holds the study
    ├── CheckpointError            a checkpoint without a valid manifest, or whose files differ from it
    ├── StudyStoreError            the study's history cannot be read or written
    ├── ExecutionError             workers cannot be started or reached
    │   └── NoWorkersError         none is left that could run a trial; the study pauses
    ├── RecordingError             records cannot be spooled or delivered
    ├── StoppedEarlyError          exit code 130: somebody stopped something that leaves nothing to go on from
    ├── VerificationError          an export does not reproduce its recorded score
    └── PromotionRefusedError      the gate before an alias of the registry stays shut

Every message names the place, the value, the rule and the remedy.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence


class SweepError(Exception):
    """Root of the tree; the command line prints its message without a traceback."""

    exit_code = 1


class UserError(SweepError):
    """What the user asked for cannot be done; nothing was started."""

    exit_code = 2


class InvalidSpecError(UserError):
    """One or more problems in a spec.

    Attributes:
        problems: One line for each problem, with place, value, rule and remedy.
    """

    def __init__(self, problems: Sequence[str] | str) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))


class InvalidDataError(UserError):
    """A data file that cannot be read, split or learnt from."""


class ModelError(UserError):
    """A model that cannot be found, loaded or configured."""


class StudyNotFoundError(UserError):
    """No study of that name lies in the storage."""


class StudyExistsError(UserError):
    """The name of a new study is already taken."""


class StudyBusyError(UserError):
    """Another driver holds the study."""


class CheckpointError(SweepError):
    """A checkpoint without a valid manifest, or whose files differ from it."""


class StudyStoreError(SweepError):
    """The study's history cannot be read or written."""


class ExecutionError(SweepError):
    """Workers cannot be started or reached."""


class NoWorkersError(ExecutionError):
    """No worker is left that could run a trial, and none has come; the study pauses, and can go on."""


class RecordingError(SweepError):
    """Records cannot be spooled or delivered."""


class StoppedEarlyError(SweepError):
    """Somebody stopped something that leaves nothing to go on from: a study before its first trial, a job."""

    exit_code = 130


class VerificationError(SweepError):
    """An export does not reproduce its recorded score."""


class PromotionRefusedError(SweepError):
    """A model is not shown to be better than the one in use, or cannot be compared with it."""


_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_RUST_ENDINGS = tuple(f"(os error {number})" for number in _NO_SPACE)
_TORCH_STREAM_ERROR = "basic_ios::clear: iostream error"  # all that torch.save says, whatever the disk said
_SQLITE_FULL = 13
_POSTGRESQL_FULL = "53100"


def is_disk_full(error: BaseException | None) -> bool:
    """Whether an error comes from a disk or a quota that is full, by its chain of causes.

    Numbers tell, not words: anybody may write "No space left" into an error of their own.
    """
    seen = set[int]()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if _tells_of_a_full_disk(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _tells_of_a_full_disk(error: BaseException) -> bool:
    if isinstance(error, OSError):
        return error.errno in _NO_SPACE
    # Writers in Rust raise no OSError: safetensors its own kind, tokenizers a bare Exception, with the number last.
    if type(error) is Exception or type(error).__name__ == "SafetensorError":
        return str(error).endswith(_RUST_ENDINGS)
    if type(error) is RuntimeError and str(error) == _TORCH_STREAM_ERROR:
        return True
    if getattr(error, "sqlite_errorcode", None) == _SQLITE_FULL:
        return True
    return getattr(error, "sqlstate", None) == _POSTGRESQL_FULL
