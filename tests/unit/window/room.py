"""A room: one conversation in a real store, and runs that look back over it as workers let them."""

import asyncio
from collections.abc import Coroutine, Sequence
from functools import cache
from itertools import count
from typing import Any, TypeVar

from agent_worker.bounds import resolve_bounds
from agent_worker.context import RunInfo
from agent_worker.definition import AgentOptions
from agent_worker.execution.view import View
from agent_worker.window.protocol import Window, WindowPolicy
from shared.conversation.memory import MemoryConversationStore
from shared.conversation.protocol import Writer
from shared.message import Draft, Message, Role, user_draft
from shared.notification.memory import MemoryNotifications
from shared.run import RunOptions
from shared.settings import Settings

NAME = "room"
Value = TypeVar("Value")


class CountingStore(MemoryConversationStore):
    """The real store, which counts the messages that were read."""

    def __init__(self) -> None:
        super().__init__(MemoryNotifications())
        self.read = 0
        self.pages = 0

    async def list_messages(self, *args: Any, **part: Any) -> list[Message]:
        messages = await super().list_messages(*args, **part)
        self.read += len(messages)
        self.pages += 1
        return messages


class Room:
    """A conversation. Each run gets the next fencing token and a name of its own."""

    def __init__(self) -> None:
        self.store = CountingStore()
        self._tokens = count(1)
        self._runs = count(1)

    async def fill(self, drafts: Sequence[Draft]) -> None:
        """Append messages of one run that has ended."""
        if drafts:
            await self.store.append(NAME, number(drafts, f"past-{next(self._runs)}"))

    async def messages(self) -> list[Message]:
        """Everything that is stored."""
        return await self.store.list_messages(NAME)

    async def look(
        self,
        policy: WindowPolicy,
        *,
        run: str = "now",
        said: str = "the run's own input",
        answers: Sequence[Draft] = (),
        size: int = 20,
        asked: int | None = None,
        model: str | None = None,
        shorten: int | None = None,
    ) -> Window:
        """Let a run begin, or go on, and see its window; it stores its input, a summary if it is to
        write one, and `answers`."""
        writer = Writer(run, next(self._tokens))
        claim = await self.store.claim(NAME, writer, limit=policy.first_read(asked or size))
        own = list(claim.own) or number([user_draft(said)], run)
        options = AgentOptions(window=policy, shorten_results_bytes=shorten)
        bounds = resolve_bounds(RunOptions(history_size=asked), options, _settings(size))
        view = View(claim, self.store, NAME, bounds, RunInfo(run, "agent"), model)
        window = await view.open(own, _confirm)
        if window.summary is not None:
            own.append(Message.from_draft(window.summary, run_id=run, position=len(own)))
        own += number(answers, run, first=len(own))
        await self.store.append(NAME, own, writer=writer)
        return window


def number(drafts: Sequence[Draft], run: str, *, first: int = 0) -> list[Message]:
    """Give each draft a place in one run."""
    return [
        Message.from_draft(draft, run_id=run, position=position)
        for position, draft in enumerate(drafts, first)
    ]


def talk(runs: int, *, words: int = 3) -> list[Draft]:
    """A conversation of questions and answers, two messages a run."""
    said = " word" * words
    return [
        draft
        for place in range(runs)
        for draft in (
            user_draft(f"question {place}{said}"),
            Draft(role=Role.ASSISTANT, content=f"answer {place}{said}"),
        )
    ]


def finish(work: Coroutine[Any, Any, Value]) -> Value:
    """Run to the end: what hypothesis calls is no coroutine."""
    return asyncio.run(work)


@cache
def _settings(history_size: int) -> Settings:
    """Made once: to read the environment takes longer than to look back."""
    return Settings(history_size=history_size)


async def _confirm() -> None:
    """The lease holds."""
