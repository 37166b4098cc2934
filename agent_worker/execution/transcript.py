"""The transcript: what one run has written, and how much of it is stored."""

import time
from collections.abc import Sequence
from functools import partial

import structlog

from agent_worker.execution.persistence import insist
from agent_worker.execution.tenure import Tenure
from shared.conversation.protocol import Claim, ConversationStore, Writer
from shared.errors import PositionGapError
from shared.message import Draft, Message

log = structlog.get_logger()


class Transcript:
    """The messages of one run by position. `add` gives a message its place, `flush` stores it.

    A flush whose outcome is in doubt is repeated by the next one with the same messages, and the
    store skips those that it has: so nothing is lost and nothing doubled, whatever interrupts it.
    A store that has lost messages which it had acknowledged (a power cut, a failover) gets them
    again.
    """

    def __init__(
        self,
        store: ConversationStore,
        history: str,
        writer: Writer,
        claim: Claim,
        tenure: Tenure,
    ) -> None:
        self._store = store
        self._tenure = tenure
        self._history = history
        self._writer = writer
        self._messages = list(claim.own)
        self._stored = len(claim.own)
        self._next_position = claim.next_position

    @property
    def messages(self) -> tuple[Message, ...]:
        """All messages, by position, those included that are not stored yet."""
        return tuple(self._messages)

    @property
    def next_position(self) -> int:
        """The place of the message that is added next."""
        return self._next_position

    def add(self, *drafts: Draft) -> None:
        """Give each draft the next place of the run."""
        for draft in drafts:
            self._messages.append(
                Message.from_draft(draft, run_id=self._writer.run_id, position=self._next_position)
            )
            self._next_position += 1

    async def flush(self) -> None:
        """Store everything that is not stored yet, in one atomic append.

        Raises:
            FencedError: Another worker leads this run now.
            PositionGapError: The store lacks messages that are not known here either.
            StoreUnavailableError: The store was away for too long.
        """
        pending = self._messages[self._stored :]
        if not pending:
            return
        try:
            await self._append(pending)
        except PositionGapError as error:
            log.warning("history.rewritten", reason=str(error), messages=len(self._messages))
            await self._append(self._messages)
        self._stored += len(pending)
        for message in pending:
            log.debug(
                "message.stored",
                position=message.position,
                role=message.role.value,
                kind=message.kind.value,
            )

    async def _append(self, messages: Sequence[Message]) -> None:
        asked_at = time.monotonic()
        await insist(partial(self._store.append, self._history, messages, writer=self._writer))
        self._tenure.renew(asked_at)
