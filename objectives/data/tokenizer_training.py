"""Tokenizers trained from the corpus of a study; the same texts give the same tokenizer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE, WordPiece
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import BpeTrainer, WordPieceTrainer

from objectives.data.rows import Rows
from sweep.errors import UserError

Algorithm = Literal["wordpiece", "byte-bpe"]
Role = Literal["encoder", "decoder", "encoder-decoder"]

_INSIDE = "##"
_BYTES = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class _Specials:
    """Special tokens in the order of their ids, their roles, and what stands around a text (and a second one)."""

    roles: Mapping[str, str]
    single: str | None = None
    pair: str | None = None

    @property
    def tokens(self) -> list[str]:
        return list(dict.fromkeys(self.roles.values()))


_BERT = _Specials(
    roles={
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
    },
    single="[CLS] $A [SEP]",
    pair="[CLS] $A [SEP] $B:1 [SEP]:1",
)
_ROBERTA = _Specials(
    roles={
        "pad_token": "<pad>",
        "bos_token": "<s>",
        "cls_token": "<s>",
        "eos_token": "</s>",
        "sep_token": "</s>",
        "unk_token": "<unk>",
        "mask_token": "<mask>",
    },
    single="<s> $A </s>",
    pair="<s> $A </s> </s> $B </s>",
)
_GPT2 = _Specials(roles={"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "pad_token": "<|pad|>"})
_T5 = _Specials(
    roles={"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}, single="$A </s>", pair="$A </s> $B </s>"
)
_SPECIALS: Mapping[tuple[Algorithm, Role], _Specials] = {
    ("wordpiece", "encoder"): _BERT,
    ("byte-bpe", "encoder"): _ROBERTA,
    ("byte-bpe", "decoder"): _GPT2,
    ("byte-bpe", "encoder-decoder"): _T5,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizerRecipe:
    """How a study's tokenizer is trained from its training rows.

    Attributes:
        algorithm: See :func:`train_tokenizer`.
        role: Likewise.
        vocabulary_size: Likewise.
        columns: Parts whose texts it learns from, where the rows have them.
    """

    algorithm: Algorithm
    role: Role
    vocabulary_size: int
    columns: tuple[str, ...]

    @property
    def pad_token_id(self) -> int:
        """A guess, while there is no tokenizer."""
        return 0

    def __len__(self) -> int:
        return self.vocabulary_size

    def num_special_tokens_to_add(self) -> int:
        """Most tokens that it puts around a text."""
        return 2

    def train(self, rows: Rows) -> Any:
        """The tokenizer."""
        return train_tokenizer(_Texts(rows, self.columns), self.algorithm, self.role, self.vocabulary_size)


@dataclass(frozen=True, slots=True)
class _Texts:
    """Texts of rows, some rows at a time, as often as one likes."""

    rows: Rows
    columns: tuple[str, ...]

    def __iter__(self) -> Iterator[str]:
        for part in self.columns:
            if part in self.rows.columns:
                yield from (str(text) for chunk in self.rows.chunks() for text in chunk[part])


def train_tokenizer(texts: Iterable[str], algorithm: Algorithm, role: Role, vocabulary_size: int) -> Any:
    """Train a tokenizer.

    Args:
        texts: The corpus; it may be gone through more than once.
        algorithm: ``wordpiece`` (Schuster and Nakajima 2012, as in BERT, cased) or ``byte-bpe`` (byte-level BPE,
            Radford et al. 2019), which knows every text.
        role: Of the model it is for; decides the special tokens.
        vocabulary_size: Most tokens it has; small corpora give fewer.

    Returns:
        A fast transformers tokenizer.

    Raises:
        UserError: If the size is too small, or algorithm and role do not go together.
    """
    from transformers import PreTrainedTokenizerFast

    specials = _SPECIALS.get((algorithm, role))
    if specials is None:
        raise UserError(f"tokenizer: {algorithm!r} has no end token, which a {role} needs. Use byte-bpe.")
    smallest = _BYTES + len(specials.tokens) if algorithm == "byte-bpe" else 100
    if vocabulary_size < smallest:
        raise UserError(f"vocabulary_size: {vocabulary_size} is below {smallest}. Raise it to 1000 or more.")
    trained = (_byte_bpe if algorithm == "byte-bpe" else _wordpiece)(texts, specials, vocabulary_size)
    if specials.single is not None:
        trained.post_processor = TemplateProcessing(
            single=specials.single,
            pair=specials.pair,
            special_tokens=[(token, trained.token_to_id(token)) for token in specials.tokens],
        )
    return PreTrainedTokenizerFast(tokenizer_object=trained, **specials.roles)


def _byte_bpe(texts: Iterable[str], specials: _Specials, size: int) -> Tokenizer:
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=size,
        special_tokens=specials.tokens,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _wordpiece(texts: Iterable[str], specials: _Specials, size: int) -> Tokenizer:
    # The library numbers the letters inside of words by the order of a hash map, which changes the merges from one
    # process to the next; given in order, they keep it.
    letters = sorted(token for token in _vocabulary(texts, specials.tokens, 0) if token.startswith(_INSIDE))
    vocabulary = _vocabulary(texts, [*specials.tokens, *letters], size)
    tokenizer = _wordpiece_tokenizer(vocabulary)
    tokenizer.add_special_tokens(specials.tokens)
    tokenizer.decoder = decoders.WordPiece(prefix=_INSIDE)
    return tokenizer


def _vocabulary(texts: Iterable[str], first: Sequence[str], size: int) -> dict[str, int]:
    tokenizer = _wordpiece_tokenizer({})
    tokenizer.train_from_iterator(
        texts, WordPieceTrainer(vocab_size=size, special_tokens=list(first), show_progress=False)
    )
    found: dict[str, int] = tokenizer.get_vocab()
    return found


def _wordpiece_tokenizer(vocabulary: Mapping[str, int]) -> Tokenizer:
    tokenizer = Tokenizer(WordPiece(dict(vocabulary), unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def begins_of(word_ids: Sequence[int | None]) -> list[bool]:
    """Whether each token begins a word, by a fast tokenizer's ``word_ids``; special tokens (None) do."""
    return [word is None or place == 0 or word != word_ids[place - 1] for place, word in enumerate(word_ids)]
