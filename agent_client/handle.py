"""The handle of a run: everything that can be asked of a run by its id, from any process."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

from pydantic import JsonValue

from agent_client.merging import watch_events
from agent_client.session import Session
from agent_client.watching import watch_end, watch_messages
from shared.errors import ResultTimeoutError
from shared.event import RunEvent
from shared.message import Message
from shared.run import CancelResult, Outcome, Run, RunStatus


@dataclass(frozen=True, slots=True)
class AsyncRun:
    """A run by its id. Handles of one run are equal; making one reads nothing.

    Every method may raise `UnknownRunError` (there is no such run, or its record has expired) and
    `StoreUnavailableError` (the store did not answer in bounded time; trying again is safe).
    Watching bears with an outage of up to a minute and goes on where it was.
    """

    id: str
    session: Session = field(repr=False, compare=False)
    """The client's; not for callers."""

    async def get(self) -> Run:
        """Read the run's record: status, times, worker, attempts, outcome."""
        return await self.session.backend.ledger.get(self.id)

    async def status(self) -> RunStatus:
        """Read where the run stands."""
        return (await self.get()).status

    async def history(self) -> list[Message]:
        """Read the messages that the run has stored so far, oldest first, its input included."""
        run = await self.get()
        return await self.session.backend.conversations.list_messages(
            run.history_id, run_id=self.id
        )

    def watch(self, after: str | None = None) -> AsyncGenerator[Message, None]:
        """The messages of this run, from its beginning or behind the cursor of one of them.

        Each comes as soon as it is stored, once and in order, without gaps. The iterator ends when
        the run has ended and all its messages were yielded; after a rollback nothing more comes.

        Raises:
            InvalidCursorError: `after` is not the cursor of a message.
        """
        return watch_messages(self.session, self.id, after=after)

    def events(self, after: str | None = None) -> AsyncGenerator[RunEvent, None]:
        """Messages, status changes and text deltas of this run, in one order.

        `running` comes before the messages, the deltas of a message between its predecessor and
        itself, and last the event of the final status; then the iterator ends. `event.cursor`
        resumes behind that event. Status changes and deltas are kept for minutes
        (AGENTS_EVENT_TTL_S): a later reader gets the messages and the final status.

        Raises:
            InvalidCursorError: `after` is not the `cursor` of an event.
        """
        return watch_events(self.session, self.id, after=after)

    async def result(self, timeout_s: float | None = None) -> Outcome:
        """Wait until the run has ended, however it ended; no polling.

        Raises:
            ResultTimeoutError: It has not ended within `timeout_s`. It goes on.
        """
        limit = asyncio.timeout(timeout_s)
        try:
            async with limit:
                return (await watch_end(self.session, self.id)).outcome
        except TimeoutError as error:
            if not limit.expired():  # not the caller's, but one from within
                raise
            raise ResultTimeoutError(
                f"Run {self.id} has not ended within {timeout_s:g} s; it goes on. Ask again, watch "
                "it, or cancel it."
            ) from error

    async def output(self, timeout_s: float | None = None) -> JsonValue:
        """Wait for what the agent returns: text, or JSON for a structured output type.

        Raises:
            RunFailedError: The run failed.
            RunCancelledError: It was cancelled.
            ResultTimeoutError: It has not ended within `timeout_s`. It goes on.
        """
        return (await self.result(timeout_s)).raise_for_status().output

    async def cancel(self) -> CancelResult:
        """Stop the run; what this returns says what was found.

        A run that never started is `cancelled` when this returns, worker or not. One that started
        is stopped by its worker, within a second: a model call and async tools are cancelled, sync
        tools left behind, and what they give later is not stored. If that worker is gone, the next
        one does it once the lease is over. Then the calls without a result get one that says so,
        and the run ends; usually `cancelled`, but as it is where the end came first: see `result`.
        Runs that a tool submitted by itself go on.

        Repeating it is safe.
        """
        cancellation = await self.session.backend.ledger.cancel(self.id)
        if cancellation.next is not None:
            await self.session.ring_if_possible(cancellation.next)
        return cancellation.result
