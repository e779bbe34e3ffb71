"""What may be shown: texts, plain data and streams without passwords, tokens and keys.

Striking out too much is a nuisance, too little is a leak: what looks like a secret is taken for one. Only what is
shown or stored passes through here, never what is used.
"""

from sweep.redaction.patterns import MASK, is_reference, is_secret_name, passwords_of
from sweep.redaction.redactor import Redactor, redacted, redacted_values, secrets_in
from sweep.redaction.stream import RedactedStream, redact_streams

__all__ = [
    "MASK",
    "RedactedStream",
    "Redactor",
    "is_reference",
    "is_secret_name",
    "passwords_of",
    "redact_streams",
    "redacted",
    "redacted_values",
    "secrets_in",
]
