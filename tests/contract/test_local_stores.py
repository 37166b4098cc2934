"""What the stores on disk guarantee between the threads and processes of one machine."""

import asyncio
import random
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import ExitStack
from multiprocessing import Pipe
from pathlib import Path

import pytest

from shared.backend import Backend
from shared.conversation.protocol import ConversationStore, Writer
from shared.conversation.url import conversation_from_url
from shared.errors import FencedError, StoreUnavailableError
from shared.memory_backend import build_memory_backend
from shared.settings import Settings
from shared.testing.conversation.value import conversation_name, imported, messages, run_name
from tests.contract.notification import NotificationsContract
from tests.conversation_process import (
    BATCH,
    READY,
    append_when_told,
    bring_in,
    repeat_run,
    working,
    write_run,
    write_run_and_die,
    write_until_fenced,
)

KILLS = 15
PROCESSES = 4


@pytest.fixture(params=["file", "sqlite"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A new and empty place."""
    return (
        f"file://{tmp_path}/chats" if request.param == "file" else f"sqlite:///{tmp_path}/chat.db"
    )


@pytest.fixture
async def store(url: str) -> AsyncIterator[ConversationStore]:
    store = conversation_from_url(url)
    yield store
    await store.aclose()


class TestNotifications(NotificationsContract):
    """See `NotificationsContract`; elsewhere is another store over the same files."""

    @pytest.fixture
    async def backend(self, url: str) -> AsyncIterator[Backend]:
        backend = build_memory_backend(Settings()).with_conversations(conversation_from_url(url))
        yield backend
        await backend.aclose()

    @pytest.fixture
    async def elsewhere(self, backend: Backend, store: ConversationStore) -> Backend:
        return backend.with_conversations(store)


async def test_a_killed_process_loses_nothing_that_was_acknowledged_and_tears_nothing(
    url: str,
) -> None:
    """SIGKILL at any moment of a write: batches are there whole or not at all, none is missing."""
    name, run_id, acknowledged = conversation_name(), run_name(), 0
    for token in range(1, KILLS + 1):
        # Small and large batches: a large one takes the system several steps to write.
        size = 10 if token % 3 == 0 else 300_000
        with working(write_run, url, name, run_id=run_id, token=token, size=size) as process:
            assert process.listen() >= acknowledged, "the next one goes on behind all of it"
            process.listen()
            await asyncio.sleep(random.uniform(0, 0.02))
            process.kill()
            acknowledged = [acknowledged, *process.listen_to_the_end()][-1]
        store = conversation_from_url(url)
        positions = [each.position for each in await store.list_messages(name, run_id=run_id)]
        assert positions == list(range(len(positions)))
        assert len(positions) % BATCH == 0
        assert len(positions) >= acknowledged
        assert await store.count(name) == len(positions)
        await store.aclose()


async def test_a_process_that_is_killed_in_the_middle_of_a_file_tears_nothing(
    tmp_path: Path,
) -> None:
    """Before and after each piece of a batch, its commit and each wait for the disk."""
    url, name, run_id, acknowledged = f"file://{tmp_path}/chats", conversation_name(), run_name(), 0
    given = {"run_id": run_id, "size": 300, "piece": 150}
    for token, steps in enumerate([*range(16), 25, 40], 1):
        with working(write_run_and_die, url, name, token=token, steps=steps, **given) as process:
            acknowledged = [acknowledged, *process.listen_to_the_end()][-1]
        store = conversation_from_url(url)
        positions = [each.position for each in await store.list_messages(name, run_id=run_id)]
        assert positions == list(range(len(positions)))
        assert len(positions) % BATCH == 0
        assert len(positions) >= acknowledged
        await store.aclose()
    assert acknowledged > 0


async def test_batches_of_several_processes_stay_whole(url: str, store: ConversationStore) -> None:
    """All are there, each in one piece, and those of one process in its order."""
    name, batches = conversation_name(), 40
    labels = [f"process-{number}" for number in range(PROCESSES)]
    with ExitStack() as stack:
        processes = [
            stack.enter_context(working(bring_in, url, name, label=label, batches=batches))
            for label in labels
        ]
        own = [
            await store.append(name, [imported(f"me.{n}.{p}") for p in range(BATCH)])
            for n in range(batches)
        ]
        cursors = {
            label: process.listen_to_the_end()
            for label, process in zip(labels, processes, strict=True)
        }
    cursors["me"] = own
    stored = await store.list_messages(name)
    assert len(stored) == (PROCESSES + 1) * batches * BATCH
    for start in range(0, len(stored), BATCH):
        assert len({each.text.rpartition(".")[0] for each in stored[start : start + BATCH]}) == 1
    for label, answers in cursors.items():
        written = [each for each in stored if each.text.startswith(f"{label}.")]
        assert [each.text for each in written] == [
            f"{label}.{number}.{part}" for number in range(batches) for part in range(BATCH)
        ]
        assert [each.cursor for each in written] == [each for answer in answers for each in answer]


async def test_repetitions_by_several_processes_are_stored_once(
    url: str, store: ConversationStore
) -> None:
    """Whoever is first, everybody is given the same cursors."""
    name, run_id, total = conversation_name(), run_name(), 90
    with ExitStack() as stack:
        processes = [
            stack.enter_context(working(repeat_run, url, name, run_id=run_id, messages=total))
            for _ in range(PROCESSES)
        ]
        answers = [process.listen_to_the_end() for process in processes]
    stored = await store.list_messages(name)
    assert [each.position for each in stored] == list(range(total))
    for answer in answers:
        assert [cursor for cursors in answer for cursor in cursors] == [
            each.cursor for each in stored
        ]


async def test_between_processes_the_newest_writer_is_the_only_one(
    url: str, store: ConversationStore
) -> None:
    """Of whoever is fenced off, nothing follows a message of somebody newer."""
    name = conversation_name()
    runs = {run_name(): token for token in range(1, PROCESSES + 1)}
    with ExitStack() as stack:
        processes = {
            run_id: stack.enter_context(
                working(write_until_fenced, url, name, run_id=run_id, token=token, messages=200)
            )
            for run_id, token in runs.items()
        }
        written = {run_id: process.listen() for run_id, process in processes.items()}
    stored = await store.list_messages(name)
    assert [runs[each.run_id or ""] for each in stored] == sorted(
        runs[each.run_id or ""] for each in stored
    )
    counts = Counter(each.run_id for each in stored)
    assert {run_id: counts[run_id] for run_id in runs} == written
    newest = max(runs, key=runs.__getitem__)
    assert written[newest] == 200


async def test_a_watcher_hears_of_another_process_soon(url: str, store: ConversationStore) -> None:
    """By the look of every 50 ms, not by that of every 15 s which watchers take without a hint."""
    name = conversation_name()
    orders, ordering = Pipe(duplex=False)
    delays: list[float] = []
    with working(append_when_told, url, name, orders=orders) as process:
        assert await asyncio.to_thread(process.listen) == READY
        async with store.notifications.subscribe(store.topic(name)) as hints:
            for number in range(1, 11):
                while await hints.wait(0.15):
                    pass
                started = time.monotonic()
                ordering.send(number)
                while await store.count(name) < number:
                    assert await hints.wait(5)
                delays.append(time.monotonic() - started)
    assert sorted(delays)[len(delays) // 2] < 0.5, delays


async def test_nobody_looks_while_nobody_watches(store: ConversationStore) -> None:
    """The thread that looks begins with the first watcher and ends with the last."""
    name = conversation_name()

    def is_looking() -> bool:
        return any(thread.name == "conversations:lookout" for thread in threading.enumerate())

    await store.append(name, [imported("x")])
    assert not is_looking()
    async with store.notifications.subscribe(store.topic(name)):
        assert is_looking()
    deadline = time.monotonic() + 5
    while is_looking():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def test_one_store_serves_threads_with_event_loops_of_their_own(
    store: ConversationStore,
) -> None:
    """Appends, reads and watches from four loops at once; all messages arrive at all watchers."""
    name, total = conversation_name(), 20
    failures: list[BaseException] = []

    async def take_part(label: str) -> None:
        async with store.notifications.subscribe(store.topic(name)) as hints:
            for number in range(total):
                await store.append(name, [imported(f"{label}.{number}")])
            while await store.count(name) < total * PROCESSES:
                assert await hints.wait(10)

    def run(label: str) -> None:
        try:
            asyncio.run(take_part(label))
        except BaseException as error:  # noqa: BLE001 - told below
            failures.append(error)

    threads = [threading.Thread(target=run, args=(str(n),)) for n in range(PROCESSES)]
    for thread in threads:
        thread.start()
    for thread in threads:
        await asyncio.to_thread(thread.join)
    assert failures == []
    stored = [each.text for each in await store.list_messages(name)]
    assert Counter(stored) == Counter(f"{t}.{n}" for t in range(PROCESSES) for n in range(total))


async def test_what_is_cancelled_is_done_whole_or_not_at_all(
    url: str, store: ConversationStore
) -> None:
    """Appends that are cancelled at any moment leave whole batches and a store that goes on."""
    name = conversation_name()
    for number in range(60):
        batch = [imported(f"{number}.{part}") for part in range(BATCH)]
        task = asyncio.create_task(store.append(name, batch))
        await asyncio.sleep(random.uniform(0, 0.003))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await store.append(name, [imported("last")])
    await store.aclose()  # what had begun has ended
    again = conversation_from_url(url)
    stored = [each.text for each in await again.list_messages(name)]
    assert stored.count("last") == 1
    batches = Counter(text.partition(".")[0] for text in stored if text != "last")
    assert set(batches.values()) <= {BATCH}
    await again.aclose()


async def test_a_fence_survives_the_process(url: str) -> None:
    """A claim is durable when it returns: a store that is opened later refuses older tokens."""
    name, run_id = conversation_name(), run_name()
    first = conversation_from_url(url)
    await first.append(name, messages(run_id, [0]), writer=Writer(run_id, 1))
    await first.claim(name, Writer(run_id, 7), limit=0)
    await first.aclose()
    second = conversation_from_url(url)
    with pytest.raises(FencedError):
        await second.append(name, messages(run_id, [1]), writer=Writer(run_id, 6))
    await second.append(name, messages(run_id, [1]), writer=Writer(run_id, 7))
    await second.aclose()


async def test_a_store_that_is_closed_says_so(store: ConversationStore) -> None:
    """Closing twice is harmless; what comes later is refused with an error of this project."""
    await store.append(conversation_name(), [imported("x")])
    await store.aclose()
    await store.aclose()
    with pytest.raises(StoreUnavailableError, match="closed"):
        await store.list_messages(conversation_name())
    with pytest.raises(StoreUnavailableError, match="closed"):
        await store.append(conversation_name(), [imported("x")])
