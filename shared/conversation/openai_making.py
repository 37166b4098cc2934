"""Making items at OpenAI: in batches, in the conversation in use, whatever becomes of them."""

from collections.abc import Sequence
from typing import Final

import structlog

from shared.conversation.openai_api import BATCH, ConversationsApi, GoneError, Item
from shared.conversation.openai_items import Parting, referring, whole
from shared.conversation.openai_upkeep import Upkeep
from shared.errors import UnstorableError
from shared.message import Message

log = structlog.get_logger()

_TRIES: Final = 3


class Making:
    """What one append makes. After a failure, `made` is what is known to be there."""

    def __init__(self, api: ConversationsApi, upkeep: Upkeep, conversation_id: str) -> None:
        self._api = api
        self._upkeep = upkeep
        self._conversation_id = conversation_id
        self._place = ""
        self.made: list[str] = []

    async def make(self, partings: Sequence[Parting]) -> list[Message]:
        """Make the items; return an entry for the index for each message.

        A message that the provider refuses becomes an entry as it is.
        """
        for _ in range(_TRIES):
            self._place = await self._upkeep.current(self._conversation_id)
            try:
                return await self._make(partings)
            except GoneError:
                await self._upkeep.lose(self._conversation_id, self._place)
        raise GoneError(
            f"OpenAI does not keep the conversations that are made for {self._conversation_id}."
        )

    async def undo(self) -> None:
        """Remove what was made."""
        await self._api.delete_items(self._place, self.made)

    async def remove_unnamed(self, named: set[tuple[str, str]]) -> None:
        """Remove what was made and is not in `named`, pairs of conversation and item."""
        unnamed = [item_id for item_id in self.made if (self._place, item_id) not in named]
        await self._api.delete_items(self._place, unnamed)

    async def _make(self, partings: Sequence[Parting]) -> list[Message]:
        self.made = []
        try:
            stored = await self._add([item for each in partings for item in each.items])
        except UnstorableError:
            await self.undo()
            self.made = []
            stored, partings = await self._add_apart(partings)
        entries, rest = [], iter(stored)
        for parting in partings:
            own = [next(rest) for _ in parting.items]
            entries.append(referring(parting, self._place, own) if own else parting.message)
        return entries

    async def _add(self, items: Sequence[Item]) -> list[Item]:
        stored: list[Item] = []
        for start in range(0, len(items), BATCH):
            batch = await self._api.add_items(self._place, items[start : start + BATCH])
            self.made += [item["id"] for item in batch]
            stored += batch
        return stored

    async def _add_apart(self, partings: Sequence[Parting]) -> tuple[list[Item], Sequence[Parting]]:
        """Make the items of one message after the other, since one of them was refused."""
        stored: list[Item] = []
        taken: list[Parting] = []
        for parting in partings:
            before = len(self.made)
            try:
                stored += await self._add(parting.items)
                taken.append(parting)
            except UnstorableError as error:
                await self._api.delete_items(self._place, self.made[before:])
                log.warning("openai.item_refused", message=parting.message.id, error=str(error))
                taken.append(whole(parting))
        return stored, taken
