"""OpenAI's Conversations API: the calls that a store makes of it, each in bounded time.

The one module of `shared` that knows the provider's library, which it loads when it is used.
"""

import asyncio
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from shared.errors import (
    AgentsError,
    ConfigurationError,
    StoreUnavailableError,
    UnstorableError,
)

if TYPE_CHECKING:
    from openai import APIStatusError, AsyncOpenAI

    Client = AsyncOpenAI
    """What a store is given. Other modules name it by this: only this one knows the library."""

Answer = TypeVar("Answer")
Item = dict[str, Any]
"""An item in the provider's form."""

BATCH: Final = 20
"""Items that the provider takes in one call."""
PAGE: Final = 100
"""Items that the provider gives in one call."""
MAX_TEXT: Final = 10_485_760
"""Characters of one text that the provider takes."""
OUR_ID: Final = "celery_agents_conversation"
"""Under this name our conversation's id is in the metadata of the provider's."""

_PARALLEL: Final = 8
_REFUSED: Final = frozenset({400, 413, 422})


class GoneError(StoreUnavailableError):
    """The provider does not know (any more) what it was asked about."""


@dataclass(frozen=True, slots=True)
class ItemPage:
    """Items, and behind which of them the next page begins; None at the end."""

    items: tuple[Item, ...]
    next_after: str | None


def open_client(*, api_key: str | None = None, base_url: str | None = None) -> "Client":
    """A client of the provider; what is not given comes from OPENAI_API_KEY and OPENAI_BASE_URL.

    Raises:
        ConfigurationError: The library is not installed, or there is no key.
    """
    try:
        from openai import AsyncOpenAI, OpenAIError
    except ImportError as error:
        raise ConfigurationError(
            "Conversations at OpenAI need its client: pip install 'celery-agents[openai]'."
        ) from error
    try:
        return AsyncOpenAI(api_key=api_key, base_url=base_url)
    except OpenAIError as error:
        raise ConfigurationError(
            "Conversations at OpenAI need a key: set OPENAI_API_KEY."
        ) from error


class ConversationsApi:
    """Conversations at the provider, by its ids.

    Nothing is repeated here: a call whose answer was lost may have been carried out, and only the
    caller knows what a repetition would do. The provider gets at most `call_timeout_s` for each,
    and eight at once.

    Every method raises:
        StoreUnavailableError: No answer in time, too many requests, or a fault of the provider.
        ConfigurationError: The key is wrong, or may not do this.
    """

    def __init__(self, client: "Client", *, call_timeout_s: float = 10.0) -> None:
        self._client = client.with_options(max_retries=0, timeout=call_timeout_s)
        self._timeout_s = call_timeout_s
        self._slots = asyncio.Semaphore(_PARALLEL)

    async def create(self, conversation_id: str) -> str:
        """Make a conversation for one of ours; return its id."""
        conversations = self._client.conversations
        made = await self._call(conversations.create(metadata={OUR_ID: conversation_id}))
        return made.id

    async def delete(self, place: str) -> None:
        """Delete a conversation, if it is there. Its items have to be deleted before."""
        with suppress(GoneError):
            await self._call(self._client.conversations.delete(place))

    async def add_items(self, place: str, items: Sequence[Item]) -> list[Item]:
        """Add at most `BATCH` items, and return them as they are stored.

        Raises:
            GoneError: There is no such conversation.
            UnstorableError: The provider does not take one of them.
        """
        plain: Any = list(items)  # its form is checked over HTTP
        made = await self._call(self._client.conversations.items.create(place, items=plain))
        stored = [each.to_dict(mode="json") for each in made.data]
        if len(stored) != len(items):
            raise StoreUnavailableError(
                f"OpenAI stored {len(stored)} of {len(items)} items in conversation {place}; they "
                "are removed with the next claim. Try again."
            )
        return stored

    async def list_items(self, place: str, *, after: str | None = None) -> ItemPage | None:
        """A page, newest first; None where there is no such conversation, or no item `after`."""
        asked: dict[str, Any] = {} if after is None else {"after": after}
        call = self._client.conversations.items.list(place, limit=PAGE, order="desc", **asked)
        try:
            page = await self._call(call)
        except GoneError:
            return None
        items = tuple(each.to_dict(mode="json") for each in page.data)
        return ItemPage(items, page.last_id if page.has_more and items else None)

    async def list_all(self, place: str) -> list[Item] | None:
        """All items, newest first; None where there is no such conversation."""
        page = await self.list_items(place)
        if page is None:
            return None
        items = list(page.items)
        while page is not None and page.next_after is not None:
            # None in the middle: the last item of the page was deleted meanwhile.
            page = await self.list_items(place, after=page.next_after)
            items += page.items if page is not None else ()
        return items

    async def retrieve(self, place: str, item_id: str) -> Item | None:
        """One item, if it is there."""
        items = self._client.conversations.items
        try:
            found = await self._call(items.retrieve(item_id, conversation_id=place))
        except GoneError:
            return None
        return found.to_dict(mode="json")

    async def delete_items(self, place: str, item_ids: Sequence[str]) -> None:
        """Delete these items, as far as they are there."""
        outcomes = await asyncio.gather(
            *(self._delete_item(place, item_id) for item_id in item_ids), return_exceptions=True
        )
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    async def _delete_item(self, place: str, item_id: str) -> None:
        items = self._client.conversations.items
        with suppress(GoneError):
            await self._call(items.delete(item_id, conversation_id=place))

    async def _call(self, call: Awaitable[Answer]) -> Answer:
        from openai import APIConnectionError, APIError, APIStatusError

        try:
            async with self._slots, asyncio.timeout(self._timeout_s):
                return await call
        except (TimeoutError, APIConnectionError) as error:
            raise StoreUnavailableError(
                f"OpenAI did not answer within {self._timeout_s:g} s; try again."
            ) from error
        except APIStatusError as error:
            raise _translated(error) from error
        except APIError as error:
            raise StoreUnavailableError(
                "OpenAI's answer could not be read; try again, and update the openai package."
            ) from error


def _translated(error: "APIStatusError") -> AgentsError:
    """What the provider's answer means. Its own words are left out: they may quote a message."""
    said = f"status {error.status_code}, code {error.code}, request {error.request_id}"
    if error.status_code in {401, 403}:
        return ConfigurationError(
            f"OpenAI refuses the key, or the key may not use conversations ({said}). Set "
            "OPENAI_API_KEY to one that may."
        )
    if error.status_code == 404:  # noqa: PLR2004 - the names of statuses are longer, not clearer
        return GoneError(f"OpenAI does not know this conversation or item ({said}).")
    if error.status_code in _REFUSED:
        return UnstorableError(
            f"OpenAI does not take a part of this message ({said}, parameter {error.param})."
        )
    return StoreUnavailableError(f"OpenAI could not answer ({said}); try again.")
