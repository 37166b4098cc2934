"""The view: what the model of one run is shown of the conversation before it."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final

import structlog

from agent_worker.bounds import Bounds
from agent_worker.context import RunInfo
from agent_worker.execution.persistence import insist
from agent_worker.window.last_messages import LastMessages
from agent_worker.window.past import Past
from agent_worker.window.protocol import Window, WindowRequest
from shared.conversation.protocol import Claim, ConversationStore
from shared.message import Message, MessageKind, Role
from shared.window import longest_end, pair_safe

log: Final = structlog.get_logger()


class View:
    """Lets the agent's policy choose, and keeps above it what holds with every policy.

    It is opened once for each lease of a run. What it shows follows from what is stored before the
    run's first message, and from the summary that the run itself has stored.
    """

    def __init__(
        self,
        claim: Claim,
        store: ConversationStore,
        history: str,
        bounds: Bounds,
        run: RunInfo,
        model: str | None,
    ) -> None:
        self._store = store
        self._history = history
        self._bounds = bounds
        self._run = run
        self._model = model
        self._past = Past(
            claim.earlier,
            self._read,
            shorten_results_bytes=bounds.engine.shorten_results_bytes,
        )

    async def open(self, own: Sequence[Message], confirm: Callable[[], Awaitable[None]]) -> Window:
        """The window. `own` is what the run has written, its input first.

        Raises:
            EngineError: The policy cannot choose, so that the run cannot go on.
            NewerVersionError: The conversation needs a newer worker.
            StoreUnavailableError: The store was away for too long.
        """
        policy = self._bounds.window
        request = WindowRequest(
            run=self._run,
            input=own[0],
            history_size=self._bounds.history_size,
            asked_size=self._bounds.asked_size,
            model=self._model,
            limits=self._bounds.engine,
            summary=next((one for one in own if one.kind is MessageKind.SUMMARY), None),
            has_answered=any(one.role is Role.ASSISTANT for one in own),
            confirm=confirm,
        )
        window = await policy.build(self._past, request)
        messages = self._kept(window.messages)
        tell = log.debug if isinstance(policy, LastMessages) else log.info
        tell(
            "window.built",
            policy=policy.name,
            messages=len(messages),
            dropped=len(pair_safe(self._past.messages)) - len(messages),
            read_all=self._past.is_whole,
            tokens=window.tokens,
            counted=window.counted,
        )
        return Window(messages, window.summary, window.tokens, window.counted)

    def _kept(self, messages: Sequence[Message]) -> tuple[Message, ...]:
        """What holds with every policy: whole pairs, and no more than the run asked for."""
        safe = pair_safe(messages)
        asked = self._bounds.asked_size
        room = len(safe) if asked is None else asked - 1
        return tuple(safe[longest_end(safe, [1] * len(safe), room=room) :])

    async def _read(self, before: str, limit: int) -> list[Message]:
        read = partial(self._store.list_messages, self._history, limit=limit, before=before)
        return await insist(read)
