"""What holds with every policy, at every cut of every conversation: recorded ones and random ones.

What a provider refuses is looked for with the checker of the stand-in model server.
"""

import json
from collections.abc import Callable, Sequence
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_worker.window.last_messages import LastMessages
from agent_worker.window.own_choice import OwnChoice
from agent_worker.window.protocol import Window, WindowPolicy
from agent_worker.window.summarise import Summarise
from agent_worker.window.token_budget import TokenBudget
from shared.message import DataPart, Draft, Message, MessageKind, Role, TextPart, user_draft
from shared.openai_chat import from_openai, to_openai
from tests.model_server.pairing import FaultKind, find_refusals
from tests.model_server.recording import Recording, load_recordings
from tests.unit.shared.recordings import recordings_file
from tests.unit.window.histories import histories
from tests.unit.window.room import Room, finish, talk

BUDGET = 700
FRAME, MEDIUM = 4, 1_000
"""As documented: tokens for a message and for each of its calls; for an image or a document."""


def count(text: str) -> int:
    """A tokenizer that anybody can check."""
    return len(text) // 5


async def tell(so_far: str | None, messages: Sequence[Message]) -> str:
    """A summary that says how often there was something to summarise."""
    return f"{so_far or ''}.{len(messages)}"


async def refuse(so_far: str | None, messages: Sequence[Message]) -> str:
    """A model that is down."""
    raise ConnectionError("no answer")


def every_other(messages: Sequence[Message]) -> list[Message]:
    """What a careless function makes of a history: calls without results and the reverse."""
    return [message for place, message in enumerate(messages) if place % 2]


async def shouted(messages: Sequence[Message]) -> list[Message]:
    """A function that changes what is said."""
    return [
        message.model_copy(update={"content": message.text.upper()})
        if message.role is Role.USER
        else message
        for message in messages
    ]


budget = TokenBudget(BUDGET, count=count)
POLICIES: dict[str, WindowPolicy] = {
    "the default": LastMessages(),
    "one message": LastMessages(1),
    "seven messages": LastMessages(7),
    "a budget": budget,
    "a budget for nothing": TokenBudget(1, count=count),
    "a summary by messages": Summarise(tell, above=LastMessages(12), keep=LastMessages(5)),
    "a summary by tokens": Summarise(tell, above=budget, keep=TokenBudget(300, count=count)),
    "a summary that fails": Summarise(refuse, above=LastMessages(12), keep=LastMessages(5)),
    "a sync function": OwnChoice(every_other),
    "an async function": OwnChoice(shouted, read=30),
    "no message at all": OwnChoice(lambda messages: []),
}
WITHOUT_IDS = {FaultKind.CALL_WITHOUT_ID, FaultKind.RESULT_WITHOUT_ID}
"""What models wrote stays as they wrote it; engines give such calls an id of their own."""
policies = pytest.mark.parametrize("name", POLICIES)


def find_faults(window: Window, own: Sequence[Draft], stored: Sequence[Message]) -> list[str]:
    """What is wrong with a window, in words."""
    seen = [*window.messages, *own]
    refusals = find_refusals(to_openai(seen))
    faults = [str(fault) for fault in refusals if fault.kind not in WITHOUT_IDS]
    if any(message.kind.is_note for message in window.messages):
        faults.append("a note is shown")
    if window.messages and window.messages[0].role is Role.TOOL:
        faults.append("it begins with a result")
    places = {message.id: place for place, message in enumerate(stored)}
    order = [places[one.id] for one in window.messages if one.id in places]
    if order != sorted(order):
        faults.append(f"the order is {order}")
    made_up = [one.id for one in window.messages if not is_known(one, places)]
    if made_up:
        faults.append(f"nobody stored {made_up}")
    return faults


def is_known(message: Message, places: dict[str, int]) -> bool:
    """Stored, or made in the place of something stored: a summary, a result that is missing."""
    return (
        message.id in places
        or message.id.startswith("summary:")
        or message.id.rpartition(".")[0] in places
    )


def ids(messages: Sequence[Message]) -> list[str]:
    """Which messages these are, whenever they were made."""
    return [message.id for message in messages]


def cost_of(messages: Sequence[Draft]) -> int:
    """What messages take, counted independently of the policy."""
    total = 0
    for message in messages:
        content = message.content or ""
        for part in [TextPart(text=content)] if isinstance(content, str) else content:
            if isinstance(part, TextPart):
                total += count(part.text)
            elif isinstance(part, DataPart):
                total += count(json.dumps(part.value, ensure_ascii=False, separators=(",", ":")))
            else:
                total += MEDIUM
        total += FRAME + sum(
            FRAME + count(call.name) + count(call.arguments) for call in message.tool_calls
        )
    return total


async def check(
    policy: WindowPolicy, drafts: Sequence[Draft], own: Sequence[Draft], asked: int | None
) -> None:
    """Let a run look back, be taken over in its middle, and look back again."""
    room = Room()
    await room.fill(drafts)
    stored = await room.messages()
    said = own[0].text
    first = await room.look(policy, said=said, answers=own[1:], asked=asked)
    assert find_faults(first, own, stored) == []
    if asked is not None:
        assert len(first.messages) + 1 <= asked
    resumed = await room.look(policy, asked=asked)
    assert resumed.messages == first.messages
    assert resumed.summary is None
    summaries = [one for one in await room.messages() if one.kind is MessageKind.SUMMARY]
    assert len(summaries) - len([one for one in stored if one.kind is MessageKind.SUMMARY]) == (
        first.summary is not None
    )
    if first.tokens is not None and asked is None:
        assert first.tokens <= BUDGET or not first.messages


@policies
@given(history=histories, asked=st.none() | st.integers(1, 9))
@settings(deadline=None, max_examples=60)
def test_random_histories(name: str, history: list[Draft], asked: int | None) -> None:
    """Whatever is stored, the model sees whole pairs in order, and the same when resumed."""
    answer = Draft(role=Role.ASSISTANT, content="so it is")
    finish(check(POLICIES[name], history, [user_draft("what is it?"), answer], asked))


@pytest.mark.slow
@policies
@pytest.mark.parametrize("file", ["conversations.jsonl", "parallel_calls.jsonl"])
def test_recorded_conversations_at_every_run(name: str, file: str) -> None:
    """At the start of each run of each recording, and cut anywhere in its middle."""
    for recording in load_recordings(recordings_file(file)):
        finish(_check_recording(POLICIES[name], recording))


async def _check_recording(policy: WindowPolicy, recording: Recording) -> None:
    drafts = [one for one in from_openai(recording.replayable) if one.role is not Role.SYSTEM]
    starts = [place for place, one in enumerate(drafts) if one.role is Role.USER]
    random = Random(recording.id)
    for start, end in zip(starts, [*starts[1:], len(drafts)], strict=True):
        await check(policy, drafts[:start], drafts[start:end], None)
        cut = random.randint(0, start)
        await check(policy, drafts[cut:start], drafts[start:end], random.randint(1, 9))


@given(history=histories, tokens=st.integers(1, 2_000))
@settings(deadline=None, max_examples=200)
def test_a_budget_is_kept_and_used(history: list[Draft], tokens: int) -> None:
    """Not exceeded unless the input alone does so; and no window that fits would be longer."""

    async def look_once(budget: int) -> Window:
        room = Room()
        await room.fill(history)
        return await room.look(TokenBudget(budget, count=count), said="what?")

    async def look() -> None:
        window = await look_once(tokens)
        cost = cost_of([*window.messages, user_draft("what?")])
        assert window.tokens == cost
        assert cost <= tokens or not window.messages
        whole = (await look_once(10**9)).messages
        left_out = whole[: len(whole) - len(window.messages)]
        assert ids(whole[len(left_out) :]) == ids(window.messages)
        group: list[Message] = []
        for message in reversed(left_out):
            group.insert(0, message)
            if message.role is not Role.TOOL:
                break
        if group:
            assert cost + cost_of(group) > tokens, "there was room for one more"

    finish(look())


@pytest.mark.parametrize(
    "policy",
    [
        LastMessages(),
        TokenBudget(2_000),
        Summarise(tell),
        OwnChoice(lambda messages: messages, read=50),
    ],
    ids=lambda policy: policy.name,
)
async def test_a_long_conversation_is_not_read_as_a_whole(policy: WindowPolicy) -> None:
    """Of ten thousand messages those are read that the window needs, and a page more."""
    room = Room()
    await room.fill(talk(5_000))
    first = await room.look(policy)
    assert first.messages
    once = room.store.read
    await room.look(policy, run="next")
    assert room.store.read - once <= 200
    assert once <= 1_400


@pytest.mark.parametrize(
    "policy",
    [TokenBudget(10**6), OwnChoice(lambda messages: messages, read=10**6)],
    ids=lambda policy: policy.name,
)
async def test_a_window_with_room_for_all_reads_back_to_the_beginning(policy: WindowPolicy) -> None:
    """Page by page, and none is left out or read twice."""
    room = Room()
    await room.fill(talk(1_500))
    window = await room.look(policy)
    assert [message.id for message in window.messages] == [f"past-1.{n}" for n in range(3_000)]
    assert room.store.pages <= 12


LIMITS: dict[str, Callable[[], WindowPolicy]] = {
    "messages": lambda: LastMessages(3),
    "tokens": lambda: TokenBudget(100_000),
    "summary": lambda: Summarise(tell),
    "function": lambda: OwnChoice(lambda messages: messages),
}


@pytest.mark.parametrize("name", LIMITS)
async def test_a_runs_own_history_size_bounds_every_policy(name: str) -> None:
    """Who submitted the run decides first."""
    room = Room()
    await room.fill(talk(100))
    window = await room.look(LIMITS[name](), asked=6)
    assert len(window.messages) == 5
    alone = await room.look(LIMITS[name](), asked=1, run="alone")
    assert alone.messages == ()
