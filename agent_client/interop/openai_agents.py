"""Sessions of the OpenAI Agents SDK, kept as conversations.

    session = ConversationSession("web:ada", "redis://localhost:6379/0")
    await Runner.run(agent, "Hello", session=session)

Needs the SDK: ``pip install 'celery-agents[openai-agents]'``. What it stores is a conversation
like any other: `client.history` and `client.watch_conversation` show it while the SDK's runner
works, and runs of workers go on with it.
"""

from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Self

from agent_client.client import AsyncAgentClient
from agent_client.interop.home import Home, find_home
from shared.conversation.popping import pop_message
from shared.conversation.protocol import ConversationStore
from shared.errors import ConfigurationError
from shared.identifier import check_id
from shared.message import Message
from shared.openai_responses import from_items, to_items, without_last_item
from shared.settings import Settings

try:
    from agents.memory import SessionSettings
except ImportError as error:
    raise ConfigurationError(
        "Sessions of the OpenAI Agents SDK need it: pip install 'celery-agents[openai-agents]'."
    ) from error

if TYPE_CHECKING:
    from agents.items import TResponseInputItem

    from agent_client.blocking import AgentClient


class SessionHome:
    """Where sessions are kept, for as many of them as there are: one connection, one thread.

    `place` is a URL (see `shared.conversation.url`), an open store, or a client. What was opened
    for a URL is closed by `close`; what was passed in stays open. It may be used from any thread
    and any event loop. A store or an async client lives in one loop, which has to run while others
    use it.

    Raises:
        ConfigurationError: With the first use: nobody keeps conversations under this URL.
    """

    def __init__(
        self,
        place: "str | ConversationStore | AsyncAgentClient | AgentClient",
        *,
        settings: Settings | None = None,
    ) -> None:
        self._home = find_home(place, settings)

    def session(
        self,
        session_id: str,
        *,
        session_settings: SessionSettings | dict[str, Any] | None = None,
    ) -> "ConversationSession":
        """The session with this id, whether there is anything in it or not."""
        return ConversationSession(session_id, self, session_settings=session_settings)

    def close(self) -> None:
        """Close what was opened here; repeating it is harmless."""
        self._home.close()

    @property
    def home(self) -> Home:
        """What the sessions work with."""
        return self._home


class ConversationSession:
    """One conversation as a session of the OpenAI Agents SDK (its `Session` protocol).

    Items come back exactly as they were added. Each call of `add_items` becomes visible at once or
    not at all. What runs of workers wrote is read as items, too; notes about failed runs and
    summaries are not. It writes as an import does, so it neither waits for a run that is writing to
    the conversation nor stops it: let one of the two work at a time.

    Args:
        session_id: The conversation's id.
        place: As of `SessionHome`, or one that other sessions share.
        session_settings: The SDK's; `limit` is how many items `get_items` returns by default.
        settings: As of `SessionHome`.

    Raises:
        InvalidIdError: The id cannot be that of a conversation.
    """

    def __init__(
        self,
        session_id: str,
        place: "str | ConversationStore | AsyncAgentClient | AgentClient | SessionHome",
        *,
        session_settings: SessionSettings | dict[str, Any] | None = None,
        settings: Settings | None = None,
    ) -> None:
        self.session_id = check_id(session_id, "session id")
        self.session_settings: SessionSettings | None = _session_settings(session_settings)
        self._is_shared = isinstance(place, SessionHome)
        shared = place if isinstance(place, SessionHome) else SessionHome(place, settings=settings)
        self._home = shared.home

    async def get_items(self, limit: int | None = None) -> "list[TResponseInputItem]":
        """The newest `limit` items, oldest first; by default as many as the settings say, or all.

        Raises:
            NewerVersionError: One of the messages is for newer readers.
            StoreUnavailableError: No answer in bounded time.
        """
        if limit is None and self.session_settings is not None:
            limit = self.session_settings.limit
        name = self.session_id

        async def read(store: ConversationStore) -> list[Any]:
            if limit is None:
                return list(to_items(await store.list_messages(name)))
            return await _newest_items(store, name, limit) if limit > 0 else []

        return await self._home.run(read)

    async def add_items(self, items: "Sequence[TResponseInputItem]") -> None:
        """Add items at the end, all in one atomic step.

        Raises:
            UnstorableError: One of them holds something that JSON has no form for. None is stored.
            StoreUnavailableError: No answer. They may have been stored; repeating it may store them
                twice.
        """
        messages = from_items(items)
        name = self.session_id

        async def add(store: ConversationStore) -> None:
            await store.append(name, messages)

        await self._home.run(add)

    async def pop_item(self) -> "TResponseInputItem | None":
        """Remove the newest item and return it; None where there is none.

        Of several callers each gets another one. From a message of several items, as models write
        when they say something and call tools, the rest is stored anew; a process that dies between
        the two steps takes it along.

        Raises:
            StoreUnavailableError: No answer. Repeating it may remove one more.
        """
        name = self.session_id

        async def pop(store: ConversationStore) -> Any:
            popped = await pop_message(store, name, is_wanted=lambda each: bool(to_items([each])))
            if popped is None:
                return None
            rest = without_last_item(popped)
            if rest is not None:
                await store.append(name, [rest])
            return to_items([popped])[-1]

        return await self._home.run(pop)

    async def clear_session(self) -> None:
        """Remove everything that is in the session.

        Raises:
            StoreUnavailableError: No answer; repeating it is safe.
        """
        name = self.session_id

        async def clear(store: ConversationStore) -> None:
            await store.clear(name)

        await self._home.run(clear)

    def close(self) -> None:
        """Close what was opened for this session alone; repeating it is harmless."""
        if not self._is_shared:
            self._home.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()


async def _newest_items(store: ConversationStore, name: str, limit: int) -> list[Any]:
    """The newest items. Messages are read until there are enough: one is several items, or none."""
    messages: list[Message] = []
    before: str | None = None
    while True:
        older = await store.list_messages(name, limit=limit, before=before)
        messages = [*older, *messages]
        items = to_items(messages)
        if len(items) >= limit or len(older) < limit:
            return items[-limit:]
        before = older[0].cursor


def _session_settings(given: SessionSettings | dict[str, Any] | None) -> SessionSettings:
    """The SDK's own sessions take a dictionary, too.

    Raises:
        TypeError: It is something else, or names a setting that there is not.
    """
    if given is None or isinstance(given, SessionSettings):
        return given or SessionSettings()
    if not isinstance(given, dict):
        raise TypeError(f"session must be SessionSettings or a dict, not {type(given).__name__}")
    unknown = given.keys() - {each.name for each in fields(SessionSettings)}
    if unknown:
        raise TypeError(f"Unknown session settings: {', '.join(sorted(map(str, unknown)))}")
    return SessionSettings(**given)
