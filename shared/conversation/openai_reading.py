"""Getting items from OpenAI by their ids, in as few calls as the provider's pages allow."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final

import structlog

from shared.conversation.openai_api import ConversationsApi, Item, ItemPage
from shared.conversation.openai_items import Reference, find_reference, restored
from shared.conversation.protocol import ConversationStore
from shared.errors import CorruptEntryError, NewerVersionError
from shared.message import Message

log = structlog.get_logger()

_FEW: Final = 2
"""So many are asked for one by one; more are looked for in pages."""


class Content:
    """What entries of an index say, with their content from the provider."""

    def __init__(self, api: ConversationsApi, index: ConversationStore) -> None:
        self._api = api
        self._index = index

    async def opened(
        self, conversation_id: str, entries: Sequence[Message], *, from_end: bool
    ) -> list[Message | None]:
        """The message of each entry; None for one that cannot be read, which is reported.

        `from_end`: the entries are the newest ones.

        Raises:
            NewerVersionError: One of them is for newer readers.
            StoreUnavailableError: No answer.
        """
        references = [find_reference(entry) for entry in entries]
        wanted: dict[str, list[str]] = {}
        for reference in references:
            if isinstance(reference, Reference):
                wanted.setdefault(reference.conversation, []).extend(reference.items)
        items: dict[str, Item] = {}
        for place, item_ids in wanted.items():
            items |= await _fetch(self._api, place, item_ids, from_end=from_end)
        opened: list[Message | None] = []
        for entry, reference in zip(entries, references, strict=True):
            try:
                if isinstance(reference, CorruptEntryError):
                    raise reference
                opened.append(entry if reference is None else restored(entry, reference, items))
            except NewerVersionError:
                raise
            except CorruptEntryError as error:
                await self._report(conversation_id, entry, error)
                opened.append(None)
        return opened

    async def is_there(self, conversation_id: str, entry: Message) -> bool:
        """Whether an entry was not removed since it was read."""
        return await self._index.has_message(conversation_id, entry.cursor or "")

    async def _report(self, conversation_id: str, entry: Message, error: CorruptEntryError) -> None:
        if await self.is_there(conversation_id, entry):
            log.error(
                "entry.unreadable",
                conversation_id=conversation_id,
                cursor=entry.cursor,
                error=type(error).__name__,
            )


async def _fetch(
    api: ConversationsApi, place: str, item_ids: Sequence[str], *, from_end: bool
) -> dict[str, Item]:
    """Those of `item_ids` (oldest first) that are in the conversation `place`.

    One page for the newest items (`from_end`), two calls for each 100 items of a stretch further
    up. Of items that lie far apart each may take two. Where one is gone, all pages are read once.
    """
    search = _Search(api, place, item_ids)
    if from_end and len(search.missing) > _FEW:
        await search.follow(await api.list_items(place))
    while search.missing:
        if len(search.missing) <= _FEW:
            await search.get_each()
            break
        anchor = next(reversed(search.missing))
        # The provider's cursors are exclusive, so the anchor itself is asked for beside.
        item, page = await asyncio.gather(
            api.retrieve(place, anchor), api.list_items(place, after=anchor)
        )
        if item is None:
            search.take(await api.list_all(place) or ())
            break
        search.take([item])
        await search.follow(page)
    return search.found


class _Search:
    def __init__(self, api: ConversationsApi, place: str, item_ids: Sequence[str]) -> None:
        self._api = api
        self._place = place
        self.missing = dict.fromkeys(item_ids)
        self.found: dict[str, Item] = {}

    def take(self, items: Iterable[Item]) -> bool:
        """Keep those that are looked for; return whether there was one."""
        before = len(self.found)
        for item in items:
            if item["id"] in self.missing:
                del self.missing[item["id"]]
                self.found[item["id"]] = item
        return len(self.found) > before

    async def follow(self, page: ItemPage | None) -> None:
        """Read on from page to page for as long as each holds something."""
        while page is not None and self.take(page.items) and self.missing and page.next_after:
            page = await self._api.list_items(self._place, after=page.next_after)

    async def get_each(self) -> None:
        items = await asyncio.gather(
            *(self._api.retrieve(self._place, item_id) for item_id in self.missing)
        )
        self.take(item for item in items if item is not None)
