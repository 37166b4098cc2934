"""Counting tokens, with a vocabulary of our own: nothing is downloaded in tests."""

import asyncio
import sys
import threading
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
import structlog
import tiktoken

from agent_worker.window import counting
from agent_worker.window.counting import ESTIMATE, counter_of, encoding_of
from shared.message import (
    DataPart,
    Draft,
    MediaPart,
    Role,
    TextPart,
    ThinkingPart,
    ToolCall,
    user_draft,
)

LETTERS = tiktoken.Encoding(
    "letters",
    pat_str=r"\w+|\W",
    mergeable_ranks={bytes([code]): code for code in range(256)}
    | {b"to": 256, b"ke": 257, b"ken": 258},
    special_tokens={"<|endoftext|>": 259},
)


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    """Each test is a process of its own."""
    counting._vocabulary.cache_clear()
    yield
    counting._vocabulary.cache_clear()


@pytest.fixture
def vocabulary(monkeypatch: pytest.MonkeyPatch) -> None:
    """tiktoken finds its vocabulary on this machine."""
    monkeypatch.setattr(tiktoken, "get_encoding", lambda name: LETTERS)


@pytest.mark.parametrize(
    ("model", "encoding"),
    [
        ("openai:gpt-4o-mini", "o200k_base"),
        ("openai-responses:gpt-4.1", "o200k_base"),
        ("azure:gpt-4", "cl100k_base"),
        ("gpt-4o", "o200k_base"),
        ("openai:ft:gpt-4o:us::id", "o200k_base"),
        ("openrouter:openai/gpt-4o", "o200k_base"),
        ("openrouter:anthropic/claude-sonnet-4", None),
        ("anthropic:claude-sonnet-4", None),
        ("google:gpt-4o", None),
        ("openai:made-up", None),
        ("", None),
        (None, None),
    ],
)
def test_models_of_openai_are_known_by_their_names(model: str | None, encoding: str | None) -> None:
    """Whoever serves them; a name that looks alike elsewhere is another model."""
    assert encoding_of(model) == encoding


async def test_a_known_model_is_counted_by_its_tokenizer(vocabulary: None) -> None:
    """And it is said by which."""
    counter = await counter_of("openai:gpt-4o")
    assert counter.counted == "tiktoken:o200k_base"
    assert await counter.costs([user_draft("token")]) == [counting.FRAME + 2]


async def test_what_looks_like_a_special_token_is_text(vocabulary: None) -> None:
    """A user may write one, and must not fail the run with it."""
    counter = await counter_of("openai:gpt-4o")
    assert await counter.costs([user_draft("<|endoftext|>")]) == [counting.FRAME + 13]


async def test_other_models_are_estimated() -> None:
    """A third of the bytes, rounded up, so that there are rather too many."""
    counter = await counter_of("anthropic:claude-sonnet-4")
    assert counter is ESTIMATE
    assert await counter.costs([user_draft("1234567"), user_draft("語")]) == [4 + 3, 4 + 1]


async def test_all_that_a_model_is_shown_is_counted() -> None:
    """Text, structured values, calls; media by a flat rate; thinking is not sent back."""
    message = Draft(
        role=Role.ASSISTANT,
        content=(
            TextPart(text="x" * 30),
            ThinkingPart(text="y" * 3_000),
            DataPart(value={"a": [1, 2]}),
            MediaPart(media_type="image/png", data="z" * 9_000),
        ),
        tool_calls=(ToolCall(id="c", name="look", arguments='{"at":"the sea"}'),),
    )
    [cost] = await ESTIMATE.costs([message])
    text, value, name, arguments = 10, 4, 2, 6
    assert cost == 2 * counting.FRAME + text + value + name + arguments + counting.MEDIUM


async def test_much_text_is_counted_beside_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """A window of megabytes must not hold up other runs."""
    threads = set()

    def count(text: str) -> int:
        threads.add(threading.current_thread() is threading.main_thread())
        return 1

    counter = counting.TokenCounter(count, "own")
    await counter.costs([user_draft("x")])
    assert threads == {True}
    await counter.costs([user_draft("x" * 100_000)])
    assert threads == {True, False}


class _Unreachable:
    def __init__(self) -> None:
        self.asked = 0
        self.over = threading.Event()

    def refuse(self, name: str) -> Any:
        self.asked += 1
        raise ConnectionError("no route to host")

    def hang(self, name: str) -> Any:
        self.asked += 1
        self.over.wait()


async def test_without_the_internet_it_is_an_estimate_and_said_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever counts asks once, and goes on."""
    network = _Unreachable()
    monkeypatch.setattr(tiktoken, "get_encoding", network.refuse)
    with structlog.testing.capture_logs() as entries:
        counters = await asyncio.gather(*(counter_of("openai:gpt-4o") for _ in range(20)))
    assert set(counters) == {ESTIMATE}
    assert network.asked == 1
    [entry] = entries
    assert (entry["event"], entry["error"]) == ("tokenizer.unavailable", "ConnectionError")


async def test_a_download_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first run waits a little, and what was decided stays: resumed runs count the same."""
    network = _Unreachable()
    monkeypatch.setattr(tiktoken, "get_encoding", network.hang)
    monkeypatch.setattr(counting, "LOADING_S", 0.05)
    with structlog.testing.capture_logs() as entries:
        assert await counter_of("openai:gpt-4o") is ESTIMATE
    [entry] = entries
    assert entry["error"] == "it did not come in time"
    network.over.set()
    await asyncio.sleep(0)
    assert await counter_of("openai:gpt-4o") is ESTIMATE


def test_without_tiktoken_models_are_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes with the worker's extra, but no budget depends on it."""
    monkeypatch.setitem(sys.modules, "tiktoken.model", None)
    assert encoding_of("openai:gpt-4o") is None
    assert isinstance(sys.modules["tiktoken"], ModuleType)
