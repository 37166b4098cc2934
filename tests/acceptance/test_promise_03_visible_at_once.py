"""Promise 3: a reader sees each message the moment it exists."""

import asyncio
from pathlib import Path

import pytest

from agent_client import AsyncAgentClient, RunStatus
from shared.testing.waiting import eventually
from tests.acceptance.conftest import play
from tests.traces import executions, permit

pytestmark = [pytest.mark.acceptance, pytest.mark.integration]


async def test_each_message_is_visible_before_what_follows_it(
    client: AsyncAgentClient, traces: Path
) -> None:
    """The call is seen while its tools run, and each result while the other tool still runs."""
    run = await client.submit(
        "script", play([("wait", "one"), ("wait", "two")]), conversation_id="live"
    )
    watcher = run.watch()

    async def seen() -> tuple[str, str]:
        async with asyncio.timeout(20):
            message = await anext(watcher)
        return message.role, message.tool_name or message.text[:5]

    assert (await seen())[0] == "user"
    assert await seen() == ("assistant", "")

    async def both_started() -> bool:
        return len(executions(traces)) == 2

    await eventually(both_started)
    stored = await client.history("live")
    assert [message.role for message in stored] == ["user", "assistant"]
    assert [call.name for call in stored[1].tool_calls] == ["wait", "wait"]

    permit(traces, "two")
    assert await seen() == ("tool", "wait")
    stored = await client.history("live")
    assert stored[2].text == "waited for two"
    assert len(stored) == 3, "the first call has no result yet"

    permit(traces, "one")
    assert await seen() == ("tool", "wait")
    assert await seen() == ("assistant", "done")
    assert (await run.result(timeout_s=20)).status is RunStatus.COMPLETED
    with pytest.raises(StopAsyncIteration):
        await anext(watcher)


async def test_the_input_is_visible_while_the_model_thinks(
    client: AsyncAgentClient, traces: Path
) -> None:
    """The user's message is there when the run starts, whatever time the first answer takes."""
    run = await client.submit(
        "script", play([("think", "idea"), ("note", "a")]), conversation_id="thinking"
    )
    watcher = run.watch()
    async with asyncio.timeout(20):
        assert (await anext(watcher)).role == "user"
    assert [message.role for message in await client.history("thinking")] == ["user"]
    permit(traces, "idea")
    rest = [message.role async for message in watcher]
    assert rest == ["assistant", "tool", "assistant"]


async def test_without_save_on_iteration_everything_appears_at_the_end(
    client: AsyncAgentClient, traces: Path
) -> None:
    """The other mode: nothing is stored while the run goes on, then all of it in one step."""
    notes = [("note", str(number)) for number in range(30)]
    run = await client.submit(
        "script",
        play(notes, [("wait", "gate")]),
        conversation_id="late",
        save_on_iteration=False,
    )

    async def at_the_gate() -> bool:
        return any(entry["name"] == "gate" for entry in executions(traces))

    await eventually(at_the_gate, timeout_s=20)
    assert await client.history("late") == []
    lengths: set[int] = set()

    async def read_until_it_is_there() -> None:
        while 35 not in lengths:
            lengths.add(len(await client.history("late")))

    readers = [asyncio.create_task(read_until_it_is_there()) for _ in range(4)]
    permit(traces, "gate")
    assert (await run.result(timeout_s=20)).status is RunStatus.COMPLETED
    async with asyncio.timeout(20):
        await asyncio.gather(*readers)
    assert lengths <= {0, 35}, "a part of it was visible"
    roles = [message.role for message in await client.history("late")]
    assert roles == [
        *("user", "assistant", *["tool"] * 30),
        *("assistant", "tool", "assistant"),
    ]
