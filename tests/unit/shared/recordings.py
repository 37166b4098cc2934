"""Where the recorded conversations are, for tests that read them."""

from pathlib import Path

from tests.model_server.requirement import require_recordings
from tests.services import missing


def recordings_file(name: str) -> Path:
    """A file of recorded conversations. Skips the test where there is none; fails in CI."""
    file = require_recordings() / name
    if not file.is_file():
        missing(f"the folder with the recordings has no {name}")
    return file
