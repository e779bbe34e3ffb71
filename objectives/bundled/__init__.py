"""The embedded default: a small real model and real data from the package index, no model hub."""
