from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers.normalizers import Replace
from tokenizers.processors import TemplateProcessing

from objectives.data.preparation import PreparedData, prepare_data
from objectives.finetune.models import load_tokenizer
from objectives.tasks.text_classification import Classification, TextClassification
from objectives.testing import tiny_file, tiny_model, tiny_rows, tiny_settings, tiny_tokenizer
from sweep.errors import InvalidDataError, ModelError, UserError


class CountingTokenizer:
    """Counts the texts a real tokenizer is given."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.texts = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)

    def __len__(self) -> int:
        return len(self._tokenizer)

    def __call__(self, texts: Any, **options: Any) -> Any:
        self.texts += 1 if isinstance(texts, str) else len(texts)
        return self._tokenizer(texts, **options)


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    return tiny_settings(tiny_model(tmp_path / "model"), tiny_file(tmp_path / "train.jsonl", tiny_rows(60)))


def _prepare(settings: Mapping[str, Any], folder: Path) -> Mapping[str, Any]:
    return TextClassification().prepare(settings, folder)


def test_summary_tells_what_the_port_promises(settings: dict[str, Any], tmp_path: Path) -> None:
    summary = _prepare(settings, tmp_path / "prepared")
    assert summary["rows"] == {"train": 38, "validation": 10, "test": 12}
    assert summary["labels"] == ["food", "music", "weather"]
    assert summary["training_rows"] == 38
    assert sum(summary["classes"]["train"].values()) == 38
    assert summary["checkpoint_bytes"] > 0
    assert (summary["warnings"], summary["reused"]) == ([], False)
    assert Path(summary["folder"]).parent == tmp_path / "prepared"


def test_prepared_rows_give_back_the_texts(settings: dict[str, Any], tmp_path: Path) -> None:
    data = PreparedData.open(Path(_prepare(settings, tmp_path / "prepared")["folder"]))
    tokenizer = load_tokenizer(settings["model"])
    rows = data.rows("train")
    texts = {tuple(tokenizer(row["text"], truncation=True, max_length=16)["input_ids"]) for row in tiny_rows(60)}
    assert all(tuple(rows.tokens(i, 16).tolist()) in texts for i in range(len(rows)))
    assert isinstance(rows.ids, np.memmap)
    for length in (4, 8):
        assert rows.tokens(0, length)[-1] == tokenizer.sep_token_id
        assert len(rows.tokens(0, length)) <= length


def test_data_is_tokenised_once(settings: dict[str, Any], tmp_path: Path) -> None:
    counting = CountingTokenizer(load_tokenizer(settings["model"]))
    first, fresh = prepare_data(settings["data"], counting, 16, tmp_path / "prepared", Classification())
    seen = counting.texts
    again, fresh_again = prepare_data(settings["data"], counting, 16, tmp_path / "prepared", Classification())
    assert (fresh, fresh_again) == (True, False)
    assert (seen >= 60, counting.texts) == (True, seen)
    assert first == again


def test_changed_data_tokenizer_or_setting_is_prepared_anew(settings: dict[str, Any], tmp_path: Path) -> None:
    def key() -> str:
        return Path(_prepare(settings, tmp_path / "prepared")["folder"]).name

    keys = [key()]
    tiny_file(Path(settings["data"]["train"][0]), tiny_rows(61))
    keys.append(key())
    settings["data"] = {**settings["data"], "split_seed": 1}
    keys.append(key())
    settings["training"] = {**settings["training"], "max_length": 12}
    keys.append(key())
    tiny_tokenizer(Path(settings["model"]), ["another word"])
    keys.append(key())
    assert len(set(keys)) == 5
    settings["training"] = {**settings["training"], "learning_rate": 1.0, "train_rows": 20}
    assert key() == keys[-1]


def test_damaged_preparation_is_made_again(settings: dict[str, Any], tmp_path: Path) -> None:
    folder = Path(_prepare(settings, tmp_path / "prepared")["folder"])
    before = (folder / "train.ids.npy").read_bytes()
    (folder / "train.ids.npy").write_bytes(before[:-1] + b"\xff")
    assert _prepare(settings, tmp_path / "prepared")["reused"] is False
    assert (folder / "train.ids.npy").read_bytes() == before


def test_searched_length_is_prepared_at_its_largest(settings: dict[str, Any], tmp_path: Path) -> None:
    settings["space"] = {"max_length": {"low": 8, "high": 24}, "train_rows": {"choices": [10, None]}}
    summary = _prepare(settings, tmp_path / "prepared")
    assert PreparedData.open(Path(summary["folder"])).meta["max_length"] == 24
    assert summary["training_rows"] == 38


def test_given_splits_are_used_as_they_are(settings: dict[str, Any], tmp_path: Path) -> None:
    for name, count in (("validation", 9), ("test", 12)):
        settings["data"][name] = (str(tiny_file(tmp_path / f"{name}.jsonl", tiny_rows(count, seed=5))),)
    assert _prepare(settings, tmp_path / "p")["rows"] == {"train": 60, "validation": 9, "test": 12}


def test_doubles_between_splits_are_counted_in_a_warning(settings: dict[str, Any], tmp_path: Path) -> None:
    settings["data"]["validation"] = (str(tiny_file(tmp_path / "v.jsonl", tiny_rows(60)[:7])),)
    settings["data"]["test_fraction"] = 0.0
    assert any(
        "7 validation rows have a text that is also" in w for w in _prepare(settings, tmp_path / "p")["warnings"]
    )


def test_text_that_the_tokenizer_does_not_know_is_told_with_its_share(settings: dict[str, Any], tmp_path: Path) -> None:
    rows = [{"text": f"你好 世界 please {i}", "label": str(i % 2)} for i in range(40)]
    tiny_file(Path(settings["data"]["train"][0]), rows)
    assert any("75% of the tokens are unknown" in w for w in _prepare(settings, tmp_path / "p")["warnings"])


def test_texts_with_contradicting_labels_are_counted_in_a_warning(settings: dict[str, Any], tmp_path: Path) -> None:
    rows = tiny_rows(60)
    torn = [{"text": row["text"], "label": label} for row in rows[:5] for label in ("music", "weather", "food")]
    tiny_file(Path(settings["data"]["train"][0]), [*rows, *torn])
    warnings = _prepare(settings, tmp_path / "p")["warnings"]
    assert any(w.startswith("5 inputs have different answers (label) in different rows") for w in warnings)
    tiny_file(Path(settings["data"]["train"][0]), [*rows, *rows[:5]])
    assert not any("different answers" in w for w in _prepare(settings, tmp_path / "p")["warnings"])


def test_one_text_over_and_over_is_prepared_with_warnings(settings: dict[str, Any], tmp_path: Path) -> None:
    rows = [{"text": "play", "label": label} for label in ("music", "food") * 20]
    tiny_file(Path(settings["data"]["train"][0]), rows)
    warnings = _prepare(settings, tmp_path / "p")["warnings"]
    assert any("is also a training text" in w for w in warnings)
    assert any(w.startswith("1 input has different answers (label) in different rows") for w in warnings)


def test_a_text_of_a_megabyte_is_cut_like_any_other(settings: dict[str, Any], tmp_path: Path) -> None:
    rows = [*tiny_rows(60), {"text": "play " * 200_000, "label": "music"}]
    tiny_file(Path(settings["data"]["train"][0]), rows)
    assert max(lengths["1"] for lengths in _prepare(settings, tmp_path / "p")["lengths"].values()) == 16


def test_rare_class_stays_in_training_and_is_told(settings: dict[str, Any], tmp_path: Path) -> None:
    rows = [*tiny_rows(60), {"text": "play", "label": "rare"}]
    tiny_file(Path(settings["data"]["train"][0]), rows)
    summary = _prepare(settings, tmp_path / "p")
    assert summary["classes"]["train"]["rare"] == 1
    assert any("no validation row" in w and "rare" in w for w in summary["warnings"])


def test_empty_rows_are_told(settings: dict[str, Any], tmp_path: Path) -> None:
    tiny_file(Path(settings["data"]["train"][0]), [*tiny_rows(60), {"text": " ", "label": "food"}])
    assert any("1 rows with an empty text or label" in w for w in _prepare(settings, tmp_path / "p")["warnings"])


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"data": {"validation_fraction": 0.0}}, InvalidDataError, "no validation rows"),
        ({"data": {"text": "txet"}}, InvalidDataError, "Did you mean 'text'"),
        ({"data": {"train": ()}}, InvalidDataError, "neither `source` nor `train`"),
        ({"training": {"max_length": 65}}, ModelError, "above the 64 tokens"),
        ({"training": {"max_length": 2}}, UserError, "no room for a token"),
        ({"training": {"keep_layers": (0, 2)}}, ModelError, "below 2"),
        ({"training": {"dropout": 1.5}}, ModelError, "not in"),
        ({"training": {"freeze": ("pooler",)}}, ModelError, "unknown"),
        ({"space": {"keep_layers": {"choices": [(0,), (5,)]}}}, ModelError, r"\[5\]"),
        (
            {"training": {"keep_layers": (4,)}, "space": {"keep_layers": {"choices": [(0,), (1,)]}}},
            ModelError,
            r"\[4\]",
        ),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_trained(
    settings: dict[str, Any], tmp_path: Path, change: Mapping[str, Any], error: type[Exception], message: str
) -> None:
    for part, values in change.items():
        settings[part] = {**settings[part], **values}
    with pytest.raises(error, match=message):
        _prepare(settings, tmp_path / "p" / "q")
    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (tiny_rows(60)[:1] * 9, "one label 'food'"),
        ([{"text": "a", "label": "x"}, {"text": "b", "label": "y"}], "too few to split off"),
    ],
)
def test_rows_that_cannot_be_learnt_from_are_refused(
    settings: dict[str, Any], tmp_path: Path, rows: list[dict[str, str]], message: str
) -> None:
    tiny_file(Path(settings["data"]["train"][0]), rows)
    with pytest.raises(InvalidDataError, match=message):
        _prepare(settings, tmp_path / "p")
    assert not (tmp_path / "p").exists()


def test_preparation_that_fails_while_writing_leaves_no_folder(settings: dict[str, Any], tmp_path: Path) -> None:
    tokenizer = load_tokenizer(settings["model"])
    tokenizer.backend_tokenizer.normalizer = Replace("unreadable", "")
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="$A", special_tokens=[])
    tiny_file(Path(settings["data"]["train"][0]), [*tiny_rows(60), {"text": "unreadable", "label": "food"}])
    with pytest.raises(InvalidDataError, match="makes no token of 'unreadable'"):
        prepare_data(settings["data"], tokenizer, 16, tmp_path / "p" / "q", Classification())
    assert not (tmp_path / "p").exists()
