"""Redaction of what looks like a secret, and of secrets that are known."""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sweep.redaction.patterns import MASK, is_reference, is_secret_name, passwords_of, without_shapes

_SHORTEST = 4
_SHORTEST_ANYWHERE = 8
_SHORTEST_OF_ENVIRONMENT = 6
_SHORTEST_LINE = 12
_SHORTEST_CODE = 7

_VARIABLE = re.compile(
    r"(?:\A|_)(?:TOKENS?|SECRETS?|PASS|PASSPHRASE|CREDENTIALS?|AUTH|API_?KEYS?|(?:ACCESS|PRIVATE|SECRET)_?KEY)(?:_|\Z)"
    r"|PASSWORD|PASSWD|_(?:PWD|KEY)\Z",
    re.IGNORECASE,
)
_NO_SECRET = re.compile(
    r"_(?:PATH|FILE|DIR|SOCK|SOCKET|ENDPOINT|HOST|PORT|TYPE|MODE|METHOD|USER|USERNAME|TIMEOUT)\Z", re.IGNORECASE
)
_KNOWN_TO_ALL = frozenset({"postgres", "password", "changeme"})
"""Passwords that guard nothing, and are part of many a word."""

_MAY_BE_QUOTED = re.compile(r"%[0-9A-Fa-f]{2}|\+")

_PLAIN_WORDS = frozenset({"enabled", "disabled", "required", "optional", "default", "anonymous", "prompt"})


@dataclass(frozen=True)
class Redactor:
    """Strikes out secrets; built once at the edge of a process, and passed on.

    Attributes:
        secrets: Texts that are struck out wherever they occur, besides what looks like a secret.
    """

    secrets: frozenset[str] = frozenset()

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Redactor:
        """One that knows the values of variables whose name says that they are secret, and passwords in URLs."""
        return cls().knowing(*_secrets_of(environ))

    def knowing(self, *secrets: str) -> Redactor:
        """One that knows these as well; what is too short to be a secret is left out."""
        long_enough = {secret for secret in secrets if len(secret) >= _SHORTEST}
        return self if long_enough <= self.secrets else Redactor(self.secrets | long_enough)

    def text(self, text: str) -> str:
        """A text as it may be shown; idempotent, and never much longer than the text was."""
        if self._quotable and _MAY_BE_QUOTED.search(text):
            text = self._quoted.sub(MASK, text)
        if any(form in text for form in self._forms):
            text = self._known.sub(MASK, text)
        if any(code in text for code in self._codes):
            text = self._encoded.sub(MASK, text)
        return without_shapes(text)

    def values(self, value: Any) -> Any:
        """Plain data as it may be shown; keys stay, and so does what a key without a secret name holds but texts."""
        return self._values(value, is_secret=False)

    def _values(self, value: Any, *, is_secret: bool) -> Any:
        if isinstance(value, Mapping):
            return {k: self._values(v, is_secret=is_secret or is_secret_name(str(k))) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [self._values(item, is_secret=is_secret) for item in value]
        if is_secret and _is_secret_value(value):
            return MASK
        return self.text(value) if isinstance(value, str) else value

    @cached_property
    def _forms(self) -> list[str]:
        return _longest_first(form for secret in self.secrets for form in _forms(secret))

    @cached_property
    def _known(self) -> re.Pattern[str]:
        return re.compile("|".join(_exactly(form) for form in self._forms))

    @cached_property
    def _quotable(self) -> list[str]:
        return _longest_first(line for secret in self.secrets for line in _lines(secret) if not _is_plain(line))

    @cached_property
    def _quoted(self) -> re.Pattern[str]:
        return re.compile("|".join("".join(map(_perhaps_quoted, secret)) for secret in self._quotable))

    @cached_property
    def _codes(self) -> list[str]:
        return _longest_first(code for secret in self.secrets for code in _codes(secret))

    @cached_property
    def _encoded(self) -> re.Pattern[str]:
        # With what follows; what stands before is a user's name, but for the first letter.
        return re.compile(rf"[\w+/-]{{0,4}}(?:{'|'.join(map(re.escape, self._codes))})[\w+/-]*={{0,2}}", re.ASCII)


def redacted(text: str, *urls: str) -> str:
    """A text without what looks like a secret.

    Args:
        text: A URL, or prose such as a log line that may hold some.
        urls: URLs whose passwords are struck out wherever they stand, even outside a URL.
    """
    return Redactor().knowing(*(secret for url in urls for secret in passwords_of(url))).text(text)


def redacted_values(value: Any) -> Any:
    """Plain data such as a resolved spec without what looks like a secret."""
    return Redactor().values(value)


def secrets_in(value: Any) -> set[str]:
    """Secrets that plain data such as settings holds: what stands under a secret name, and passwords in URLs."""
    return set(_secrets_in(value, is_secret=False))


def _secrets_in(value: Any, *, is_secret: bool) -> list[str]:
    if isinstance(value, Mapping):
        return [s for k, v in value.items() for s in _secrets_in(v, is_secret=is_secret or is_secret_name(str(k)))]
    if isinstance(value, list | tuple):
        return [secret for item in value for secret in _secrets_in(item, is_secret=is_secret)]
    if is_secret and _is_secret_value(value):
        return [str(value)]
    return [*passwords_of(value)] if isinstance(value, str) and "://" in value else []


def _is_secret_value(value: Any) -> bool:
    """Whether what stands under a secret name is one: a text that is no ``${NAME}``, or a number like a password."""
    if isinstance(value, str):
        return bool(value) and not is_reference(value)
    return isinstance(value, int) and abs(value) >= 10 ** (_SHORTEST_OF_ENVIRONMENT - 1)


def _secrets_of(environ: Mapping[str, str]) -> list[str]:
    found = [secret for value in environ.values() if "://" in value for secret in passwords_of(value)]
    for name, value in environ.items():
        if _VARIABLE.search(name) is None or _NO_SECRET.search(name) is not None:
            continue
        is_count = "TOKEN" in name.upper() and value.isdecimal()
        is_path = value.startswith("/") and os.path.exists(value)
        if not is_count and not is_path and value.lower() not in _PLAIN_WORDS:
            found.append(value)
    return [secret for secret in found if len(secret) >= _SHORTEST_OF_ENVIRONMENT]


def _forms(secret: str) -> set[str]:
    """How a secret can stand in a text: as it is, in JSON, and line by line."""
    return {
        form
        for text in _lines(secret)
        for form in (text, *(json.dumps(text, ensure_ascii=a)[1:-1] for a in (True, False)))
    }


def _lines(secret: str) -> list[str]:
    """The whole, and each line of several that is long enough."""
    lines = [line for line in secret.splitlines() if len(line) >= _SHORTEST_LINE]
    return [secret, *(lines if len(lines) > 1 else ())]


def _exactly(form: str) -> str:
    is_short = len(form) < _SHORTEST_ANYWHERE or form.lower() in _KNOWN_TO_ALL
    if is_short and re.fullmatch(r"[0-9a-fA-F]+|[A-Za-z]+", form):
        # So short a one is part of many a digest, number or word.
        return rf"(?<![^\W_])(?<!\d\.){form}(?![^\W_])(?!\.\d)"
    return re.escape(form)


def _perhaps_quoted(character: str) -> str:
    """A character as it is or as in a URL, in upper or lower case, even if the URL stands in another."""
    if _is_plain(character):
        return character
    quoted = "".join(f"%(?:25)?{byte:02x}" for byte in _bytes(character))
    return rf"(?:{re.escape(character)}|(?i:{quoted}){'|[+]' if character == ' ' else ''})"


def _is_plain(text: str) -> bool:
    return text.isascii() and text.isalnum()


def _codes(secret: str) -> set[str]:
    """What base64 makes of a secret whatever stands before and behind it, as of ``user:password``."""
    content, codes = _bytes(secret), set()
    for before in range(3):
        text = base64.b64encode(bytes(before) + content).decode().rstrip("=")
        # The characters at both ends depend on the neighbours, too.
        is_whole = (before + len(content)) % 3 == 0
        code = text[-(-before * 8 // 6) : None if is_whole else -1]
        if len(code) >= _SHORTEST_CODE:
            codes |= {code, code.replace("+", "-").replace("/", "_")}
    return codes


def _bytes(text: str) -> bytes:
    # The environment may hold what is no UTF-8.
    return text.encode(errors="surrogateescape")


def _longest_first(forms: Iterable[str]) -> list[str]:
    # One may be part of another.
    return sorted(set(forms), key=lambda form: (-len(form), form))
