"""Where snapshots are kept: the protocol, and what every implementation guarantees."""

from typing import Protocol

from shared.snapshot.value import Snapshot, SnapshotInfo


class SnapshotStore(Protocol):
    """Snapshots by their ids.

    Guarantees of every implementation, tested by one contract suite:

    - *Whole or not at all*: a reader finds a snapshot as it was saved, or none; whenever whoever
      saved it died.
    - *Durable* when `save` returns, as durable as the store is.
    - *Unchanged*: what `load` returns is what was saved, its messages by their digest. Anything
      else is an error, never a shorter history.
    - *Isolation of damage*: one that cannot be read costs itself. Lists leave it out and say so in
      the log; one that was sealed with another key, or is for newer readers, is an error there too,
      since it is whole.

    What is no canonical UUID in lower case is refused with `InvalidIdError` by every method that
    takes an id.
    """

    @property
    def is_distributed(self) -> bool:
        """Whether clients on other machines see the same snapshots."""
        ...

    async def save(self, snapshot: Snapshot) -> None:
        """Keep a snapshot until it is deleted, in one step. One with the same id is replaced.

        Raises:
            UnstorableError: It could not be read again. Nothing was stored.
            StoreUnavailableError: No answer, or no room; repeating it is safe.
        """
        ...

    async def list_snapshots(
        self,
        *,
        agent: str | None = None,
        conversation_id: str | None = None,
        limit: int = 50,
        before: str | None = None,
    ) -> list[SnapshotInfo]:
        """Snapshots that pass the filters, newest first (by their ids).

        `before` is a snapshot's id, for the next page: older ones only, whether or not that one is
        still there. Histories are not read.

        Raises:
            StoreUnavailableError: No answer.
        """
        ...

    async def load(self, snapshot_id: str) -> Snapshot:
        """Read a snapshot.

        Raises:
            UnknownSnapshotError: There is none with this id.
            CorruptEntryError: It is damaged.
            NewerVersionError: It is for newer readers.
            SealError: It cannot be opened.
            StoreUnavailableError: No answer.
        """
        ...

    async def delete(self, snapshot_id: str) -> bool:
        """Remove a snapshot; return whether it was there. Repeating it is harmless."""
        ...
