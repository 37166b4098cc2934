"""The client: submit runs, find them again, read and watch conversations."""

from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Literal, Self

import anyio
from pydantic import JsonValue

from agent_client.handle import AsyncRun
from agent_client.managed import AsyncManagedConversations
from agent_client.request import build_options, build_run
from agent_client.roster import Roster, served_agents
from agent_client.session import Session
from agent_client.snapshots import AsyncSnapshots
from agent_client.watching import watch_changes, watch_conversation
from shared.backend import Backend
from shared.conversation.config import ConversationConfig
from shared.conversation.protocol import ConversationStore
from shared.dispatch.protocol import Dispatcher
from shared.errors import BrokerUnavailableError
from shared.event import RemovedEvent
from shared.identifier import check_id, partition_of_run
from shared.keeping.reading import read_history
from shared.ledger.protocol import Submission, WakeUp
from shared.message import ContentPart, Message, Role
from shared.run import AgentInfo, BusyPolicy, Run, RunStatus, WorkerInfo
from shared.settings import Settings

OnBusy = BusyPolicy | Literal["enqueue", "reject", "interrupt", "rollback"]


class AsyncAgentClient:
    """Hands agent runs to workers, and lets anybody watch and stop them.

    Use it in one event loop, as an async context manager or with `aclose`. Nothing connects before
    the first use. `settings` come from the environment (AGENTS_...) unless given; `conversation`
    says how its runs use conversations. `backend` and `dispatcher` default to Redis and Celery and
    stay open when they are passed in. `lifespan` is entered with the first use and left at the end.

    Methods raise `StoreUnavailableError` when the store does not answer in bounded time; watching
    bears with an outage of `reconnect_s`.

    Raises:
        NotDistributedError: Conversations in memory, together with workers in other processes.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        conversation: ConversationConfig | None = None,
        backend: Backend | None = None,
        dispatcher: Dispatcher | None = None,
        lifespan: AbstractAsyncContextManager[object] | None = None,
        reconnect_s: float = 60.0,
    ) -> None:
        self._session = Session(
            settings if settings is not None else Settings(),
            conversation=conversation,
            backend=backend,
            dispatcher=dispatcher,
            lifespan=lifespan,
            reconnect_s=reconnect_s,
        )
        self._roster = Roster(self._session.backend.ledger)
        self._managed = AsyncManagedConversations(self._session)

    @classmethod
    def local(
        cls,
        *agents: object,
        settings: Settings | None = None,
        conversation: ConversationConfig | None = None,
    ) -> Self:
        """A client with a worker of its own, all in this process: no Redis, no Celery.

        Needs what a worker needs (``pip install celery-agents[worker]``). The worker starts with
        the first use and stops with `aclose`. Runs are in memory and gone then; conversations too,
        unless `conversation` has a `backend` that keeps them, such as ``sqlite:///chat.db``. A run
        that the end of the process cut off is not resumed; its messages stay, and the next run of
        the conversation goes on behind them.

        Args:
            agents: Pydantic AI agents with a name, agent definitions, or modules (or their names)
                that hold such.
            settings: As of a worker; from the environment unless given.
            conversation: How its runs use conversations, and where these are kept.

        Raises:
            AgentDefinitionError: Something that cannot be served.
            ConfigurationError: Conversations cannot be kept where `conversation` says.
        """
        from agent_client.local import compose

        system = compose(agents, settings if settings is not None else Settings(), conversation)
        return cls(
            system.settings,
            conversation=conversation,
            backend=system.backend,
            dispatcher=system.dispatcher,
            lifespan=system.lifespan(),
        )

    async def __aenter__(self) -> Self:
        await self._session.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    @property
    def conversation_store(self) -> ConversationStore:
        """Where this client's conversations are, for what it has no verb for; it stays open."""
        return self._session.backend.conversations

    async def aclose(self) -> None:
        """Close what this client opened; repeating it is harmless. Runs go on, local ones apart."""
        await self._session.aclose()

    @property
    def managed(self) -> AsyncManagedConversations:
        """Conversations that are kept like records: open, list, close, fork, archive, delete."""
        return self._managed

    async def submit(  # noqa: PLR0913 - everything that may be said about a run, all but two by name
        self,
        agent: str,
        input: str | Sequence[ContentPart],  # noqa: A002 - the word that agents use for it
        *,
        conversation_id: str | None = None,
        idempotency_key: str | None = None,
        metadata: Mapping[str, JsonValue] | None = None,
        priority: int = 5,
        on_busy: OnBusy = "enqueue",
        history_size: int | None = None,
        max_rounds: int | None = None,
        time_limit_s: float | None = None,
        save_on_iteration: bool | None = None,
        require_worker: bool = False,
    ) -> AsyncRun:
        """Accept a run and return its handle at once. An accepted run always comes to an end.

        Args:
            agent: The name under which workers serve it.
            input: Text, or content parts; the run's first message.
            conversation_id: The conversation to go on with; None keeps the run alone.
            idempotency_key: Submitting again with the same key, agent and input gives the same run.
                It is scoped to the conversation.
            metadata: JSON for tools and for you; models do not see it.
            priority: 0 (first) to 9 (last).
            on_busy: What to do while another run holds the conversation.
            history_size: Messages that the model sees, the input included.
            max_rounds: Model calls in this run.
            time_limit_s: How long it may take under one lease.
            save_on_iteration: False writes all messages in one atomic step at the end.
            require_worker: Refuse instead of waiting while no worker is alive.

        Raises:
            UnknownAgentError: Workers live, and none serves this agent.
            NoWorkerError: No worker lives, and `require_worker` was set.
            InvalidIdError: A name, id or key that is not one.
            PayloadTooLargeError: The input or the metadata is larger than its setting.
            RequestError: Another value that cannot be stored; the message says what to change.
            ConversationBusyError: `on_busy` is reject, and another run holds the conversation.
            ConversationInactiveError: The conversation was closed; open its session again.
            IdempotencyConflictError: The key belongs to another agent or input.
            BrokerUnavailableError: The run was not accepted; submitting again is safe.
            StoreUnavailableError: It may have been accepted; submitting again is safe with an
                idempotency key.
        """
        new = build_run(
            self._session.settings,
            agent,
            input,
            conversation_id=conversation_id,
            idempotency_key=idempotency_key,
            metadata=metadata,
            options=build_options(
                self._session.conversation,
                save_on_iteration=save_on_iteration,
                history_size=history_size,
                max_rounds=max_rounds,
                time_limit_s=time_limit_s,
            ),
            priority=priority,
            on_busy=on_busy,
        )
        await self._session.start()
        await self._roster.check(agent, require_worker=require_worker)
        submission = await self._session.backend.ledger.submit(new)
        await self._ring_for(submission)
        return AsyncRun(submission.run.id, self._session)

    def run(self, run_id: str) -> AsyncRun:
        """The handle of a run, from any process that knows its id. Reads nothing.

        Raises:
            InvalidIdError: It is not a run id.
        """
        partition_of_run(run_id)
        return AsyncRun(run_id, self._session)

    async def runs(
        self,
        *,
        conversation_id: str | None = None,
        status: RunStatus | Collection[RunStatus] | None = None,
        agent: str | None = None,
        limit: int = 50,
        before: str | None = None,
    ) -> list[Run]:
        """Runs that pass the filters, newest first. `before` is a run id, for the next page.

        Raises:
            InvalidIdError: Something that is not an id, or not a run id.
            UnknownRunError: There is no run `before`.
        """
        if conversation_id is not None:
            check_id(conversation_id, "conversation id")
        if agent is not None:
            check_id(agent, "agent name")
        if before is not None:
            partition_of_run(before)
        return await self._session.backend.ledger.list_runs(
            conversation_id=conversation_id,
            status={RunStatus(status)} if isinstance(status, str) else status,
            agent=agent,
            limit=limit,
            before=before,
        )

    async def history(
        self,
        conversation_id: str,
        *,
        after: str | None = None,
        before: str | None = None,
        limit: int | None = None,
        roles: Collection[Role] | None = None,
    ) -> list[Message]:
        """A part of a conversation, oldest first; an unknown conversation is empty.

        One that was archived is read from there, where its messages have other cursors.

        With `after`, the first `limit` messages behind that cursor, otherwise the newest `limit`.

        Raises:
            InvalidCursorError: A cursor that is not that of a message.
        """
        return await read_history(
            self._session.backend,
            check_id(conversation_id, "conversation id"),
            after=after,
            before=before,
            limit=limit,
            roles=roles,
        )

    def watch_conversation(
        self, conversation_id: str, after: str | None = None
    ) -> AsyncGenerator[Message, None]:
        """All messages of a conversation, whatever run writes them, from its beginning or a cursor.

        Each comes as soon as it is stored, once and in order. It never ends by itself. It does not
        say when messages that it gave are removed; `watch_changes` does.

        Raises:
            InvalidCursorError: `after` is not the cursor of a message.
        """
        check_id(conversation_id, "conversation id")
        return watch_conversation(self._session, conversation_id, after=after)

    def watch_changes(
        self, conversation_id: str, after: str | None = None
    ) -> AsyncGenerator[Message | RemovedEvent, None]:
        """As `watch_conversation`; a `RemovedEvent` says that messages that came before are gone.

        It comes when a run was rolled back or the conversation cleared, before whatever follows,
        and to who resumes behind a message that is gone. For whoever shows a conversation: take
        the run's messages away, or read the history again where it names no run.

        Raises:
            InvalidCursorError: `after` is not the cursor of a message.
        """
        check_id(conversation_id, "conversation id")
        return watch_changes(self._session, conversation_id, after=after)

    async def conversations(self, *, limit: int = 50) -> list[str]:
        """Ids of conversations that had a run, the one with the newest run first."""
        return await self._session.backend.ledger.list_conversations(limit=limit)

    @property
    def settings(self) -> Settings:
        """What it was built with."""
        return self._session.settings

    @property
    def backend(self) -> Backend:
        """The stores that this client works with, for `shared.transfer`; they stay the client's."""
        return self._session.backend

    @property
    def snapshots(self) -> AsyncSnapshots:
        """Conversations as they were at one time: saving, listing and restoring them."""
        return AsyncSnapshots(self._session)

    async def workers(self) -> list[WorkerInfo]:
        """Workers that live now."""
        await self._session.start()
        return await self._session.backend.ledger.list_workers()

    async def agents(self) -> list[AgentInfo]:
        """Agents that live workers serve, by name."""
        return served_agents(await self.workers())

    async def clear(self, conversation_id: str) -> int:
        """Remove all messages of a conversation; return how many. Cursors stay valid."""
        return await self._session.backend.conversations.clear(
            check_id(conversation_id, "conversation id")
        )

    async def _ring_for(self, submission: Submission) -> None:
        """Ring for a run that a worker may take now. If that fails, the run was never submitted."""
        if not submission.is_ready:
            return
        run = submission.run
        wake_up = WakeUp(run.id, run.agent, run.priority)
        if not submission.is_new:  # accepted before; the caller may well have lost the answer
            await self._session.ring_if_possible(wake_up)
            return
        try:
            await self._session.ring(wake_up)
        except BaseException as error:
            # Whatever it is, a cancellation too: the caller gets no handle, so nothing may stay.
            with anyio.CancelScope(shield=True):
                is_gone = await self._session.backend.ledger.withdraw(run.id)
            # Not gone: a sweep leased it meanwhile, so it is accepted whatever the broker says.
            if is_gone or not isinstance(error, BrokerUnavailableError):
                raise
