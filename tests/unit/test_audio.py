from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest

from objectives.data.audio import read_audio, resampled
from sweep.errors import InvalidDataError


def _tone(hertz: float, rate: int, seconds: float = 0.5) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)


def _written(path: Path, channels: list[np.ndarray], rate: int) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(len(channels))
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((np.stack(channels, axis=1) * 32767).astype("<i2").tobytes())
    return path


def _loudest(samples: np.ndarray, rate: int) -> float:
    return float(np.abs(np.fft.rfft(samples)).argmax() * rate / len(samples))


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100])
def test_a_tone_keeps_its_pitch_and_length_at_every_rate(rate: int, tmp_path: Path) -> None:
    samples = read_audio(_written(tmp_path / "a.wav", [_tone(440, rate)], rate), 16_000)
    assert samples.dtype == np.float32
    assert len(samples) == pytest.approx(8_000, abs=1)
    assert _loudest(samples, 16_000) == pytest.approx(440, abs=2)
    assert np.abs(samples).max() == pytest.approx(0.5, abs=0.05)


def test_channels_are_averaged(tmp_path: Path) -> None:
    tone = _tone(440, 16_000)
    assert np.abs(read_audio(_written(tmp_path / "a.wav", [tone, -tone], 16_000), 16_000)).max() < 1e-3


def test_what_the_lower_rate_cannot_carry_is_filtered_out() -> None:
    changed = resampled(_tone(7_000, 16_000).astype(np.float32), 16_000, 8_000)
    assert np.abs(changed[200:-200]).max() < 0.02


@pytest.mark.parametrize(
    ("content", "match"), [(None, "No such file"), (b"no sound at all", "cannot be read as sound"), ("", "no sound")]
)
def test_a_file_without_sound_is_named(content: bytes | str | None, match: str, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        _written(path, [np.empty(0)], 16_000)
    with pytest.raises(InvalidDataError, match=f"a.wav: .*{match}"):
        read_audio(path, 16_000)
