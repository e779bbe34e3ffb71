"""Rows: where they come from, how they are split, tokenised once and batched."""
