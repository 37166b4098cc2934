"""The blocking face of the client: the same methods without `await`, for threads and scripts.

Nothing is written twice. Each method is the async one, called in an event loop in the background;
its parameters, documentation and errors are those of the original.
"""

from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from functools import wraps
from types import TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar

from agent_client.client import AsyncAgentClient
from agent_client.handle import AsyncRun
from agent_client.managed import AsyncManagedConversations
from agent_client.portal import Portal
from agent_client.snapshots import AsyncSnapshots
from shared.backend import Backend
from shared.conversation.config import ConversationConfig
from shared.dispatch.protocol import Dispatcher
from shared.settings import Settings

P = ParamSpec("P")
Inner = TypeVar("Inner")
Value = TypeVar("Value")


class _Face(Generic[Inner]):
    """An async object, and the portal to the loop that it lives in."""

    def __init__(self, inner: Inner, portal: Portal) -> None:
        self._inner = inner
        self._portal = portal


def _blocking(
    method: Callable[Concatenate[Inner, P], Coroutine[Any, Any, Value]],
) -> Callable[Concatenate[_Face[Inner], P], Value]:
    """The async `method` as one that waits for its answer."""

    @wraps(method)
    def call(self: _Face[Inner], /, *args: P.args, **kwargs: P.kwargs) -> Value:
        return self._portal.call(method, self._inner, *args, **kwargs)

    return call


def _iterating(
    method: Callable[Concatenate[Inner, P], AsyncGenerator[Value, None]],
) -> Callable[Concatenate[_Face[Inner], P], Generator[Value, None, None]]:
    """The async iterator of `method` as a plain one; leaving the loop around it closes it."""

    @wraps(method)
    def iterate(
        self: _Face[Inner], /, *args: P.args, **kwargs: P.kwargs
    ) -> Generator[Value, None, None]:
        return self._portal.iterate(method(self._inner, *args, **kwargs))

    return iterate


def _giving_handle(
    method: Callable[Concatenate[AsyncAgentClient, P], Coroutine[Any, Any, AsyncRun]],
) -> Callable[Concatenate[_Face[AsyncAgentClient], P], "AgentRun"]:
    """The async `method` as one that waits, and whose handle is a blocking one."""

    @wraps(method)
    def call(self: _Face[AsyncAgentClient], /, *args: P.args, **kwargs: P.kwargs) -> AgentRun:
        run = self._portal.call(method, self._inner, *args, **kwargs)
        return AgentRun(run, self._portal)

    return call


def inside(client: "AgentClient") -> tuple[AsyncAgentClient, Portal]:
    """What a blocking client is made of, for parts of this package that need both."""
    return client._inner, client._portal  # noqa: SLF001 - of a class of this module


class AgentRun(_Face[AsyncRun]):
    """A run by its id; see `AsyncRun`. Handles of one run are equal. Safe to use in any thread."""

    @property
    def id(self) -> str:
        """The run's id, with which any process can get a handle."""
        return self._inner.id

    get = _blocking(AsyncRun.get)
    status = _blocking(AsyncRun.status)
    history = _blocking(AsyncRun.history)
    watch = _iterating(AsyncRun.watch)
    events = _iterating(AsyncRun.events)
    result = _blocking(AsyncRun.result)
    output = _blocking(AsyncRun.output)
    cancel = _blocking(AsyncRun.cancel)

    def __repr__(self) -> str:
        return f"AgentRun(id={self.id!r})"

    def __eq__(self, other: object) -> bool:
        return self.id == other.id if isinstance(other, AgentRun) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._inner)


class ManagedConversations(_Face[AsyncManagedConversations]):
    """Conversations that are kept like records; see `AsyncManagedConversations`."""

    open = _blocking(AsyncManagedConversations.open)
    get = _blocking(AsyncManagedConversations.get)
    list = _blocking(AsyncManagedConversations.list)
    update = _blocking(AsyncManagedConversations.update)
    deactivate = _blocking(AsyncManagedConversations.deactivate)
    reset = _blocking(AsyncManagedConversations.reset)
    fork = _blocking(AsyncManagedConversations.fork)
    archive = _blocking(AsyncManagedConversations.archive)
    purge = _blocking(AsyncManagedConversations.purge)
    purge_user = _blocking(AsyncManagedConversations.purge_user)
    tidy = _blocking(AsyncManagedConversations.tidy)


class Snapshots(_Face[AsyncSnapshots]):
    """Snapshots of conversations; see `AsyncSnapshots`. Safe to use in any thread."""

    save = _blocking(AsyncSnapshots.save)
    list = _blocking(AsyncSnapshots.list)
    load = _blocking(AsyncSnapshots.load)
    restore = _blocking(AsyncSnapshots.restore)
    delete = _blocking(AsyncSnapshots.delete)


class AgentClient(_Face[AsyncAgentClient]):
    """The client for code that is not async; see `AsyncAgentClient` for what it takes and raises.

    Use it as a context manager or with `close`, from any number of threads. Its event loop runs in
    one background thread, from the first use on.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        conversation: ConversationConfig | None = None,
        backend: Backend | None = None,
        dispatcher: Dispatcher | None = None,
    ) -> None:
        inner = AsyncAgentClient(
            settings, conversation=conversation, backend=backend, dispatcher=dispatcher
        )
        super().__init__(inner, Portal())

    @classmethod
    def over(cls, client: AsyncAgentClient) -> Self:
        """A blocking face of `client`, which no event loop has used yet and none uses besides."""
        face = cls.__new__(cls)
        _Face.__init__(face, client, Portal())
        return face

    @classmethod
    def local(
        cls,
        *agents: object,
        settings: Settings | None = None,
        conversation: ConversationConfig | None = None,
    ) -> Self:
        """A client with a worker of its own in this process; see `AsyncAgentClient.local`."""
        return cls.over(
            AsyncAgentClient.local(*agents, settings=settings, conversation=conversation)
        )

    def run(self, run_id: str) -> AgentRun:
        """The handle of a run, from any process that knows its id. Reads nothing.

        Raises:
            InvalidIdError: It is not a run id.
        """
        return AgentRun(self._inner.run(run_id), self._portal)

    @property
    def managed(self) -> ManagedConversations:
        """Conversations that are kept like records: open, list, close, fork, archive, delete."""
        return ManagedConversations(self._inner.managed, self._portal)

    submit = _giving_handle(AsyncAgentClient.submit)
    runs = _blocking(AsyncAgentClient.runs)
    history = _blocking(AsyncAgentClient.history)
    watch_conversation = _iterating(AsyncAgentClient.watch_conversation)
    watch_changes = _iterating(AsyncAgentClient.watch_changes)
    conversations = _blocking(AsyncAgentClient.conversations)
    workers = _blocking(AsyncAgentClient.workers)
    agents = _blocking(AsyncAgentClient.agents)
    clear = _blocking(AsyncAgentClient.clear)

    @property
    def snapshots(self) -> Snapshots:
        """Conversations as they were at one time: saving, listing and restoring them."""
        return Snapshots(self._inner.snapshots, self._portal)

    def close(self) -> None:
        """Close what this client opened and end its thread. Who still waits gets an error."""
        self._portal.close(self._inner.aclose)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
