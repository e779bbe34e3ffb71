"""Cannot be imported on a node that is marked so: no warm parent there can start a trial process."""

from __future__ import annotations

import os

FAULTY_NODE = "SWEEP_TEST_FAULTY_NODE"

if FAULTY_NODE in os.environ:
    raise OSError("Resource temporarily unavailable")
