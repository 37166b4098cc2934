"""The load: callers that hold the planned conversations, and note what they were told."""

import asyncio
import random
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from agent_client import AsyncAgentClient, AsyncRun
from benchmarks.chaos.evidence import CancelTold, Sighting, Told
from benchmarks.chaos.plan import (
    SPEC,
    AwaitEnd,
    AwaitOutage,
    Cancel,
    Conversation,
    How,
    Spec,
    Step,
    Submit,
)
from benchmarks.chaos.site import Site
from benchmarks.chaos.watching import Elsewhere, watch
from shared.errors import AgentsError, ConversationBusyError, UnavailableError
from shared.run import RunStatus

RETRY_S: Final = 0.3
"""Pause before a caller tries again."""
_HOWS: Final[tuple[How, ...]] = ("messages", "events", "resuming")


@dataclass
class Notes:
    """What callers and watchers noted."""

    told: list[Told] = field(default_factory=list)
    cancels: list[CancelTold] = field(default_factory=list)
    outcomes: dict[str, RunStatus] = field(default_factory=dict)
    sightings: list[Sighting] = field(default_factory=list)
    accepted: dict[str, AsyncRun] = field(default_factory=dict)
    """Runs by the id of their spec."""


class Load:
    """Holds the conversations, and has runs watched from here and from elsewhere."""

    def __init__(
        self,
        site: Site,
        clients: Sequence[AsyncAgentClient],
        elsewhere: Elsewhere,
        *,
        seed: int,
    ) -> None:
        self.notes = Notes()
        self._site = site
        self._clients = clients
        self._elsewhere = elsewhere
        self._chance = random.Random(f"load {seed}")  # noqa: S311 - who watches what
        self._watching: set[asyncio.Task[None]] = set()
        self._is_over = asyncio.Event()

    async def hold(self, conversations: Sequence[Conversation]) -> None:
        """Hold all conversations, each from its time on; returns when each has had its say."""
        async with asyncio.TaskGroup() as group:
            for conversation in conversations:
                group.create_task(self._hold(conversation))

    def stop_waiting(self) -> None:
        """No outage will come any more."""
        self._is_over.set()

    async def settle(self, timeout_s: float) -> None:
        """Wait until every run has ended and every watcher has seen it, or the time is over."""
        if self._watching:
            _, pending = await asyncio.wait(self._watching, timeout=timeout_s)
            for task in pending:
                task.cancel()
            # What is missing in the notes then, whatever the reason, is a violation.
            await asyncio.gather(*self._watching, return_exceptions=True)

    async def _hold(self, conversation: Conversation) -> None:
        await asyncio.sleep(conversation.at)
        for step in conversation.steps:
            if not await self._do(step):
                return

    async def _do(self, step: Step) -> bool:
        """Do one step; False when the rest of the conversation makes no sense any more."""
        if isinstance(step, Submit):
            await asyncio.sleep(step.wait_s)
            await asyncio.gather(*(self._submit(step.spec) for _ in range(step.copies)))
        elif isinstance(step, Cancel):
            await asyncio.sleep(step.wait_s)
            await asyncio.gather(*(self._cancel(step.spec_id) for _ in range(step.times)))
        elif isinstance(step, AwaitEnd):
            await self._await_end(step.spec_id)
        else:
            return await self._await_outage(step)
        return True

    async def _submit(self, spec: Spec) -> None:
        while True:
            at = time.time()
            try:
                run = await self._chance.choice(self._clients).submit(
                    spec.agent,
                    spec.input,
                    conversation_id=spec.conversation_id,
                    idempotency_key=spec.id if spec.is_keyed else None,
                    metadata={SPEC: spec.id, **spec.metadata},
                    on_busy=spec.on_busy,
                    save_on_iteration=spec.save_on_iteration,
                    max_rounds=spec.max_rounds,
                )
            except AgentsError as error:
                name, took = type(error).__name__, time.time() - at
                self.notes.told.append(Told(spec.id, at, took, error=name, detail=str(error)[:200]))
                if isinstance(error, ConversationBusyError) or not (
                    spec.is_keyed and isinstance(error, UnavailableError)
                ):
                    return
                await asyncio.sleep(RETRY_S)
            else:
                self.notes.told.append(Told(spec.id, at, time.time() - at, run_id=run.id))
                self._follow(spec, run)
                return

    def _follow(self, spec: Spec, run: AsyncRun) -> None:
        if spec.id in self.notes.accepted:
            return
        self.notes.accepted[spec.id] = run
        self._watch(self._note_outcome(run), f"result of {run.id}")
        if self._chance.random() < 0.5:
            self._watch(self._note_sighting(run), f"watcher of {run.id}")
        if self._chance.random() < 0.5:
            self._elsewhere.watch(run.id, self._chance.choice(_HOWS))

    def _watch(self, work: "asyncio._CoroutineLike[None]", name: str) -> None:
        self._watching.add(asyncio.create_task(work, name=name))

    async def _note_outcome(self, run: AsyncRun) -> None:
        self.notes.outcomes[run.id] = (await run.result()).status

    async def _note_sighting(self, run: AsyncRun) -> None:
        self.notes.sightings.append(await watch(run, self._chance.choice(_HOWS), who="here"))

    async def _cancel(self, spec_id: str) -> None:
        run = self.notes.accepted.get(spec_id)
        if run is None:
            return
        while True:
            try:
                result = await run.cancel()
            except AgentsError as error:
                name = type(error).__name__
                self.notes.cancels.append(CancelTold(spec_id, run.id, error=name))
                if not isinstance(error, UnavailableError):
                    return
                await asyncio.sleep(RETRY_S)
            else:
                self.notes.cancels.append(CancelTold(spec_id, run.id, result))
                return

    async def _await_end(self, spec_id: str) -> None:
        run = self.notes.accepted.get(spec_id)
        if run is not None:
            with suppress(AgentsError):  # who follows the run notes that there was no outcome
                await run.result()

    async def _await_outage(self, step: AwaitOutage) -> bool:
        away = self._site.store_is_away if step.of == "store" else self._site.broker_is_away
        waits = [asyncio.create_task(each.wait()) for each in (away, self._is_over)]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        return not self._is_over.is_set()
