"""Watching: look, wait for a hint, look again, until there is nothing more to come.

Where a hint brings the next message along, and nothing else can have happened, that is the look.

A watcher subscribes before it looks, so whatever is stored after its look arrives as a hint. It
reads whether the run has ended *before* it reads the messages for the last time, so whatever was
stored before the end is in that read. What it knows lives outside of the subscription: after an
outage it goes on behind the last cursor, and nothing is missed or repeated.

Whatever ends a watch, subscriptions are left without waiting and without hearing of an exception
(`AsyncExitStack.aclose`). For an event loop that ends closes generators, those inside of them and
their context managers at once and in any order, and each would complain about the others.
"""

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from functools import partial
from typing import Final, Self, TypeVar

from agent_client.session import Session
from shared.conversation.hint import telling
from shared.errors import StoreUnavailableError, UnknownRunError
from shared.event import DeltaEvent, RemovedEvent, StatusEvent
from shared.message import Message
from shared.notification.bell import Bell
from shared.notification.listener import Listener
from shared.notification.protocol import Subscription
from shared.run import Run

RECHECK_S: Final = 15.0
"""A watcher that heard nothing for so long looks without a hint, since hints may be lost."""
EVENT_PAGE: Final = 500

_FIRST_PAUSE_S: Final = 0.05
_LONGEST_PAUSE_S: Final = 2.0

Item = TypeVar("Item")


def watch_messages(
    session: Session, run_id: str, *, after: str | None
) -> AsyncGenerator[Message, None]:
    """Messages of a run behind `after`, until it has ended; see `AsyncRun.watch`."""
    view = RunView(session, run_id, history_cursor=after)
    return persistently(view.patience, partial(_messages, view))


async def watch_end(session: Session, run_id: str) -> Run:
    """Wait until a run has ended and return its last state; see `AsyncRun.result`."""
    view = RunView(session, run_id)
    async with aclosing(persistently(view.patience, partial(_end, view))) as ended:
        return await anext(ended)


def watch_changes(
    session: Session, conversation_id: str, *, after: str | None
) -> AsyncGenerator[Message | RemovedEvent, None]:
    """Messages of a conversation behind `after`, for ever, and what was removed of them."""
    place = _Place(session, conversation_id, cursor=after)
    patience = Patience(session)
    store = session.backend.conversations

    async def once() -> AsyncGenerator[Message | RemovedEvent, None]:
        async with aclosing(AsyncExitStack()) as stack:
            subscription = await stack.enter_async_context(
                store.notifications.subscribe(store.topic(conversation_id))
            )
            while True:
                messages = await store.list_messages(conversation_id, after=place.cursor)
                if (removed := await place.find_removed(messages)) is not None:
                    yield removed
                for message in messages:
                    place.move(message)
                    yield message
                patience.reset()
                await subscription.wait(RECHECK_S)

    return persistently(patience, once)


async def watch_conversation(
    session: Session, conversation_id: str, *, after: str | None
) -> AsyncGenerator[Message, None]:
    """Messages of a conversation behind `after`, for ever; see `AsyncAgentClient`."""
    async with aclosing(watch_changes(session, conversation_id, after=after)) as changes:
        async for change in changes:
            if isinstance(change, Message):
                yield change


class _Place:
    """How far the watcher of a conversation has come, and whether that is still there.

    What a run wrote is removed while it holds the conversation, so it is the end of what was seen:
    where the last message seen is there, all of them are (unless it was imported meanwhile).
    """

    def __init__(self, session: Session, conversation_id: str, *, cursor: str | None) -> None:
        self.cursor = cursor
        self._backend = session.backend
        self._conversation_id = conversation_id
        self._run_id: str | None = None
        self._is_settled = cursor is None
        """Nothing was seen since the last removal was told."""

    def move(self, message: Message) -> None:
        self.cursor, self._run_id = message.cursor, message.run_id
        self._is_settled = False

    async def find_removed(self, following: Sequence[Message]) -> RemovedEvent | None:
        """What to tell before the messages that follow."""
        if self._is_settled or self.cursor is None:
            return None
        if following and following[0].run_id is not None and following[0].run_id == self._run_id:
            return None
        if await self._backend.conversations.has_message(self._conversation_id, self.cursor):
            return None
        is_rolled_back = await self._is_rolled_back()
        self._is_settled = True
        return RemovedEvent(run_id=self._run_id if is_rolled_back else None)

    async def _is_rolled_back(self) -> bool:
        if self._run_id is None:
            return False
        try:
            return (await self._backend.ledger.get(self._run_id)).rollback_requested
        except UnknownRunError:
            return False


async def _messages(view: "RunView") -> AsyncGenerator[Message, None]:
    async with Hints(view) as hints:
        while True:
            hints.take()  # from here on they are added to what is read now
            for message in await view.read_messages():
                yield message
            if view.has_ended:  # known since before the messages were read, so these were the last
                return
            while (told := await _hear(view, hints)) is not None:
                for message in told:
                    yield message


async def _hear(view: "RunView", hints: "Hints") -> list[Message] | None:
    """Wait for hints. Messages that they brought along, or None: the history may hold more."""
    hinted = await hints.wait()
    if hinted.run:
        await view.read_events()
    if view.has_ended:
        return None
    if hinted.messages:
        return view.told(hints.take())
    return [] if hinted.run else None  # text deltas are no reason to read the history


async def _end(view: "RunView") -> AsyncGenerator[Run, None]:
    ledger = view.session.backend.ledger
    run = await view.refresh()
    if run.status.is_final:  # as for who has watched it to its end
        yield run
        return
    async with aclosing(AsyncExitStack()) as stack:
        subscription = await stack.enter_async_context(
            ledger.notifications.subscribe(ledger.topic(view.run_id))
        )
        run = await view.refresh()
        while not run.status.is_final:
            view.patience.reset()
            is_hinted = await subscription.wait(RECHECK_S)
            if is_hinted:
                # Much smaller than the run with its input, and most hints are about text deltas.
                await view.read_events()
            if view.has_ended or not is_hinted:
                run = await view.refresh()
        yield run


class RunView:
    """One watcher's place in the two logs of a run: its messages and its events.

    Attributes:
        has_ended: Whether no more messages will come. Never becomes false again.
        final: The event of the end, if the log (which is short-lived) still had it.
    """

    def __init__(
        self,
        session: Session,
        run_id: str,
        *,
        history_cursor: str | None = None,
        event_cursor: str | None = None,
    ) -> None:
        self.session = session
        self.run_id = run_id
        self.patience = Patience(session)
        self.has_ended = False
        self.final: StatusEvent | None = None
        self._telling = telling(session.backend.conversations)
        self._history_cursor = history_cursor
        self._event_cursor = event_cursor
        self._next_position = 0 if history_cursor is None else None
        """Of the message to come; None where it was not seen what came before."""

    async def refresh(self) -> Run:
        """Read the run itself: the truth, also when its events are forgotten."""
        run = await self.session.backend.ledger.get(self.run_id)
        self.has_ended |= run.status.is_final
        self._history = run.history_id
        return run

    async def read_messages(self) -> list[Message]:
        """Messages behind those read before; `refresh` has to come first."""
        messages = await self.session.backend.conversations.list_messages(
            self._history, after=self._history_cursor, run_id=self.run_id
        )
        self._move(messages)
        return messages

    def told(self, hints: Sequence[str] | None) -> list[Message] | None:
        """Likewise, out of hints alone; None where the history has to be read."""
        if hints is None or self._next_position is None or self._telling is None:
            return None
        messages = self._telling.told(
            self._history,
            hints,
            run_id=self.run_id,
            after=self._history_cursor,
            position=self._next_position,
        )
        self._move(messages or ())
        return messages

    def _move(self, messages: Sequence[Message]) -> None:
        if messages:
            self._history_cursor = messages[-1].cursor
            self._next_position = messages[-1].position + 1

    async def read_events(self) -> list[StatusEvent | DeltaEvent]:
        """Events behind those read before, without the final one, which is kept in `final`."""
        cursor = self._event_cursor
        events: list[StatusEvent | DeltaEvent] = []
        is_full = True
        while is_full:
            page = await self.session.backend.ledger.list_events(
                self.run_id, after=cursor, limit=EVENT_PAGE
            )
            events += page
            cursor = page[-1].cursor if page else cursor
            is_full = len(page) == EVENT_PAGE
        # Only now, since an error on a later page would have lost the earlier ones.
        self._event_cursor = cursor
        for event in events:
            if isinstance(event, StatusEvent) and event.status.is_final:
                self.has_ended, self.final = True, event
        return [event for event in events if event is not self.final]


@dataclass(frozen=True, slots=True)
class Hinted:
    """What hints came about. Neither: none came for `RECHECK_S`."""

    run: bool
    messages: bool


class Hints:
    """Hints about a run and about its history. Entering it subscribes, and looks at the run."""

    def __init__(self, view: RunView) -> None:
        self._view = view
        self._bell = Bell()
        self._subscriptions: tuple[Subscription, ...] = ()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        view, backend = self._view, self._view.session.backend
        ledger, store = backend.ledger, backend.conversations
        async with AsyncExitStack() as stack:
            about_run = await stack.enter_async_context(
                ledger.notifications.subscribe(ledger.topic(view.run_id), bell=self._bell)
            )
            history = (await view.refresh()).history_id
            about_messages = await stack.enter_async_context(
                store.notifications.subscribe(store.topic(history), bell=self._bell)
            )
            self._subscriptions = (about_run, about_messages)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def wait(self) -> Hinted:
        """Wait until something was hinted at since the last call.

        When nothing was for `RECHECK_S`, look at the run without a hint.
        """
        self._view.patience.reset()
        self._bell.clear()
        hinted = self._poll()
        if not (hinted.run or hinted.messages):
            await self._bell.wait(RECHECK_S)
            hinted = self._poll()
        if not (hinted.run or hinted.messages):
            await self._view.refresh()
        return hinted

    def take(self) -> tuple[str, ...] | None:
        """All hints about messages since the last call; None where that is not known."""
        about_messages = self._subscriptions[1]
        return about_messages.take() if isinstance(about_messages, Listener) else None

    def _poll(self) -> Hinted:
        about_run, about_messages = self._subscriptions
        return Hinted(run=about_run.poll(), messages=about_messages.poll())


class Patience:
    """How long a watcher bears with a store that does not answer, and when it asks again."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.reset()

    def reset(self) -> None:
        """All that was to be read was answered.

        One answer is not enough: conversations may be kept elsewhere than runs, and only one of
        the two be away.
        """
        self._failing_since: float | None = None
        self._pause_s = _FIRST_PAUSE_S

    async def bear(self, error: StoreUnavailableError) -> None:
        """Pause before the next try; raise `error` when there is none any more."""
        now = time.monotonic()
        if self._failing_since is None:
            self._failing_since = now
        has_run_out = now - self._failing_since >= self._session.reconnect_s
        if has_run_out or self._session.is_closed:
            raise error
        # Spread out, or all watchers of a process would come back in one burst.
        await asyncio.sleep(self._pause_s * random.uniform(0.5, 1.5))  # noqa: S311 - no secret
        self._pause_s = min(self._pause_s * 2, _LONGEST_PAUSE_S)


async def persistently(
    patience: Patience, once: Callable[[], AsyncGenerator[Item, None]]
) -> AsyncGenerator[Item, None]:
    """What `once` yields, called again after an outage; it goes on where it was interrupted.

    Raises:
        StoreUnavailableError: The store was away for `reconnect_s`.
    """
    while True:
        try:
            async with aclosing(once()) as items:
                async for item in items:
                    yield item
        except StoreUnavailableError as error:
            await patience.bear(error)
        else:
            return
