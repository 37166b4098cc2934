"""Windows that a function chooses: what it may be, and what it gets."""

from collections.abc import Sequence
from typing import Any

import pytest

from agent_worker import serve
from agent_worker.context import run_info
from agent_worker.engine.protocol import EngineRequest
from agent_worker.window.last_messages import LastMessages
from agent_worker.window.own_choice import OwnChoice
from agent_worker.window.protocol import WindowRequest
from agent_worker.window.summarise import Summarise
from agent_worker.window.token_budget import TokenBudget
from shared.errors import AgentDefinitionError
from shared.message import Draft, Message, MessageKind, Role, ToolCall, user_draft
from tests.unit.window.room import Room, talk


async def answer(request: EngineRequest) -> str:
    """Say yes."""
    return "yes"


def test_a_function_is_a_window_and_a_policy_is_one() -> None:
    """`serve` takes either; nothing is the last messages."""
    policy = TokenBudget(100)
    assert serve(answer, window=policy).options.window is policy
    assert serve(answer, window=sorted).options.window == OwnChoice(sorted)  # type: ignore[arg-type]
    assert serve(answer).options.window == LastMessages()


def no_arguments() -> list[Message]:
    """Takes nothing."""
    return []


def three(messages: Any, request: Any, more: Any) -> list[Message]:
    """Takes too much."""
    return []


@pytest.mark.parametrize(
    "window", [no_arguments, three, 20, "last", TokenBudget, OwnChoice, object()]
)
def test_what_cannot_choose_is_refused_when_the_agent_is_registered(window: Any) -> None:
    """And not in the middle of its first run."""
    with pytest.raises(AgentDefinitionError, match=r"no window|cannot choose a window"):
        serve(answer, window=window)


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: LastMessages(0), "at least 1"),
        (lambda: TokenBudget(0), "at least 1"),
        (lambda: TokenBudget(5, model="gpt-4o", count=len), "give one of them"),
        (lambda: OwnChoice(sorted, read=0), "at least 1"),  # type: ignore[arg-type]
        (lambda: Summarise(len), "cannot summarise"),  # type: ignore[arg-type]
        (lambda: Summarise(3), "cannot summarise"),  # type: ignore[arg-type]
        (lambda: Summarise("m", above=LastMessages(9), keep=LastMessages(5)), "at most half"),
        (lambda: Summarise("m", above=TokenBudget(9), keep=LastMessages(2)), "of one kind"),
        (lambda: Summarise("m", above=LastMessages(), keep=LastMessages()), "of one kind"),
        (lambda: Summarise("m", timeout_s=0), "greater than 0"),
        (lambda: serve(answer, window=TokenBudget(5), history_size=3), "give one of them"),
        (lambda: serve(answer, shorten_results_bytes=10), "at least 1000"),
    ],
)
def test_windows_that_make_no_sense_are_refused_when_built(build: Any, said: str) -> None:
    """The message says what to change."""
    with pytest.raises(AgentDefinitionError, match=said):
        build()


async def test_a_function_gets_whole_pairs_without_notes_and_no_more_than_it_reads() -> None:
    """Oldest first."""
    room = Room()
    call = ToolCall(id="c", name="look", arguments="{}")
    broken = [
        Draft(role=Role.ASSISTANT, kind=MessageKind.TOOL_CALL, tool_calls=(call,)),
        Draft(role=Role.SYSTEM, kind=MessageKind.ERROR, content="it broke"),
    ]
    await room.fill([*talk(50), *broken])
    seen: list[Sequence[Message]] = []

    def choose(messages: Sequence[Message]) -> Sequence[Message]:
        seen.append(messages)
        return messages[-3:]

    window = await room.look(OwnChoice(choose, read=10))
    [given] = seen
    assert len(given) == 10
    assert [one.role for one in given[-2:]] == [Role.ASSISTANT, Role.TOOL]
    assert list(window.messages) == list(given[-3:])


async def test_a_function_may_ask_for_which_run_it_chooses() -> None:
    """A second argument that it has to have is the request; one with a default stays its own."""
    room = Room()
    await room.fill(talk(3))

    def by_run(messages: Sequence[Message], request: WindowRequest) -> Sequence[Message]:
        assert request.run.agent == "agent"
        assert request.input.text == "of what?"
        return [one for one in messages if "2" in one.text]

    def with_default(messages: Sequence[Message], limit: int = 2) -> Sequence[Message]:
        return messages[:limit]

    assert len((await room.look(OwnChoice(by_run), said="of what?")).messages) == 2
    assert len((await room.look(OwnChoice(with_default), run="b")).messages) == 2


async def test_what_a_function_tears_apart_is_made_whole() -> None:
    """A call that it left without its result gets one that says so."""
    room = Room()
    call = ToolCall(id="c", name="look", arguments="{}")
    await room.fill(
        [
            user_draft("look"),
            Draft(role=Role.ASSISTANT, kind=MessageKind.TOOL_CALL, tool_calls=(call,)),
            Draft(
                role=Role.TOOL,
                kind=MessageKind.TOOL_RESULT,
                content="seen",
                tool_call_id="c",
                tool_name="look",
            ),
        ]
    )
    without_results = await room.look(
        OwnChoice(lambda messages: [one for one in messages if one.role is not Role.TOOL])
    )
    assert [one.role for one in without_results.messages][-1] is Role.TOOL
    assert "no result" in without_results.messages[-1].text
    results_alone = await room.look(
        OwnChoice(lambda messages: [one for one in messages if one.role is Role.TOOL]), run="b"
    )
    assert results_alone.messages == ()


async def test_a_sync_function_does_not_hold_up_the_event_loop() -> None:
    """It gets a thread, and knows the run there as well as a tool does."""
    import threading

    room = Room()
    await room.fill(talk(1))
    threads = []

    def choose(messages: Sequence[Message]) -> Sequence[Message]:
        threads.append(threading.current_thread())
        with pytest.raises(LookupError):
            run_info()  # nobody has made this run known here
        return messages

    await room.look(OwnChoice(choose))
    assert threads[0] is not threading.main_thread()
