"""Progress bars and chatter of the libraries, switched off."""

from __future__ import annotations

import transformers


def silence_libraries() -> None:
    """Switch off the progress bars and notes of transformers; errors stay."""
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
