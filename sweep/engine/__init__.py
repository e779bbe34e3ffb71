"""Decisions: who trains what next, what a report leads to, when the study is over."""
