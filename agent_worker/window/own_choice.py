"""A window that a function of the user's own chooses."""

import asyncio
import contextvars
import inspect
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, cast

from agent_worker.engine.protocol import EngineError
from agent_worker.engine.pydantic_ai.threads import EscapedError, tool_threads
from agent_worker.saying import named
from agent_worker.window.past import FIRST_PAGE, Past
from agent_worker.window.protocol import Window, WindowRequest
from shared.errors import AgentDefinitionError
from shared.message import Message
from shared.window import longest_end, pair_safe

READ: Final = 200

Choice = Sequence[Message] | Awaitable[Sequence[Message]]
Choose = (
    Callable[[Sequence[Message]], Choice] | Callable[[Sequence[Message], WindowRequest], Choice]
)
"""Gets messages, oldest first, returns those to show. May be async; a sync one gets a thread."""


@dataclass(frozen=True, slots=True)
class OwnChoice:
    """What `choose` returns of the newest `read` messages.

    `choose` gets these messages in whole pairs and without notes, oldest first, and where it asks
    for a second argument the `WindowRequest`. It returns some of them, in their order, each at most
    once. It may return changed ones, made with ``message.model_copy(update=...)``, as long as id
    and role stay; made-up messages are refused. What it leaves without its call, or without its
    result, is made whole again as everywhere (see `shared.window.pair_safe`). It is called once for
    each lease of a run, so it should give equal answers to equal messages.

    An exception in it fails the run with the code ``window_failed``, a result that breaks these
    rules with ``window_invalid``.

    Raises:
        AgentDefinitionError: It cannot be called with one or two arguments, or `read` is below 1.
    """

    choose: Choose
    read: int = READ

    def __post_init__(self) -> None:
        if self.read < 1:
            raise AgentDefinitionError(f"OwnChoice(read={self.read}): make it at least 1.")
        if not callable(self.choose) or inspect.isclass(self.choose) or not self._takes():
            raise AgentDefinitionError(
                f"{self.choose!r} cannot choose a window. It has to be a function that takes the "
                "messages, or the messages and the WindowRequest, and returns messages."
            )

    @property
    def name(self) -> str:
        return "own_choice"

    def first_read(self, history_size: int) -> int:
        del history_size
        return min(self.read, FIRST_PAGE)

    async def build(self, past: Past, request: WindowRequest) -> Window:
        while len(past.messages) < self.read and await past.extend():
            pass
        safe = pair_safe(past.messages)
        offered = safe[longest_end(safe, [1] * len(safe), room=self.read) :]
        chosen = await self._choose(tuple(offered), request)
        return Window(tuple(_checked(chosen, offered)))

    async def _choose(self, offered: Sequence[Message], request: WindowRequest) -> object:
        arguments = (offered, request)[: self._takes()]
        call = partial(cast(Callable[..., Any], self.choose), *arguments)
        try:
            if inspect.iscoroutinefunction(inspect.unwrap(self.choose)):
                return await call()
            context = contextvars.copy_context()
            loop = asyncio.get_running_loop()
            chosen = await loop.run_in_executor(tool_threads(), context.run, call)
            return await chosen if inspect.isawaitable(chosen) else chosen
        except (asyncio.CancelledError, GeneratorExit):
            raise
        except BaseException as error:  # SystemExit too: it is the run that ends with it
            said = named(error.escaped if isinstance(error, EscapedError) else error)
            name = getattr(self.choose, "__qualname__", repr(self.choose))
            raise EngineError(
                "window_failed", f"The window function {name} raised {said}"
            ) from error

    def _takes(self) -> int:
        """With how many arguments the function can be called: one, two, or 0 for neither."""
        try:
            signature = inspect.signature(self.choose)
        except (TypeError, ValueError):
            return 1  # one of C, which does not tell
        for count in (1, 2):
            try:
                signature.bind(*range(count))
            except TypeError:
                continue
            return count
        return 0


def _checked(chosen: object, offered: Sequence[Message]) -> list[Message]:
    """What a function returned, if it is made of what it got.

    Raises:
        EngineError: It is not.
    """
    if isinstance(chosen, str | bytes) or not isinstance(chosen, Sequence):
        raise _invalid(f"it returned a {type(chosen).__name__}, which is no sequence of messages")
    known = {(message.id, message.role) for message in offered}
    left = iter(offered)
    for one in chosen:
        if not isinstance(one, Message):
            raise _invalid(f"it returned a {type(one).__name__} among the messages")
        if (one.id, one.role) not in known or one.kind.is_note:
            raise _invalid(f"the message {one.id!r} ({one.role.value}) is none that it was given")
        if not any((one.id, one.role) == (each.id, each.role) for each in left):
            raise _invalid(f"the message {one.id!r} is there twice, or behind a later one")
    return list(chosen)


def _invalid(what: str) -> EngineError:
    return EngineError(
        "window_invalid",
        f"The window function broke its rules: {what}. It may leave messages out and change what "
        "they say, and nothing else.",
    )
