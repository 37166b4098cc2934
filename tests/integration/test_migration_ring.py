"""Around the ring of all stores: what comes back is what went away, to the last byte."""

import asyncio
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Final
from uuid import uuid4

import pytest
from anyio.from_thread import start_blocking_portal
from hypothesis import HealthCheck, given, settings

from shared.conversation.protocol import ConversationStore
from shared.conversation.url import conversation_from_url
from shared.message import Message
from shared.settings import Settings
from shared.transfer.digest import StoreDigest, digest_of
from shared.transfer.migration import migrate
from shared.transfer.value import TransferOptions
from tests.contract.conftest import redis_server  # noqa: F401 - a fixture
from tests.contract.stores import STORES
from tests.contract.stores.harness import StoreHarness
from tests.integration.conversation_values import (
    Runs,
    random_imports,
    random_runs,
    recorded_conversations,
    write,
)
from tests.model_server.requirement import require_recordings
from tests.services import RedisServer

pytestmark = pytest.mark.integration

RING: Final = (
    "memory",
    "file",
    "sqlite",
    "redis",
    "postgres",
    "redis-zstd-aes",
    "memory",
)
"""The kinds of stores, in the order in which conversations go through them."""

EXAMPLES: Final = 40

Ring = list[ConversationStore]


@asynccontextmanager
async def opened_ring(request: pytest.FixtureRequest) -> AsyncIterator[Ring]:
    """A new and empty store of each kind."""
    async with AsyncExitStack() as stack:
        stores = []
        for name in RING:
            harness: StoreHarness = STORES[name].open(request)
            stack.push_async_callback(harness.aclose)
            stores.append(await harness.open())
        yield stores


async def digest_of_store(store: ConversationStore) -> str:
    """Of all conversations, read at once and not as a migration reads them."""
    total = StoreDigest()
    async for name in store.conversation_ids():
        total.add(name, digest_of(await store.list_messages(name)))
    return total.hex()


async def test_all_recordings_go_around_the_ring(request: pytest.FixtureRequest) -> None:
    """160 conversations with their runs: equal digests at each stop, and equal messages at the end.

    Each migration writes all of it, and a second one finds nothing to do.
    """
    folder = require_recordings()
    async with opened_ring(request) as ring:
        for name, runs in recorded_conversations(folder):
            await write(ring[0], name, runs)
        digest = await digest_of_store(ring[0])
        for source, target in pairwise(ring):
            report = await migrate(source, target)
            assert report.is_complete
            assert (report.conversations, report.digest) == (160, digest)
            assert report.written == report.messages
            again = await migrate(source, target, options=TransferOptions(verify_only=True))
            assert (again.conversations, again.written, again.digest) == (160, 0, digest)
            assert await digest_of_store(target) == digest
        async for name in ring[0].conversation_ids():
            before, after = [await store.list_messages(name) for store in (ring[0], ring[-1])]
            assert [each.at("") for each in after] == [each.at("") for each in before]


def test_random_conversations_go_around_the_ring(request: pytest.FixtureRequest) -> None:
    """With every kind of message and part, engine data, numbers without end, any text."""
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(opened_ring(request)) as ring,
    ):

        @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[*HealthCheck])
        @given(random_runs, random_imports)
        def go_around(runs: Runs, imports: list[Message]) -> None:
            portal.call(_go_around, ring, runs, imports)

        go_around()


async def _go_around(ring: Ring, runs: Runs, imports: list[Message]) -> None:
    name = f"web:{uuid4().hex}"
    await ring[0].append(name, imports)
    await write(ring[0], name, runs)
    before = await ring[0].list_messages(name)
    options = TransferOptions(page_size=3, batch_bytes=500)
    for source, target in pairwise(ring):
        report = await migrate(source, target, [name], options=options)
        assert not report.failures
        assert digest_of(await target.list_messages(name)) == digest_of(before)
    after = await ring[-1].list_messages(name)
    assert [each.at("") for each in after] == [each.at("") for each in before]


@pytest.fixture
def redis_urls(redis_server: RedisServer) -> tuple[str, str]:  # noqa: F811 - the fixture
    """Two databases of one server."""
    place = f"redis://127.0.0.1:{redis_server.port}"
    return f"{place}/0", f"{place}/1"


@pytest.mark.slow
@pytest.mark.parametrize("kinds", ["redis to redis", "sqlite to file", "redis to sqlite"])
def test_killed_again_and_again_a_migration_ends_complete(
    kinds: str, redis_urls: tuple[str, str], tmp_path: Path
) -> None:
    """SIGKILL in the middle of its writes, again and again; then it is let run.

    Nothing is there twice, nothing is missing, and the source is as it was.
    """
    urls = {
        "redis to redis": redis_urls,
        "sqlite to file": (f"sqlite:///{tmp_path / 'a.db'}", f"file://{tmp_path / 'chats'}"),
        "redis to sqlite": (redis_urls[0], f"sqlite:///{tmp_path / 'b.db'}"),
    }[kinds]
    prefix = f"test-{uuid4().hex}"
    before = asyncio.run(_fill(urls[0], prefix))
    kills = 0
    for round_number in range(4):
        process = _start(urls, prefix)
        goal = asyncio.run(_count(urls[1], prefix)) + random.randint(1, 250)
        while process.poll() is None and asyncio.run(_count(urls[1], prefix)) < goal:
            pass
        kills += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert round_number < 2 or kills, "it was through before it could be killed"
    assert kills >= 2
    finished = _start(urls, prefix)
    output, errors = finished.communicate(timeout=100)
    assert finished.returncode == 0, errors
    assert dict(line.split("\t") for line in output.splitlines())["digest"] == before
    for url in urls:
        assert asyncio.run(_digest(url, prefix)) == before


def _start(urls: tuple[str, str], prefix: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "agent_client.cli", "migrate", *urls),
            *("--all", "--ignore-runs", "--concurrency", "3"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={"AGENTS_KEY_PREFIX": prefix, "PATH": ""},
    )


def _open(url: str, prefix: str) -> ConversationStore:
    return conversation_from_url(url, Settings(key_prefix=prefix))


async def _fill(url: str, prefix: str) -> str:
    """Conversations of many lengths, those of more than a page among them."""
    store = _open(url, prefix)
    for number in range(40):
        for start in range(0, 10 * number, 50):
            texts = [
                Message(id=uuid4().hex, role="user", content=f"{number}.{place} " * 20)  # type: ignore[arg-type]
                for place in range(start, min(10 * number, start + 50))
            ]
            await store.append(f"web:{number}", texts)
    digest = await digest_of_store(store)
    await store.aclose()
    return digest


async def _count(url: str, prefix: str) -> int:
    store = _open(url, prefix)
    names = [name async for name in store.conversation_ids()]
    counted = sum([await store.count(name) for name in names])
    await store.aclose()
    return counted


async def _digest(url: str, prefix: str) -> str:
    store = _open(url, prefix)
    digest = await digest_of_store(store)
    await store.aclose()
    return digest
