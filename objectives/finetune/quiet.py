"""Progress bars and chatter of the libraries, switched off."""

from __future__ import annotations

import logging

import transformers


def silence_libraries() -> None:
    """Switch off the progress bars and notes of transformers and bitsandbytes; errors stay."""
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    # peft imports it where it is installed; on some CPUs it misses a package that nobody here needs.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
