"""No test here writes into the user's own cache."""

from tests.recording import own_cache

__all__ = ["own_cache"]
