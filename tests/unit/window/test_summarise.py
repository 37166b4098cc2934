"""Summaries: what they cover, what is read for them, and what happens when that is gone."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_worker.window import summarise
from agent_worker.window.last_messages import LastMessages
from agent_worker.window.summarise import Summarise
from agent_worker.window.summariser import BATCH_BYTES, Summary, in_batches
from agent_worker.window.token_budget import TokenBudget
from shared.message import Draft, Message, MessageKind, Role, ToolCall, Usage, user_draft
from tests.unit.window.histories import histories
from tests.unit.window.room import NAME, Room, finish, number, talk

ANSWER = Draft(role=Role.ASSISTANT, content="so it is")


class Listener:
    """A summariser that lists which messages it was told of: nothing may be missing or twice."""

    def __init__(self, *, extra: int = 0) -> None:
        self.heard: list[str] = []
        self.batches: list[int] = []
        self._extra = extra

    async def write(self, so_far: str | None, messages: Sequence[Message]) -> Summary:
        self.heard += [message.id for message in messages]
        self.batches.append(len(messages))
        text = f"{len(self.heard)} messages" + "!" * self._extra
        return Summary(text, Usage(requests=1))


def by_messages(listener: Listener) -> Summarise:
    """Above ten messages, down to four."""
    return Summarise(_async(listener), above=LastMessages(10), keep=LastMessages(4))


def _async(listener: Listener):  # type: ignore[no-untyped-def]  # a coroutine function, not a method
    async def write(so_far: str | None, messages: Sequence[Message]) -> Summary:
        return await listener.write(so_far, messages)

    return write


def covered(messages: Sequence[Message]) -> list[Message]:
    """The summaries, in order."""
    return [message for message in messages if message.kind is MessageKind.SUMMARY]


@given(history=histories, runs=st.integers(1, 25))
@settings(deadline=None, max_examples=50)
def test_over_many_runs_each_message_is_shown_or_in_the_summary(
    history: list[Draft], runs: int
) -> None:
    """Exactly one of both, whatever the conversation began with."""

    async def check() -> None:
        room, listener = Room(), Listener()
        await room.fill([one for one in history if one.kind is not MessageKind.SUMMARY])
        for run in range(runs):
            stored = {one.id: one for one in await room.messages() if not one.kind.is_note}
            window = await room.look(by_messages(listener), run=f"run-{run}", answers=[ANSWER])
            shown = [one.id for one in window.messages if not one.id.startswith("summary:")]
            told = [one for one in listener.heard if one in stored]
            assert len(set(told)) == len(told), "a message was summarised twice"
            assert not set(told) & set(shown), "a message is shown and in the summary"
            # Only a result without its call, which no model is ever shown, is in neither.
            assert {stored[one].role for one in stored.keys() - set(told) - set(shown)} <= {
                Role.TOOL
            }
            assert len(window.messages) <= 9

    finish(check())


async def test_summaries_are_made_once_in_a_while() -> None:
    """In between, the window only grows: its beginning stays what a provider has cached."""
    room, listener = Room(), Listener()
    starts = []
    for run in range(40):
        window = await room.look(by_messages(listener), run=f"run-{run}", answers=[ANSWER])
        starts.append(window.messages[0].id if window.messages else "")
    assert len(listener.batches) == len(covered(await room.messages()))
    assert 10 <= len(listener.batches) <= 14, "one for about three runs of two messages"
    assert len(set(starts)) == len(listener.batches) + 2


async def test_only_what_a_summary_does_not_cover_is_read() -> None:
    """Back to the newest summary, and from there to the end of its range."""
    room, listener = Room(), Listener()
    await room.fill(talk(300))
    await room.look(by_messages(listener), answers=[ANSWER])
    before = room.store.read
    for run in range(3):
        await room.look(by_messages(listener), run=f"run-{run}", answers=[ANSWER])
    assert room.store.read - before == 0, "what came with the claim was enough"


async def test_of_a_long_conversation_without_a_summary_the_newest_part_is_covered() -> None:
    """Nobody summarises a hundred thousand messages in one run."""
    room, listener = Room(), Listener()
    await room.fill(talk(2_000))
    window = await room.look(by_messages(listener))
    assert window.summary is not None
    assert window.summary.covers is not None
    assert summarise.REACH <= window.summary.covers.count <= summarise.REACH + 700
    assert window.summary.covers.last == "past-1.3996"


async def test_a_covered_message_that_is_gone_is_no_end() -> None:
    """The last one that a summary covers was removed: what is left of the range is shown, and
    belongs to the next summary. Nothing that is stored is left out."""
    room, listener = Room(), Listener()
    await room.fill(talk(6))
    first = await room.look(by_messages(listener), answers=[ANSWER])
    assert first.summary is not None
    assert first.summary.covers is not None
    last = next(one for one in await room.messages() if one.id == first.summary.covers.last)
    assert last.cursor is not None
    await room.store.remove(NAME, last.cursor)
    listener.heard.clear()
    window = await room.look(by_messages(listener), run="next")
    shown = [one.id for one in window.messages[1:]]
    assert set(listener.heard) | set(shown) >= {f"past-1.{n}" for n in range(1, 12)} - {last.id}


async def test_a_range_that_was_trimmed_needs_no_end() -> None:
    """Old messages are gone for good; those that are left are all behind the range."""
    room, listener = Room(), Listener()
    await room.fill(talk(6))
    first = await room.look(by_messages(listener), answers=[ANSWER])
    assert first.summary is not None
    assert first.summary.covers is not None
    ids = [one.id for one in await room.messages()]
    for one in (await room.messages())[: ids.index(first.summary.covers.last) + 1]:
        assert one.cursor is not None
        await room.store.remove(NAME, one.cursor)
    window = await room.look(by_messages(listener), run="next")
    assert first.summary.text in window.messages[0].text
    assert [one.id for one in window.messages[1:]] == [
        *("past-1.9", "past-1.10", "past-1.11"),
        *("now.0", "now.2"),
    ]


async def test_a_cleared_conversation_begins_without_a_summary() -> None:
    """The summary was a message of it."""
    room, listener = Room(), Listener()
    await room.fill(talk(6))
    await room.look(by_messages(listener), answers=[ANSWER])
    await room.store.clear(NAME)
    assert (await room.look(by_messages(listener), run="next")).messages == ()


@given(extra=st.integers(0, 4_000), words=st.integers(0, 400), said=st.integers(1, 4_000))
@settings(deadline=None, max_examples=60)
def test_a_budget_holds_the_summary_too(extra: int, words: int, said: int) -> None:
    """However long the summary and the input are; a summary is cut before messages are lost."""

    async def check() -> None:
        listener = Listener(extra=extra)
        policy = Summarise(
            _async(listener),
            above=TokenBudget(1_000, count=len),
            keep=TokenBudget(400, count=len),
        )
        room = Room()
        await room.fill(talk(8, words=words))
        window = await room.look(policy, said="x" * said, answers=[ANSWER])
        resumed = await room.look(policy)
        assert resumed.messages == window.messages
        assert window.tokens is not None
        assert window.tokens <= 1_000 or not window.messages
        if window.summary is not None:
            shown = [one for one in window.messages if not one.id.startswith("summary:")]
            covers = window.summary.covers
            assert covers is not None
            assert covers.count + len(shown) == 16, "between summary and window nothing is missing"
            assert window.messages[0].id.startswith("summary:")

    finish(check())


async def test_a_long_stretch_is_given_in_parts() -> None:
    """Each on top of the summary of those before; their usage is added up."""
    room, listener = Room(), Listener()
    await room.fill([user_draft("x" * BATCH_BYTES)] * 3 + talk(10))
    window = await room.look(by_messages(listener))
    assert len(listener.batches) > 1
    assert window.summary is not None
    assert window.summary.usage == Usage(requests=len(listener.batches))


@given(history=histories)
def test_parts_are_whole_and_together_everything(history: list[Draft]) -> None:
    """None begins with a result."""
    messages = number([one.model_copy(update={"content": "x" * 20_000}) for one in history], "run")
    parts = list(in_batches(messages))
    assert [one for part in parts for one in part] == messages
    assert all(part[0].role is not Role.TOOL for part in parts[1:])


async def test_calls_are_summarised_with_their_results() -> None:
    """What falls out is whole pairs, as what stays is."""
    room, listener = Room(), Listener()
    call = ToolCall(id="c", name="look", arguments="{}")
    looked = [
        Draft(role=Role.ASSISTANT, kind=MessageKind.TOOL_CALL, tool_calls=(call, call)),
        *[
            Draft(
                role=Role.TOOL,
                kind=MessageKind.TOOL_RESULT,
                content="seen",
                tool_call_id="c",
                tool_name="look",
            )
        ]
        * 2,
    ]
    await room.fill([*talk(3), user_draft("look"), *looked, *looked])
    window = await room.look(by_messages(listener))
    assert window.summary is not None
    assert window.messages[1].role is Role.ASSISTANT
    assert listener.heard[-1] == "past-1.9"


@pytest.mark.parametrize("text", ["", "  \n", None, 3])
async def test_a_summariser_that_says_nothing_has_failed(text: object) -> None:
    """An empty memory is none."""

    async def write(so_far: str | None, messages: Sequence[Message]) -> str:
        return text  # type: ignore[return-value]

    room = Room()
    await room.fill(talk(20))
    policy = Summarise(write, above=LastMessages(10), keep=LastMessages(4))
    window = await room.look(policy)
    assert window.summary is None
    assert len(window.messages) == 9


async def test_half_a_character_in_a_summary_costs_no_run() -> None:
    """Models do write halves of surrogate pairs."""

    async def write(so_far: str | None, messages: Sequence[Message]) -> str:
        return "half \ud83d of a pair"

    room = Room()
    await room.fill(talk(20))
    policy = Summarise(write, above=LastMessages(10), keep=LastMessages(4))
    window = await room.look(policy, answers=[ANSWER])
    assert "half" in window.messages[0].text
    assert (await room.look(policy)).messages == window.messages
