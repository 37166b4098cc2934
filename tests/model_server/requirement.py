"""What a test does that needs the recordings: skip without them, but fail on the build machine."""

from pathlib import Path

from tests.model_server.recording import FOLDER_VARIABLE, find_folder
from tests.services import missing


def require_recordings() -> Path:
    """Return the folder with the recordings.

    Where there is none the test is skipped, or fails where CI=true: there a skip goes unseen.
    """
    folder = find_folder()
    if folder is None:
        missing(f"there are no recordings here; {FOLDER_VARIABLE} names the folder that has them")
    return folder
