"""Getting items from OpenAI by their ids, in as few calls as the provider's pages allow."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final

from shared.conversation.openai_api import ConversationsApi, Item, ItemPage

_FEW: Final = 2
"""So many are asked for one by one; more are looked for in pages."""


async def fetch_items(
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
