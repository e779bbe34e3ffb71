"""Speech recognition: from a recording to its text, by CTC (Graves et al. 2006) or by an encoder and a decoder."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import AutoFeatureExtractor, AutoModelForCTC, AutoModelForSpeechSeq2Seq, AutoTokenizer

from objectives.data.batching import Indices, Ragged, TokenRows, sorted_batches, stacked
from objectives.data.files import Columns, read_columns
from objectives.data.folders import Recordings
from objectives.data.masking import IGNORED
from objectives.data.rows import Rows, clean_rows, is_empty, shown, text_cell
from objectives.data.speech import Heard, SpeechReader, SpeechRecipe
from objectives.data.task import Encoded
from objectives.finetune.generation import generated, row_losses, token_loss
from objectives.finetune.models import Head, load_tokenizer, locate_model
from objectives.finetune.objective import FineTuning
from objectives.finetune.report import DataReport, Studied, spread_of
from objectives.finetune.scratch import is_random, recipe
from objectives.finetune.task import Frame, Task
from objectives.finetune.text_scores import transcription_counts, transcription_scores
from objectives.finetune.written import Written, mean_loss, text_column, texts_of
from sweep.errors import InvalidDataError

METRICS = {"wer": "minimize", "cer": "minimize", "loss": "minimize"}
COLUMNS = {"audio": "audio", "text": "text"}
SETTINGS = {
    "beams": {"default": 1, "low": 1, "high": 64, "help": "of the search for a text; 1 is greedy"},
    "max_new_tokens": {"default": 128, "low": 1, "high": 100000, "help": "most tokens of a text that is written"},
}
UNUSED = ["augment_delete", "augment_swap", "augment_mask", "max_length"]
MODEL = "random:wav2vec2-tiny"
FOLDER = "metadata.*"
EXAMPLE = {"audio": "recordings/1.wav", "text": "good day"}


class SpeechRecognition(Task):
    """Recordings that a table lists, paths relative to it, with what is said in them."""

    columns = COLUMNS
    answer_columns = ("text",)
    folder = Recordings()

    def clean(self, columns: Columns, origin: str) -> Rows:
        """Paths and texts."""

        def audio_cell(cell: Any, place: str, part: str) -> str:
            if not isinstance(cell, str):
                raise InvalidDataError(
                    f"{place}: the {part} is {shown(cell)}, of type {type(cell).__name__}. "
                    f"Name the column that holds paths of sound files with `data.{part}`."
                )
            return str(Path(origin).parent / cell)

        return clean_rows(columns, origin, {"audio": audio_cell, "text": text_cell})

    def files_named_in(self, file: Path, names: Mapping[str, str]) -> Sequence[Path]:
        """The recordings.

        Raises:
            InvalidDataError: If one is not there.
        """
        found = []
        for number, cell in enumerate(read_columns(file, {"audio": names["audio"]})["audio"], start=1):
            path = file.parent / str(cell)
            if not is_empty(cell) and not path.is_file():
                raise InvalidDataError(
                    f"{file}: row {number}: {shown(cell)} is no file. Paths are relative to the table that names them."
                )
            found += [] if is_empty(cell) else [path]
        return found

    def gist(self, seen: str) -> str:
        """The path: names of recordings that are alike say nothing."""
        return seen

    def reader(self, reference: str, config: Any, data: Mapping[str, Any], *, trust_remote_code: bool) -> Any:
        """A feature extractor with a tokenizer; of a model that begins at random, how they are made."""
        if not is_random(reference):
            extractor = AutoFeatureExtractor.from_pretrained(locate_model(reference))
            return SpeechReader(extractor, load_tokenizer(reference, trust_remote_code=trust_remote_code))
        plain = recipe(config, data, ("text",))
        made = SpeechRecipe(**dataclasses.asdict(plain))
        if not config.is_encoder_decoder:
            return made
        # A position is two frames, of which there are a hundred a second.
        return dataclasses.replace(made, mel_bins=config.num_mel_bins, seconds=config.max_source_positions // 50)

    def encode(self, rows: Rows, tokenizer: Any, max_length: int, known: Mapping[str, Any]) -> Encoded:
        """What the model hears of each recording, flat, and the tokens of its text; the text itself lies beside."""
        heard = _all_heard(tokenizer, rows["audio"])
        targets = [tokenizer(text)["input_ids"] for text in rows["text"]]
        return Encoded(
            ids=[own.features.ravel() for own in heard],
            labels=Ragged.of(targets, np.int32),
            others={
                "silence": np.array([own.silence for own in heard], dtype=np.float32),
                "seconds": np.array([own.seconds for own in heard], dtype=np.float64),
                "target": text_column(rows["text"]),
            },
            dtype="float32",
        )

    def head(self, known: Mapping[str, Any]) -> Head:
        """Tokens of each frame, or a decoder: as the model's family has it."""

        def configure(config: Any) -> None:
            # It would hide parts of the input by numpy's global generator, whose state is in no checkpoint.
            config.apply_spec_augment = False

        return Head(part="speech model", auto=_EitherKind, configure=configure)

    def lengths(self, rows: TokenRows, frame: Frame) -> Indices:
        """Numbers of each recording."""
        return np.diff(rows.offsets)

    def weight(self, rows: TokenRows, batch: Indices, frame: Frame) -> float:
        """Tokens of the texts."""
        return float(sum(len(rows.labels[int(row)]) for row in batch))

    def loss(self, model: Any, rows: TokenRows, batch: Indices, frame: Frame) -> torch.Tensor:
        """Negative log-likelihood of a token of the texts; for a decoder with label smoothing."""
        if not model.config.is_encoder_decoder:
            losses = _ctc_losses(*_heard(model, rows, batch, frame), rows, batch, frame)
            return losses.sum() / max(1.0, self.weight(rows, batch, frame))
        return token_loss(*_predicted(model, rows, batch, frame), float(frame.settings["label_smoothing"]))

    def examine(self, model: Any, rows: TokenRows, frame: Frame, alive: Callable[[], None] | None = None) -> Written:
        """Write down each recording: by CTC the likeliest token of each frame, by a decoder greedily or by beams."""
        model.eval()
        tokenizer = AutoTokenizer.from_pretrained(frame.data.tokenizer)
        written, losses, tokens = [""] * len(rows), np.zeros(len(rows)), np.zeros(len(rows))
        with torch.inference_mode():
            for batch in sorted_batches(self.lengths(rows, frame), frame.batch_size):
                if model.config.is_encoder_decoder:
                    losses[batch], tokens[batch] = row_losses(*_predicted(model, rows, batch, frame))
                    heard = _spectrograms(model, rows, batch, frame)
                    ids = generated(model, frame.settings, losses[batch], input_features=heard)
                else:
                    logits, lengths = _heard(model, rows, batch, frame)
                    losses[batch] = _ctc_losses(logits, lengths, rows, batch, frame).double().cpu().numpy()
                    tokens[batch] = [len(rows.labels[int(row)]) for row in batch]
                    inside = torch.arange(logits.shape[1], device=logits.device) < lengths[:, None]
                    ids = logits.argmax(-1).where(inside, frame.data.pad_id)
                for row, text in zip(batch, tokenizer.batch_decode(ids, skip_special_tokens=True), strict=True):
                    written[row] = text.strip()
                if alive is not None:
                    alive()
        right = texts_of(rows.others["target"])
        counts = transcription_counts(written, right)
        return Written(
            texts=written,
            right=right,
            counts={**counts, "losses": losses, "tokens": tokens},
            scores=self.metrics,
            quality=-counts["word_errors"] / counts["words"],
            source="audio",
        )

    def metrics(self, rows: Mapping[str, Any]) -> dict[str, float]:
        """Word and character error rate and loss of any choice of rows."""
        return transcription_scores(rows) | {"loss": mean_loss(rows)}

    def report(self, study: Studied) -> DataReport:
        """Seconds of sound, how fast people speak, and recordings that are too short for their text."""
        rows = {split: study.frame.data.rows(split).others for split in study.splits}
        seconds = {split: np.asarray(found["seconds"]) for split, found in rows.items()}
        letters = {split: np.array([len(text) for text in texts_of(found["target"])]) for split, found in rows.items()}
        facts = (
            study.fact("seconds of sound", lambda s: float(seconds[s].sum())),
            study.fact("characters a second, median", lambda s: float(np.median(letters[s] / seconds[s])), "number"),
        )
        spreads = spread_of(seconds, "seconds of a recording", "number") + spread_of(letters, "characters of a text")
        report = DataReport(facts) + spreads
        return report if study.config.is_encoder_decoder else report + _ctc_report(study)


def _ctc_report(study: Studied) -> DataReport:
    """By CTC a text needs a frame for each token, and one more between two of the same."""

    def too_short(split: str) -> float:
        rows = study.frame.data.rows(split)  # not some of them: those would be copied, with all their samples
        frames = np.diff(rows.offsets)
        for kernel, stride in zip(study.config.conv_kernel, study.config.conv_stride, strict=True):
            frames = (frames - kernel) // stride + 1
        texts = [np.asarray(rows.labels[row]) for row in range(len(rows))]
        needed = np.array([len(text) + int((text[1:] == text[:-1]).sum()) for text in texts])
        return float((frames < needed).mean())

    fact = study.fact("recordings too short for their text", too_short, "share")
    warnings = []
    if fact.values["train"]:
        warnings.append(
            f"{fact.values['train']:.1%} of the training recordings are too short for their text by CTC and teach "
            "nothing. Correct or remove them."
        )
    settings = study.frame.settings
    usual = {name: declared["default"] for name, declared in SETTINGS.items()} | {"label_smoothing": 0.0}
    idle = [n for n, value in usual.items() if n in study.searched or settings.get(n, value) != value]
    if idle:
        warnings.append(f"{', '.join(idle)}: without effect, as this model recognises by CTC and has no decoder.")
    return DataReport((fact,), tuple(warnings))


def _all_heard(reader: Any, paths: Sequence[str]) -> list[Heard]:
    """What the model hears of each recording.

    Raises:
        InvalidDataError: If some cannot be heard; tells how many, and what is wrong with the first.
    """
    heard, faults = [], []
    for path in paths:
        try:
            heard.append(reader.hear(Path(path)))
        except InvalidDataError as err:
            faults.append(err)
    if len(faults) > 1:
        raise InvalidDataError(f"{len(faults)} of {len(paths)} recordings cannot be heard; the first: {faults[0]}")
    if faults:
        raise faults[0]
    return heard


class _EitherKind:
    """Finds a model's class as transformers' own do: one for CTC, or one with a decoder."""

    @staticmethod
    def from_pretrained(*place: Any, config: Any, **options: Any) -> Any:
        return _kind(config).from_pretrained(*place, config=config, **options)

    @staticmethod
    def from_config(config: Any, **options: Any) -> Any:
        return _kind(config).from_config(config, **options)


def _kind(config: Any) -> Any:
    return AutoModelForSpeechSeq2Seq if config.is_encoder_decoder else AutoModelForCTC


def _recordings(rows: TokenRows, batch: Indices) -> list[npt.NDArray[np.float32]]:
    return [np.array(rows.ids[int(rows.offsets[row]) : int(rows.offsets[row + 1])]) for row in batch]


def _heard(model: Any, rows: TokenRows, batch: Indices, frame: Frame) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits ``[batch, frames, vocabulary]`` of a model for CTC, and how many of the frames are sound, ``[batch]``."""
    recordings = _recordings(rows, batch)
    lengths = torch.tensor([len(recording) for recording in recordings])
    samples = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(part) for part in recordings], batch_first=True)
    options = {}
    if getattr(model.config, "feat_extract_norm", "layer") == "layer":
        # Families that normalise a recording as a whole were trained without a mask.
        options["attention_mask"] = (torch.arange(samples.shape[1]) < lengths[:, None]).long().to(frame.device)
    logits: torch.Tensor = model(samples.to(frame.device), **options).logits
    return logits, model._get_feat_extract_output_lengths(lengths).to(frame.device)


def _ctc_losses(
    logits: torch.Tensor, lengths: torch.Tensor, rows: TokenRows, batch: Indices, frame: Frame
) -> torch.Tensor:
    """Negative log-likelihood of each text, ``[batch]``; 0 where a recording is too short for its text."""
    targets = [torch.from_numpy(np.asarray(rows.labels[int(row)], dtype=np.int64)) for row in batch]
    return torch.nn.functional.ctc_loss(
        logits.float().log_softmax(-1).transpose(0, 1),
        torch.cat(targets).to(frame.device),
        lengths,
        torch.tensor([len(target) for target in targets], device=frame.device),
        blank=frame.data.pad_id,
        reduction="none",
        zero_infinity=True,
    )


def _spectrograms(model: Any, rows: TokenRows, batch: Indices, frame: Frame) -> torch.Tensor:
    """What an encoder hears, ``[batch, mel bins, frames of its window]``: silence behind each recording."""
    width, window = model.config.num_mel_bins, 2 * model.config.max_source_positions
    silence: Any = rows.others["silence"]
    heard = np.repeat(silence[batch].astype(np.float32), window * width).reshape(len(batch), window, width)
    for line, recording in enumerate(_recordings(rows, batch)):
        heard[line, : len(recording) // width] = recording.reshape(-1, width)
    return torch.from_numpy(heard).transpose(1, 2).contiguous().to(frame.device)


def _predicted(model: Any, rows: TokenRows, batch: Indices, frame: Frame) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits ``[batch, longest, vocabulary]`` of a decoder and labels ``[batch, longest]``."""
    labels = torch.from_numpy(stacked([rows.labels[int(row)] for row in batch], IGNORED)).to(frame.device)
    logits: torch.Tensor = model(_spectrograms(model, rows, batch, frame), labels=labels).logits
    return logits, labels


class SpeechRecognitionObjective(FineTuning):
    """The objective."""

    def __init__(self) -> None:
        super().__init__(SpeechRecognition())


OBJECTIVE = SpeechRecognitionObjective
