"""What a secret looks like in a text, whoever it belongs to."""

from __future__ import annotations

import re
from urllib.parse import unquote, unquote_plus

MASK = "***"

REFERENCE = re.compile(r"\$\{([A-Za-z_]\w*)\}", re.ASCII)
"""The name of an environment variable in a spec's text."""

# Repetitions are bounded: a line of a megabyte must not take a minute.
_SCHEME = r"(?P<scheme>\s{0,8}[A-Za-z][\w+.\-]{0,40}://)"
# A password may hold "/", "?" and "@": the last "@" ends it.
_WHOLE_URL = re.compile(rf"\A{_SCHEME}(?P<user>[^:/@\s]*)(?P<password>:.*)?@", re.DOTALL)
_URL = re.compile(rf"{_SCHEME}(?P<user>[^:/@\s]{{0,400}})(?P<password>:\S{{0,500}})?@")

# The tokens of a tokenizer are none of ours.
_OF_A_TOKENIZER = "".join(
    rf"(?<!{word}[_ -])"
    for word in (
        *("bos", "eos", "pad", "unk", "sep", "cls", "mask", "max", "num", "next", "last", "stop", "start", "end"),
        *("first", "image", "special", "unknown", "unexpected", "invalid", "decoder_start"),
    )
)
_KEYS = (
    r"password|passwd|passphrase|pwd|secret|credential|"
    r"(?:api|access|secret|private|signing|encryption|account)[_-]?key(?:[_-]?id)?"
)
_TOKEN_KEY = rf"(?=token){_OF_A_TOKENIZER}token"
_OF_NAMES = r"(?:\A|[_-])(?:pass|auth|dsn|connection[_-]?string)"
_SECRET_NAME = re.compile(rf"(?:(?:{_KEYS})s?|{_TOKEN_KEY}|{_OF_NAMES})\Z", re.IGNORECASE)

_SEPARATOR = r"\\{0,8}[\"']?[ \t]{0,8}(?:=>|[:=])[ \t]{0,8}"
_BARE = r"(?:[^\s&\"'\\]|\\(?![\"'n]))"
_QUOTED = r"(?P<quote>\\{0,8}[\"'])(?P<secret>(?:(?!(?P=quote))(?:\\.|[^\n]))+)"
_ENDS = r"(?=[,;)}\]]{0,8}(?:[\s&\"'\\]|\Z))"

# Each of these takes what stands before the secret as ``key``, and the secret itself.
_IN_QUERY = re.compile(
    r"(?P<key>[?&;][^=&\s]{0,60}?(?:pass|pwd|secret|token|credential|api_?key|access_?key|signature|odbc_connect)"
    rf"[^=&\s]{{0,60}}=)(?P<secret>{_BARE}+)",
    re.IGNORECASE,
)
_HEADER = re.compile(
    r"(?P<key>\b(?:proxy-)?authorization\\{0,8}[\"']?[ \t]{0,8}[:=][ \t]{0,8}\\{0,8}[\"']?"
    r"(?:(?:bearer|basic|token|digest|negotiate)[ \t]+)?)(?P<secret>[^\s\"',\\]+)",
    re.IGNORECASE,
)
_BEARER = re.compile(r"(?P<key>\bbearer[ \t]+)(?P<secret>[\w.~+/=-]{8,})", re.IGNORECASE)
_IN_QUOTES = re.compile(rf"(?P<key>(?:{_KEYS})s?{_SEPARATOR}){_QUOTED}", re.IGNORECASE)
_IN_THE_OPEN = re.compile(rf"(?P<key>(?:{_KEYS})s?{_SEPARATOR})(?P<secret>\$\{{\w+\}}|{_BARE}+?){_ENDS}", re.IGNORECASE)
_TOKEN = re.compile(
    rf"(?P<key>{_TOKEN_KEY}{_SEPARATOR}\\{{0,8}}[\"']?)(?P<secret>[A-Za-z0-9][\w.~+/=-]{{5,}})", re.IGNORECASE
)
_OPTION = re.compile(
    rf"(?P<key>(?<![\w-])--?(?:\w[\w-]{{0,40}}?)??(?:{_KEYS}|{_TOKEN_KEY})"
    r"\\{0,8}[\"']?,?[ \t]{1,8}\\{0,8}[\"']?)"
    r"(?P<secret>[^\s\"'\\-][^\s\"'\\]*)",
    re.IGNORECASE,
)

# Most lines hold nothing of the kind, and looking for a word is much quicker than for a pattern.
_KEY_HINTS = ("pass", "pwd", "secret", "credential", "key")
_HINTED = (
    (("=",), _IN_QUERY),
    (("authorization",), _HEADER),
    (("bearer",), _BEARER),
    (_KEY_HINTS, _IN_QUOTES),
    (_KEY_HINTS, _IN_THE_OPEN),
    (("token",), _TOKEN),
    ((*_KEY_HINTS, "token"), _OPTION),
)

_BARE_TOKEN = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    r"hf_[A-Za-z0-9]{16,}|"  # Hugging Face
    r"sk-(?=[\w-]{0,200}\d)[\w-]{16,}|"  # OpenAI, Anthropic
    r"gh[pousr]_[A-Za-z0-9]{16,}|github_pat_\w{16,}|glpat-[\w-]{16,}|"
    r"(?:AKIA|ASIA)[A-Z0-9]{16}|AIza[\w-]{30,}|"  # Amazon, Google
    r"xox[a-z]-[A-Za-z0-9-]{10,}|dapi[0-9a-f]{32}|"  # Slack, Databricks
    r"eyJ[\w-]{8,1000}+\.[\w-]{8,}(?:\.[\w-]*)?"  # JSON web tokens
    r")",
    re.ASCII,
)

KEY_BEGINS = re.compile(r"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY-----")
KEY_ENDS = re.compile(r"-----END (?:[A-Z0-9]+ ){0,3}PRIVATE KEY-----")
_PRIVATE_KEY = re.compile(rf"{KEY_BEGINS.pattern}.*?(?:{KEY_ENDS.pattern}|\Z)", re.DOTALL)


_MOST_ROUNDS = 4
_TOKEN_HINTS = (
    *("hf_", "sk-", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-"),
    *("AKIA", "ASIA", "AIza", "xox", "dapi", "eyJ"),
)


def without_shapes(text: str) -> str:
    """A text without whatever looks like a secret; ``${NAME}`` in the place of one stays."""
    text = _PRIVATE_KEY.sub(MASK, text)
    if "\n" not in text:
        return _line_without_shapes(_WHOLE_URL.sub(_without_password, text) if "://" in text else text)
    return "\n".join(map(_line_without_shapes, text.split("\n")))


def _line_without_shapes(line: str) -> str:
    # What is struck out can bring to light what stood beside it.
    for _ in range(_MOST_ROUNDS):
        before, line = line, _struck(line)
        if line == before:
            break
    return line


def _struck(line: str) -> str:
    if any(hint in line for hint in _TOKEN_HINTS):
        line = _BARE_TOKEN.sub(MASK, line)
    if "://" in line:
        line = _URL.sub(_without_password, line)
    folded = line.lower()
    for hints, pattern in _HINTED:
        if any(hint in folded for hint in hints):
            line = pattern.sub(_without_secret, line)
    return line


def is_secret_name(name: str) -> bool:
    """Whether what a setting of this name holds is a secret: ``api_key``, ``db-password``, not ``pad_token``."""
    return _SECRET_NAME.search(name) is not None


def is_reference(text: str) -> bool:
    """Whether a text says where to find the secret instead of the secret: ``${NAME}``."""
    return REFERENCE.fullmatch(text) is not None


def passwords_of(url: str) -> set[str]:
    """Passwords in a URL, as they stand there and as they are meant."""
    found = [match["secret"] for match in _IN_QUERY.finditer(url)]
    match = _WHOLE_URL.match(url)
    if match is not None:
        password = (match["password"] or "").removeprefix(":")
        # On the web the name alone is a token.
        found.append(password or (match["user"] if _is_of_the_web(match) else ""))
    meant = [form for secret in found if not is_reference(secret) for form in (secret, unquote(secret))]
    return {form for secret in meant for form in (secret, unquote_plus(secret)) if form}


def _is_of_the_web(match: re.Match[str]) -> bool:
    return match["scheme"].strip().lower().startswith("http")


def _without_password(match: re.Match[str]) -> str:
    user, password = match["user"], (match["password"] or "").removeprefix(":")
    if is_reference(password or user):
        return match[0]
    # On the web the name itself can be a token; a database's user is no secret.
    if _is_of_the_web(match):
        return f"{match['scheme']}{MASK}@"
    return f"{match['scheme']}{user}{f':{MASK}' if match['password'] else ''}@"


def _without_secret(match: re.Match[str]) -> str:
    if is_reference(match["secret"]):
        return match[0]
    quote = match.groupdict().get("quote") or ""
    return f"{match['key']}{quote}{MASK}"
