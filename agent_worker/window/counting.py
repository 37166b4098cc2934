"""Counting tokens: by the provider's tokenizer where that is to be had, by an estimate elsewhere.

What is counted is what a model is shown of a message: its text, the names and arguments of its
calls, structured values as JSON. What providers wrap around it differs from one to the next, and is
counted as `FRAME` for each message and each call. Media are counted as `MEDIUM` each, since what
they cost depends on sizes that nobody here looks at. Thinking is not counted: few providers take it
back.
"""

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import structlog

from agent_worker.window.shortening import written_json
from shared.message import DataPart, Draft, MediaPart, TextPart

FRAME: Final = 4
MEDIUM: Final = 1_000

BYTES_PER_TOKEN: Final = 3
"""Of an estimate, in UTF-8. English prose has four, JSON and code about three, so the estimate is
rather too high than too low: a budget that is kept by it is kept."""

LOADING_S: Final = 5.0
"""How long the first run waits for a tokenizer's vocabulary. tiktoken downloads it, without a limit
of its own, where its cache (TIKTOKEN_CACHE_DIR) lacks it."""
POLL_S: Final = 0.02
"""Looked at and not waited for: a thread that waits would hold up the end of the process."""
INLINE_BYTES: Final = 50_000
"""More text than this is counted in a thread, so that the event loop goes on."""

_OPENAI: Final = frozenset({"openai", "openai-chat", "openai-responses", "azure", "openrouter"})

log = structlog.get_logger()

CountText = Callable[[str], int]


@dataclass(frozen=True, slots=True)
class TokenCounter:
    """Counts messages. `counted` says how: ``tiktoken:<encoding>``, ``own`` or ``estimate``."""

    count_text: CountText
    counted: str

    async def costs(self, messages: Sequence[Draft]) -> list[int]:
        """What each of the messages takes."""
        if sum(len(text) for message in messages for text in _texts(message)) <= INLINE_BYTES:
            return self._costs(messages)
        return await asyncio.to_thread(self._costs, messages)

    def _costs(self, messages: Sequence[Draft]) -> list[int]:
        return [self._cost(message) for message in messages]

    def _cost(self, message: Draft) -> int:
        content = message.content if isinstance(message.content, tuple) else ()
        media = sum(isinstance(part, MediaPart) for part in content)
        frames = FRAME * (1 + len(message.tool_calls))
        return frames + MEDIUM * media + sum(self.count_text(text) for text in _texts(message))


def estimated(text: str) -> int:
    """About how many tokens a text has, with any tokenizer."""
    return -(-len(text.encode(errors="replace")) // BYTES_PER_TOKEN)


ESTIMATE: Final = TokenCounter(estimated, "estimate")


async def counter_of(model: str | None) -> TokenCounter:
    """The counter for a model by its name, such as ``openai:gpt-4o``; the estimate if unknown.

    Never fails, and waits for `LOADING_S` at most. What it answers for a tokenizer once, it answers
    as long as the process lives: how a run is counted must not depend on when it is resumed. A
    vocabulary that could not be had is logged, once (``tokenizer.unavailable``).
    """
    encoding = encoding_of(model)
    if encoding is None:
        return ESTIMATE
    return await _vocabulary(encoding).counter()


def encoding_of(model: str | None) -> str | None:
    """The tokenizer of a model; None where it is not known, or tiktoken is not installed."""
    provider, colon, name = (model or "").partition(":")
    if colon and provider not in _OPENAI:
        return None
    name = (name if colon else provider).removeprefix("openai/")
    try:
        from tiktoken.model import encoding_name_for_model

        return encoding_name_for_model(name)
    except (ImportError, KeyError):
        return None


def _texts(message: Draft) -> Iterator[str]:
    if isinstance(message.content, str):
        yield message.content
    elif message.content is not None:
        for part in message.content:
            if isinstance(part, TextPart):
                yield part.text
            elif isinstance(part, DataPart):
                yield written_json(part.value)
    for call in message.tool_calls:
        yield call.name
        yield call.arguments


class _Vocabulary:
    """A tokenizer that is loaded once, in a thread that keeps no process alive."""

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding
        self._loaded: Any = None
        self._error = "it did not come in time"
        self._is_done = threading.Event()
        self._chosen: TokenCounter | None = None
        self._lock = threading.Lock()
        threading.Thread(target=self._load, name=f"tokenizer:{encoding}", daemon=True).start()

    async def counter(self) -> TokenCounter:
        """Decide, for as long as the process lives."""
        if self._chosen is None:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOADING_S):
                    while not self._is_done.is_set():  # noqa: ASYNC110  a thread sets it
                        await asyncio.sleep(POLL_S)
            with self._lock:
                self._chosen = self._chosen or self._choose()
        return self._chosen

    def _load(self) -> None:
        try:
            import tiktoken

            self._loaded = tiktoken.get_encoding(self._encoding)
        except Exception as error:  # noqa: BLE001  of the network, of the disk: all mean the estimate
            self._error = type(error).__name__
        finally:
            self._is_done.set()

    def _choose(self) -> TokenCounter:
        if self._loaded is None:
            log.warning(
                "tokenizer.unavailable",
                encoding=self._encoding,
                error=self._error,
                counted=ESTIMATE.counted,
            )
            return ESTIMATE
        # What looks like a special token is text here, as it is for providers.
        encode = self._loaded.encode_ordinary
        return TokenCounter(lambda text: len(encode(text)), f"tiktoken:{self._encoding}")


@cache
def _vocabulary(encoding: str) -> _Vocabulary:
    return _Vocabulary(encoding)
