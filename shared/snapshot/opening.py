"""Which store of snapshots the settings name."""

from shared.byte_seal import Seal
from shared.settings import Settings
from shared.snapshot.file import FileSnapshotStore
from shared.snapshot.protocol import SnapshotStore


def open_snapshots(settings: Settings, seal: Seal | None = None) -> SnapshotStore | None:
    """The folder of the settings; None where snapshots are kept beside the runs."""
    if settings.snapshot_folder is None:
        return None
    return FileSnapshotStore(settings.snapshot_folder, seal=seal)
