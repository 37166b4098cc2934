"""The session: what a client and all handles that it gave out share."""

import asyncio
from contextlib import AbstractAsyncContextManager

import structlog

from shared.backend import Backend
from shared.backend_building import build_backend
from shared.conversation.config import ConversationConfig
from shared.conversation.url import check_distributed
from shared.dispatch.protocol import Dispatcher
from shared.errors import BrokerUnavailableError, RequestError
from shared.ledger.protocol import WakeUp
from shared.settings import Settings

log = structlog.get_logger()


class Session:
    """A backend, a dispatcher and the settings, from the first use to `aclose`.

    What is passed in stays its owner's; what is missing is opened here and closed here. `lifespan`
    is entered with the first use and left at the end.

    Attributes:
        settings: Limits of requests, and where services are.
        conversation: What the caller said about conversations, if anything.
        reconnect_s: How long a watcher bears with a store that does not answer.
        is_closed: Whether `aclose` was called; nothing is retried from then on.

    Raises:
        NotDistributedError: When built: workers in other processes could not see the conversations.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        conversation: ConversationConfig | None = None,
        backend: Backend | None = None,
        dispatcher: Dispatcher | None = None,
        lifespan: AbstractAsyncContextManager[object] | None = None,
        reconnect_s: float = 60.0,
    ) -> None:
        self.settings = settings
        self.conversation = conversation
        self.reconnect_s = reconnect_s
        self.is_closed = False
        _check_distributed(conversation, backend, dispatcher)
        self._owns_backend = backend is None
        self._owns_dispatcher = dispatcher is None
        # Opened now, though it connects later, so that a bad URL is an error here.
        url = conversation.url if conversation is not None else None
        self.backend = backend if backend is not None else build_backend(settings, url)
        self._dispatcher = dispatcher
        self._lifespan = lifespan
        self._has_started = False
        self._starting = asyncio.Lock()

    async def start(self) -> None:
        """Enter the lifespan, once, whoever comes first.

        Raises:
            RequestError: The session is closed.
        """
        async with self._starting:
            if self.is_closed:
                raise RequestError("This client is closed; build a new one.")
            if self._lifespan is not None and not self._has_started:
                await self._lifespan.__aenter__()
            if not self._has_started and self.backend.conversations_at is not None:
                log.debug("conversations.elsewhere", at=self.backend.conversations_at)
            self._has_started = True

    async def ring(self, wake_up: WakeUp) -> None:
        """Wake a worker for a run.

        Raises:
            BrokerUnavailableError: The broker did not take it in bounded time.
        """
        await self._opened_dispatcher().ring([wake_up])

    async def ring_if_possible(self, wake_up: WakeUp) -> None:
        """Wake a worker for a run that is accepted anyway; without a ring, a sweep finds it."""
        try:
            await self.ring(wake_up)
        except BrokerUnavailableError as error:
            log.warning("ring.failed", for_run=wake_up.run_id, error=str(error))

    async def aclose(self) -> None:
        """Leave the lifespan and close what this session opened. Repeating it does nothing."""
        async with self._starting:
            if self.is_closed:
                return
            self.is_closed = True
        try:
            if self._lifespan is not None and self._has_started:
                await self._lifespan.__aexit__(None, None, None)
        finally:
            if self._owns_dispatcher and self._dispatcher is not None:
                await self._dispatcher.aclose()
            if self._owns_backend:
                await self.backend.aclose()

    def _opened_dispatcher(self) -> Dispatcher:
        if self._dispatcher is None:
            # Not before somebody rings: a process that only watches never loads Celery.
            from shared.dispatch.celery import CeleryDispatcher

            self._dispatcher = CeleryDispatcher(self.settings)
        return self._dispatcher


def _check_distributed(
    conversation: ConversationConfig | None, backend: Backend | None, dispatcher: Dispatcher | None
) -> None:
    if dispatcher is not None and not dispatcher.is_distributed:
        return
    if backend is not None:
        backend.check_distributed()
    if conversation is not None and conversation.url is not None:
        check_distributed(conversation.url)
