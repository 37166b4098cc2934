"""Where the recorded conversations are, for tests that read them."""

from pathlib import Path

from tests.model_server.recording import FOLDER_VARIABLE, find_folder
from tests.services import missing


def recordings_file(name: str) -> Path:
    """A file of recorded conversations. Skips the test where there is none; fails in CI."""
    folder = find_folder()
    if folder is None or not (folder / name).is_file():
        missing(f"no recorded conversations: set {FOLDER_VARIABLE} to the folder with {name}")
    return folder / name
