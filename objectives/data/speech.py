"""Recordings and their transcripts as a speech model reads and writes them."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from objectives.data.audio import read_audio
from objectives.data.rows import Rows
from objectives.data.tokenizer_training import TokenizerRecipe
from sweep.errors import InvalidDataError

_RATE = 16_000


@dataclass(frozen=True, slots=True)
class Heard:
    """What a model hears of a recording.

    Attributes:
        features: ``[frames, width]``, float32, without the silence behind it.
        silence: The value of silence.
        seconds: How long the recording is.
    """

    features: npt.NDArray[np.float32]
    silence: float
    seconds: float


@dataclass(frozen=True, slots=True)
class SpeechReader:
    """A feature extractor and a tokenizer, to be saved together and asked like a tokenizer.

    Attributes:
        extractor: Of transformers.
        tokenizer: Likewise.
    """

    extractor: Any
    tokenizer: Any

    def __len__(self) -> int:
        return len(self.tokenizer)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.tokenizer, name)

    def __call__(self, *texts: Any, **options: Any) -> Any:
        """What the tokenizer makes of texts."""
        return self.tokenizer(*texts, **options)

    def num_special_tokens_to_add(self) -> int:
        """None around a recording."""
        return 0

    def save_pretrained(self, folder: str) -> None:
        """Write both into a folder."""
        self.tokenizer.save_pretrained(folder)
        self.extractor.save_pretrained(folder)

    @property
    def width(self) -> int:
        """Numbers of a frame: mel bins, or 1 for samples as they are."""
        return int(self.extractor.feature_size)

    def hear(self, path: Path) -> Heard:
        """What the model hears of a recording.

        Raises:
            InvalidDataError: If it cannot be read, or is longer than the model's window.
        """
        samples = read_audio(path, int(self.extractor.sampling_rate))
        seconds = len(samples) / self.extractor.sampling_rate
        if self.width == 1:
            heard = self.extractor(samples, sampling_rate=self.extractor.sampling_rate)["input_values"][0]
            return Heard(np.asarray(heard, dtype=np.float32)[:, None], 0.0, seconds)
        window = self.extractor.n_samples / self.extractor.sampling_rate
        if len(samples) > self.extractor.n_samples:
            raise InvalidDataError(
                f"{path}: {seconds:.1f} seconds are longer than the {window:g} "
                "seconds that this model hears. Cut the recording, or take a model for CTC."
            )
        heard = self.extractor(samples, sampling_rate=self.extractor.sampling_rate)["input_features"][0]
        frames = np.asarray(heard, dtype=np.float32).T
        silence = float(frames.min())
        sounding = np.flatnonzero((frames > silence).any(axis=1))
        return Heard(frames[: int(sounding[-1]) + 1 if len(sounding) else 1], silence, seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechRecipe(TokenizerRecipe):
    """How the reader of a model that begins at random is made.

    Attributes:
        mel_bins: Of the model; 0 for one that hears samples.
        seconds: Its window; 0 likewise.
    """

    mel_bins: int = 0
    seconds: int = 0

    def train(self, rows: Rows) -> SpeechReader:
        """A feature extractor as the model needs it, and a tokenizer of the transcripts."""
        from transformers import Wav2Vec2FeatureExtractor, WhisperFeatureExtractor

        if not self.mel_bins:
            extractor: Any = Wav2Vec2FeatureExtractor(sampling_rate=_RATE, return_attention_mask=True)
            return SpeechReader(extractor, _characters(rows["text"]))
        extractor = WhisperFeatureExtractor(feature_size=self.mel_bins, sampling_rate=_RATE, chunk_length=self.seconds)
        return SpeechReader(extractor, super(SpeechRecipe, self).train(rows))


def _characters(texts: Iterable[str]) -> Any:
    from transformers import Wav2Vec2CTCTokenizer

    # The padding token is the blank of CTC; a blank between words is written "|".
    letters = sorted({letter for text in texts for letter in text} - {" ", "|"})
    vocabulary = {token: place for place, token in enumerate(["<pad>", "<unk>", "|", *letters])}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "vocab.json"
        file.write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
        return Wav2Vec2CTCTokenizer(
            str(file), bos_token=None, eos_token=None, pad_token="<pad>", unk_token="<unk>", word_delimiter_token="|"
        )
