"""One file for each task; each names its objective's class ``OBJECTIVE``."""
