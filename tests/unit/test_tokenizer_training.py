from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any, get_args

import pytest
from transformers import AutoTokenizer

from objectives.data.tokenizer_training import Algorithm, Role, begins_of, train_tokenizer
from sweep.errors import UserError

CORPUS = list(topics.values())[:20]
KINDS = [("wordpiece", "encoder"), *(("byte-bpe", role) for role in get_args(Role))]

TRAIN_AND_HASH = """
import hashlib
from pydoc_data.topics import topics
from objectives.data.tokenizer_training import _SPECIALS, _byte_bpe, _wordpiece
texts = list(topics.values())[:20]
for train, kind in ((_byte_bpe, ("byte-bpe", "decoder")), (_wordpiece, ("wordpiece", "encoder"))):
    print(hashlib.sha256(train(texts, _SPECIALS[kind], 800).to_str().encode()).hexdigest())
"""


def test_the_same_corpus_gives_the_same_tokenizer_in_every_process() -> None:
    command = [sys.executable, "-c", TRAIN_AND_HASH]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    found = [process.communicate()[0].split() for process in running]
    assert len(set(found[0])) == 2
    assert found == [found[0]] * 4


@pytest.mark.parametrize(("algorithm", "role"), KINDS)
def test_a_saved_tokenizer_is_loaded_again_and_gives_the_text_back(
    algorithm: Algorithm, role: Role, tmp_path: Path
) -> None:
    train_tokenizer(CORPUS, algorithm, role, 800).save_pretrained(tmp_path)
    loaded: Any = AutoTokenizer.from_pretrained(tmp_path)
    text = "if the value is None, the lambda expression returns"
    ids = loaded(text)["input_ids"]
    assert len(loaded) <= 800
    assert loaded.pad_token_id is not None
    assert loaded.decode(ids, skip_special_tokens=True) == text
    ends = {"encoder": loaded.sep_token_id, "encoder-decoder": loaded.eos_token_id}
    assert (ids[-1] == ends[role]) if role in ends else (loaded.eos_token_id not in ids)


def test_bytes_know_every_text() -> None:
    tokenizer = train_tokenizer(CORPUS, "byte-bpe", "encoder-decoder", 500)
    text = "汤姆 ≠ Größe 🎈"
    assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text


def test_word_begins_come_from_the_tokenizer() -> None:
    tokenizer = train_tokenizer(CORPUS, "wordpiece", "encoder", 400)
    encoded = tokenizer("expression zzyzx")
    tokens = tokenizer.convert_ids_to_tokens(encoded["input_ids"])
    begins = begins_of(encoded.word_ids())
    assert begins == [not token.startswith("##") for token in tokens]
    assert not all(begins)


@pytest.mark.parametrize(
    ("algorithm", "role", "size", "match"),
    [
        ("byte-bpe", "decoder", 200, "vocabulary_size: 200 is below 258"),
        ("wordpiece", "decoder", 800, "has no end token, which a decoder needs"),
    ],
)
def test_what_cannot_be_trained_is_refused(algorithm: Algorithm, role: Role, size: int, match: str) -> None:
    with pytest.raises(UserError, match=match):
        train_tokenizer(CORPUS, algorithm, role, size)
