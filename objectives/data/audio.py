"""Recordings: from files to samples at the rate that a model hears."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sweep.errors import InvalidDataError

EXTENSIONS = (".wav", ".flac", ".ogg")
"""Files that are read."""

Samples = npt.NDArray[np.float32]


def read_audio(path: Path, rate: int) -> Samples:
    """Samples of a recording, its channels averaged, resampled where its rate is another.

    Args:
        path: A WAV, FLAC or OGG file.
        rate: Samples a second.

    Returns:
        ``[samples]``, float32, in [-1, 1].

    Raises:
        InvalidDataError: If it cannot be read or holds no sound.
    """
    import soundfile

    try:
        with path.open("rb") as stream:
            samples, found = soundfile.read(stream, dtype="float32", always_2d=True)
    except (OSError, soundfile.SoundFileError) as err:
        reason = getattr(err, "strerror", None) or " ".join(str(err).split())
        raise InvalidDataError(
            f"{path}: cannot be read as sound ({reason}). Give one of {', '.join(EXTENSIONS)}; paths are relative to "
            "the file that names them."
        ) from err
    if not len(samples):
        raise InvalidDataError(f"{path}: holds no sound. Remove its row.")
    return resampled(samples.mean(axis=1), found, rate)


def resampled(samples: Samples, found: int, rate: int) -> Samples:
    """Samples at another rate, by a polyphase filter that lets nothing above half of the lower rate pass."""
    if found == rate:
        return samples
    from scipy.signal import resample_poly

    common = math.gcd(found, rate)
    changed: Samples = resample_poly(samples, rate // common, found // common).astype(np.float32)
    return changed
