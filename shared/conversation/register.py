"""A register: a small value that processes change one after the other, kept in any store.

It makes use of what every `ConversationStore` promises: a position of a run is stored once. Of
several who write the same position one is stored, and the others see who it was.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final
from uuid import uuid4

from pydantic import JsonValue

from shared.conversation.protocol import ConversationStore, Writer
from shared.identifier import history_id, partition_of
from shared.message import Message, Role

_TOKEN: Final = 1
_TRAIL: Final = 16
"""So many processes may change a register while one waits for the answer to its own change."""


@dataclass(frozen=True, slots=True)
class Held:
    """What a register held when it was read; None in the beginning."""

    value: JsonValue = None
    position: int = -1
    trail: tuple[str, ...] = ()
    """Ids of this value and those before it, the newest last."""


def hidden_history(purpose: str, name: str) -> str:
    """The id of a history for a program's own notes about `name`.

    It has the form of the history of a run that is alone, so that no list of conversations names
    it, and no caller can.
    """
    digest = hashlib.blake2b(f"{purpose}:{name}".encode(), digest_size=16).hexdigest()
    return history_id(f"run-{partition_of(name):x}-{digest}", None)


class Register:
    """One value. Other messages may be kept in the same `history`, as long as no run wrote them.

    Raises `StoreUnavailableError` from every method.
    """

    def __init__(self, store: ConversationStore, history: str) -> None:
        self._store = store
        self._history = history
        self._run_id = history[1:]

    async def read(self) -> Held:
        """What it holds now."""
        held = self.held(await self._store.list_messages(self._history, run_id=self._run_id))
        if held.position >= 0:
            return held
        # Nothing was ever written, or somebody damaged it: then the next value goes behind that.
        writer = Writer(self._run_id, _TOKEN)
        claim = await self._store.claim(self._history, writer, limit=0)
        return Held(position=claim.next_position - 1)

    def held(self, messages: Iterable[Message]) -> Held:
        """What it holds, going by all messages of its history."""
        own = [message for message in messages if message.run_id == self._run_id]
        if not own:
            return Held()
        newest = max(own, key=lambda message: message.position)
        trail = newest.metadata.get("trail")
        before = [str(name) for name in trail] if isinstance(trail, list) else []
        return Held(newest.metadata.get("value"), newest.position, (*before, newest.id))

    async def swap(self, held: Held, value: JsonValue) -> bool:
        """Write `value` if the register still holds `held`; return whether that was so.

        When it raises, the value may have been written. Then only who reads it again knows.
        """
        own = Message(
            role=Role.SYSTEM,
            content="",
            id=uuid4().hex,
            run_id=self._run_id,
            position=held.position + 1,
            metadata={"value": value, "trail": list(held.trail[-_TRAIL:])},
        )
        await self._store.append(self._history, [own], writer=Writer(self._run_id, _TOKEN))
        messages = await self._store.list_messages(self._history, run_id=self._run_id)
        # Somebody may have gone on from our value already, and removed it.
        if own.id not in self.held(messages).trail:
            return False
        for message in messages:
            if message.position < own.position:
                await self._store.remove(self._history, message.cursor or "")
        return True
