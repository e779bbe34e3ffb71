"""URLs as they may be shown: to a database or a server, without the password.

Striking out too much is a nuisance, too little is a leak: what looks like a password is taken for one.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote, unquote_plus

MASK = "***"

# A password may hold "/", "?" and "@": the last "@" ends it.
_WHOLE_URL = re.compile(r"\A(?P<scheme>\s*[A-Za-z][\w+.\-]*://)(?P<user>[^:/@\s]*)(?P<password>:.*)?@", re.DOTALL)
_URL = re.compile(r"(?P<scheme>[A-Za-z][\w+.\-]*://)(?P<user>[^:/@\s]*)(?P<password>:\S*)?@")
_QUERY = re.compile(
    r"(?P<key>[?&;][^=&\s]*(?:pass|pwd|secret|token|credential|api_?key|access_?key|signature|odbc_connect)[^=&\s]*=)"
    r"(?P<password>[^&\s]+)",
    re.IGNORECASE,
)
_KEYWORD = re.compile(r"(?P<key>\b(?:password|passwd|pwd)=)(?P<password>'[^']*'|[^\s&]+)", re.IGNORECASE)
_SHORTEST_LITERAL = 4


def redacted(text: str, *urls: str) -> str:
    """A text with the passwords of all URLs in it struck out.

    Args:
        text: A URL, or prose such as a log line that may hold some.
        urls: URLs whose passwords are struck out wherever they stand, even outside a URL.
    """
    for url in urls:
        for secret in sorted(_secrets(url), key=len, reverse=True):
            text = text.replace(secret, MASK)
    if "\n" not in text:
        text = _WHOLE_URL.sub(_without_password, text)
    text = _URL.sub(_without_password, text)
    text = _QUERY.sub(rf"\g<key>{MASK}", text)
    return _KEYWORD.sub(rf"\g<key>{MASK}", text)


def redacted_values(value: Any) -> Any:
    """Plain data such as a resolved spec, each text in it redacted."""
    if isinstance(value, dict):
        return {key: redacted_values(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [redacted_values(item) for item in value]
    return redacted(value) if isinstance(value, str) else value


def _without_password(match: re.Match[str]) -> str:
    user, password = match["user"], match["password"]
    # On the web the name itself can be a token; a database's user is no secret.
    if match["scheme"].strip().lower().startswith("http"):
        return f"{match['scheme']}{MASK}@"
    return f"{match['scheme']}{user}{f':{MASK}' if password else ''}@"


def _secrets(url: str) -> set[str]:
    """Passwords of a URL, as they stand there and as they are meant."""
    found = [match["password"] for match in _QUERY.finditer(url)]
    match = _WHOLE_URL.match(url)
    if match is not None:
        found.append((match["password"] or "").removeprefix(":"))
        if match["scheme"].strip().lower().startswith("http"):
            found.append(match["user"])
    meant = [form for secret in found for form in (secret, unquote(secret), unquote_plus(secret))]
    return {secret for secret in meant if len(secret) >= _SHORTEST_LITERAL}
