"""Reading a conversation from its beginning, page by page, however long it is.

A store answers with the newest messages, or with those behind a cursor. The beginning has no
cursor, so it is looked for from the end, once, and what can be read is counted on the way.
"""

from collections.abc import AsyncGenerator
from dataclasses import dataclass

from shared.conversation.protocol import ConversationStore
from shared.message import Message


@dataclass(frozen=True, slots=True)
class Beginning:
    """Where a conversation begins.

    Attributes:
        page: Its oldest messages, oldest first; empty where there is none that can be read.
        readable: How many messages there are that can be read.
        unreadable: How many cannot. None: messages came or went while they were counted.
    """

    page: tuple[Message, ...]
    readable: int
    unreadable: int | None


async def find_beginning(
    store: ConversationStore, conversation_id: str, *, page_size: int
) -> Beginning:
    """Find the oldest messages, and count. Holds two pages in memory at most.

    Raises:
        NewerVersionError: A message is for newer readers.
        StoreUnavailableError: No answer.
    """
    counted = await store.count(conversation_id)
    oldest: list[Message] = []
    readable = 0
    before: str | None = None
    while True:
        page = await store.list_messages(conversation_id, limit=page_size, before=before)
        if page:
            oldest, before = page, page[0].cursor
        readable += len(page)
        if len(page) < page_size:
            break
    if await store.count(conversation_id) != counted or readable > counted:
        return Beginning(tuple(oldest), readable, None)
    return Beginning(tuple(oldest), readable, counted - readable)


async def read_on(
    store: ConversationStore, conversation_id: str, beginning: Beginning, *, page_size: int
) -> AsyncGenerator[Message, None]:
    """All messages from a beginning to the end as it is when it is reached, oldest first.

    Raises:
        NewerVersionError: A message that came meanwhile is for newer readers.
        StoreUnavailableError: No answer.
    """
    page = list(beginning.page)
    is_last = beginning.readable == len(page) and beginning.unreadable == 0
    while page:
        for message in page:
            yield message
        if is_last:
            return
        page = await store.list_messages(conversation_id, after=page[-1].cursor, limit=page_size)
        is_last = len(page) < page_size
