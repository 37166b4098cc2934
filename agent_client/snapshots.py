"""Snapshots of conversations: the verbs of `client.snapshots`."""

from agent_client.session import Session
from shared.identifier import check_id
from shared.snapshot.keeping import Place, restore_snapshot, take_snapshot
from shared.snapshot.value import Snapshot, SnapshotInfo

Infos = list[SnapshotInfo]
"""Named out here, since in the class below `list` is a verb."""


class AsyncSnapshots:
    """Keeps conversations as they are now, with what their agents are, and puts them back.

    Needs none of an agent's code: what prompts and tools it has, its workers have told. Snapshots
    lie beside the runs, or in the folder `AGENTS_SNAPSHOT_FOLDER`.
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    async def save(
        self, conversation_id: str, *, agent: str | None = None, skip_unreadable: bool = False
    ) -> SnapshotInfo:
        """Take a snapshot and keep it until it is deleted.

        Args:
            conversation_id: Whose messages, as they are now.
            agent: Who is to go on with it; None for the agent of the newest run.
            skip_unreadable: Go without entries that are damaged.

        Raises:
            UnknownConversationError: It holds no message.
            UnreadableEntriesError: Entries are damaged, and `skip_unreadable` is not set.
            NewerVersionError: A message is for newer readers.
        """
        await self._session.start()
        snapshot = await take_snapshot(
            self._place(),
            check_id(conversation_id, "conversation id"),
            agent=agent if agent is None else check_id(agent, "agent name"),
            skip_unreadable=skip_unreadable,
        )
        await self._session.backend.snapshots.save(snapshot)
        return snapshot.info

    async def list(
        self,
        *,
        agent: str | None = None,
        conversation_id: str | None = None,
        limit: int = 50,
        before: str | None = None,
    ) -> Infos:
        """Snapshots that pass the filters, newest first. `before` is an id, for the next page.

        Raises:
            InvalidIdError: Something that is not an id.
        """
        if conversation_id is not None:
            check_id(conversation_id, "conversation id")
        if agent is not None:
            check_id(agent, "agent name")
        return await self._session.backend.snapshots.list_snapshots(
            agent=agent, conversation_id=conversation_id, limit=limit, before=before
        )

    async def load(self, snapshot_id: str) -> Snapshot:
        """All of a snapshot: its messages, and its agent's prompts and tools.

        Raises:
            UnknownSnapshotError: There is none with this id.
            CorruptEntryError: It is damaged.
            InvalidIdError: It is no canonical UUID in lower case.
        """
        return await self._session.backend.snapshots.load(snapshot_id)

    async def restore(
        self,
        snapshot_id: str,
        *,
        conversation_id: str | None = None,
        agent: str | None = None,
        replace: bool = False,
        allow_mismatch: bool = False,
    ) -> str:
        """Put a snapshot's messages into a conversation; return the conversation's id.

        They are put there in one atomic step. Repeating it changes nothing.

        Args:
            snapshot_id: Which one.
            conversation_id: Where to, the snapshot's own included; None makes a new one,
                ``restored:<snapshot id>``.
            agent: Who shall go on with it; None for the snapshot's own agent.
            replace: Clear the conversation first if it holds other messages. This and putting the
                messages there are two steps: who dies in between leaves it empty.
            allow_mismatch: Whether the agent may use another provider, lack tools that the history
                calls, or be unknown.

        Raises:
            SnapshotMismatchError: It does not fit the agent.
            ConversationNotEmptyError: The conversation holds other messages.
            ConversationBusyError: A run of the conversation has not ended.
            UnknownSnapshotError: There is none with this id.
            CorruptEntryError: It is damaged.
            InvalidIdError: Something that is not an id.
        """
        await self._session.start()
        if conversation_id is not None:
            check_id(conversation_id, "conversation id")
        return await restore_snapshot(
            self._place(),
            await self.load(snapshot_id),
            conversation_id=conversation_id,
            agent=agent if agent is None else check_id(agent, "agent name"),
            replace=replace,
            allow_mismatch=allow_mismatch,
        )

    async def delete(self, snapshot_id: str) -> bool:
        """Remove a snapshot; return whether it was there.

        Raises:
            InvalidIdError: It is no canonical UUID in lower case.
        """
        return await self._session.backend.snapshots.delete(snapshot_id)

    def _place(self) -> Place:
        backend = self._session.backend
        return Place(backend.conversations, backend.ledger, backend.cards)
