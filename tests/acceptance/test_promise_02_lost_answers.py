"""Promise 2, lost answers: the store has done what it was asked to, and nobody was told.

A proxy between worker and store lets one request pass and throws its answer away. The request is
recognised by the digest of its script. Whoever asked gives up after a while and asks again.
"""

import asyncio
from collections.abc import AsyncIterator
from hashlib import sha1

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from agent_client import AsyncAgentClient, Message, RunStatus, StatusEvent
from shared.errors import StoreUnavailableError
from shared.redis_client import script_source
from shared.testing.waiting import eventually
from tests.acceptance.conftest import play, started
from tests.faulty import FaultySystem
from tests.network import Proxy
from tests.traces import executions, permit

pytestmark = [pytest.mark.acceptance, pytest.mark.integration]

RESULT_S = 40.0
SCRIPT = play([("note", "a")], [("wait", "gate"), ("note", "b")])
LENGTH = 7


@pytest.fixture
async def known_scripts(faulty: FaultySystem) -> AsyncIterator[None]:
    """The store knows all scripts, so the first answer to one is that of the script itself."""
    names = [("ledger", name) for name in ("submit", "lease", "finish", "hand_over")]
    names += [("conversation", name) for name in ("claim", "append", "retract")]
    async with Redis.from_url(faulty.store.url) as store:
        for folder, name in names:
            await store.script_load(script_source(folder, name))
        yield


@pytest.mark.usefixtures("known_scripts")
@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("ledger", "lease"),
        ("conversation", "claim"),
        ("conversation", "append"),
        ("ledger", "finish"),
    ],
)
async def test_what_a_worker_was_not_told_happens_once(
    faulty_client: AsyncAgentClient, faulty: FaultySystem, folder: str, name: str
) -> None:
    """One attempt, each message and each tool once, one end; and the next run has its turn."""
    permit(faulty.traces, "gate")
    conversation = f"unanswered:{name}"
    for proxy in faulty.proxies:
        proxy.swallow_answer_to(digest(folder, name))
    run = await faulty_client.submit("script", SCRIPT, conversation_id=conversation)
    after = await faulty_client.submit("script", play(), conversation_id=conversation)
    assert (await run.result(timeout_s=RESULT_S)).status is RunStatus.COMPLETED
    for proxy in faulty.proxies:
        proxy.restore()
    assert sum(proxy.swallowed for proxy in faulty.proxies) > 0, "no answer was lost"
    assert (await after.result(timeout_s=RESULT_S)).status is RunStatus.COMPLETED

    check_whole(await faulty_client.history(conversation), run.id)
    assert started(faulty.traces) == ["a", "b", "gate"]
    record = await run.get()
    assert (record.attempts, record.crashes) == (1, 0)
    told = [event.status async for event in run.events() if isinstance(event, StatusEvent)]
    assert told == [RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.COMPLETED]
    lost = [line for worker in faulty.workers for line in worker.log().splitlines()]
    assert not [line for line in lost if "run.lost" in line and run.id in line]


@pytest.mark.usefixtures("known_scripts")
async def test_a_hand_over_without_an_answer_is_one(
    faulty_client: AsyncAgentClient, faulty: FaultySystem
) -> None:
    """The worker that stops repeats it, whoever may have the run by then, and leaves in time."""
    script = play([("note", "a")], [("think", "idea"), ("note", "b")])
    run = await faulty_client.submit("script", script, conversation_id="given")
    await eventually(lambda: stored(faulty_client, "given", 3), timeout_s=RESULT_S)
    worker = faulty.find(executions(faulty.traces)[0]["pid"])
    proxy = faulty.network_of(worker).ways[0]
    proxy.swallow_answer_to(digest("ledger", "hand_over"))
    worker.terminate()
    assert await asyncio.to_thread(worker.wait) == 0
    assert proxy.has_swallowed, "no answer was lost"
    permit(faulty.traces, "idea")
    assert (await run.result(timeout_s=RESULT_S)).status is RunStatus.COMPLETED
    record = await run.get()
    assert (record.attempts, record.crashes) == (2, 0)
    messages = await faulty_client.history("given")
    assert [message.position for message in messages] == list(range(6))
    assert started(faulty.traces) == ["a", "b"]


@pytest.mark.usefixtures("known_scripts")
async def test_a_rollback_without_an_answer_is_one(
    faulty_client: AsyncAgentClient, faulty: FaultySystem
) -> None:
    """The messages are removed, and not those of the run that came after."""
    first = await faulty_client.submit("script", SCRIPT, conversation_id="removed")
    await eventually(lambda: stored(faulty_client, "removed", 5), timeout_s=RESULT_S)
    for proxy in faulty.proxies:
        proxy.swallow_answer_to(digest("conversation", "retract"))
    second = await faulty_client.submit(
        "script", play([("note", "c")]), conversation_id="removed", on_busy="rollback"
    )
    assert (await first.result(timeout_s=RESULT_S)).status is RunStatus.CANCELLED
    assert (await second.result(timeout_s=RESULT_S)).status is RunStatus.COMPLETED
    assert any(proxy.has_swallowed for proxy in faulty.proxies), "no answer was lost"
    messages = await faulty_client.history("removed")
    assert {message.run_id for message in messages} == {second.id}
    assert [message.position for message in messages] == list(range(4))


@pytest.mark.usefixtures("known_scripts")
@pytest.mark.parametrize("key", [None, "order-18"])
async def test_a_submit_without_an_answer_is_no_half_run(
    faulty_client: AsyncAgentClient, faulty: FaultySystem, key: str | None
) -> None:
    """The caller hears that it may have been accepted. It was: it is executed, once, and listed.

    With a key the caller may submit again, and gets that run.
    """
    conversation = f"submitted:{key}"
    script = play([("note", "a")])
    with Proxy(faulty.store.port) as proxy:
        url = f"redis://{proxy.address}/0"
        settings = faulty.settings.model_copy(update={"redis_url": SecretStr(url)})
        async with AsyncAgentClient(settings) as client:
            await client.workers()
            proxy.swallow_answer_to(digest("ledger", "submit"))

            async def submit() -> str:
                run = await client.submit(
                    "script", script, conversation_id=conversation, idempotency_key=key
                )
                return run.id

            with pytest.raises(StoreUnavailableError):
                await submit()
            assert proxy.has_swallowed, "no answer was lost"
            again = await submit() if key is not None else None
    (accepted,) = await faulty_client.runs(conversation_id=conversation)
    assert again in (None, accepted.id)
    run = faulty_client.run(accepted.id)
    assert (await run.result(timeout_s=RESULT_S)).status is RunStatus.COMPLETED
    assert (await run.get()).attempts == 1
    assert started(faulty.traces) == ["a"]


def digest(folder: str, name: str) -> bytes:
    """How a request names the script that it calls."""
    return sha1(script_source(folder, name).encode(), usedforsecurity=False).hexdigest().encode()


def check_whole(messages: list[Message], run_id: str) -> None:
    """Assert that the run's messages are complete, in order, and without repetition."""
    own = [message for message in messages if message.run_id == run_id]
    assert [message.position for message in own] == list(range(LENGTH))
    assert len({message.id for message in own}) == LENGTH
    results = [message.text for message in own if message.role == "tool"]
    assert sorted(results) == ["noted a", "noted b", "waited for gate"]


async def stored(client: AsyncAgentClient, conversation_id: str, count: int) -> bool:
    return len(await client.history(conversation_id)) >= count
