"""Processes of their own that use a conversation, for tests of what holds between processes.

They are forked from a server that has loaded everything, so that one more takes milliseconds.
"""

import asyncio
import multiprocessing
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import count
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, ForkServerProcess
from typing import Any, Final

from shared.conversation.local import disk
from shared.conversation.protocol import ConversationStore, Writer
from shared.conversation.url import conversation_from_url
from shared.errors import FencedError
from shared.message import Message, user_draft
from shared.testing.conversation.value import imported

BATCH: Final = 3
READY: Final = "ready"

Work = Callable[[ConversationStore, str, Connection, dict[str, Any]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class ConversationProcess:
    """A process that works on a conversation and tells of it."""

    process: ForkServerProcess
    told: Connection

    def listen(self, timeout_s: float = 20) -> Any:
        """What it says next; None once it has nothing more to say."""
        if not self.told.poll(timeout_s):
            raise AssertionError(f"{self.process.name} said nothing for {timeout_s:g} s")
        try:
            return self.told.recv()
        except EOFError:
            return None

    def listen_to_the_end(self) -> list[Any]:
        """Everything that it still has to say."""
        return list(iter(self.listen, None))

    def kill(self) -> None:
        """Kill it where it stands (SIGKILL)."""
        self.process.kill()
        self.process.join()


@contextmanager
def working(work: Work, url: str, name: str, **given: Any) -> Iterator[ConversationProcess]:
    """A process that does `work` on the conversation `name` of the store at `url`."""
    told, telling = _context().Pipe(duplex=False)
    process = _context().Process(target=_work, args=(work, url, name, telling, given), daemon=True)
    process.start()
    telling.close()
    try:
        yield ConversationProcess(process, told)
    finally:
        process.kill()
        process.join()
        process.close()
        told.close()


async def write_run(
    store: ConversationStore, name: str, telling: Connection, given: dict[str, Any]
) -> None:
    """Go on with a run, batch by batch, for ever; tell the next position after each."""
    writer = Writer(given["run_id"], given["token"])
    claim = await store.claim(name, writer, limit=0)
    telling.send(claim.next_position)
    for start in count(claim.next_position, BATCH):
        await store.append(name, batch_of(writer.run_id, start, given["size"]), writer=writer)
        telling.send(start + BATCH)


async def write_run_and_die(
    store: ConversationStore, name: str, telling: Connection, given: dict[str, Any]
) -> None:
    """As `write_run`, and be killed (SIGKILL) at a certain step of a write to a file.

    A step is a piece of what is written, as the system may take it, or the wait for the disk.
    """
    steps_left: int = given["steps"]
    pwrite, sync = os.pwrite, disk._sync

    def step() -> None:
        nonlocal steps_left
        steps_left -= 1
        if steps_left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def write_a_piece(fd: int, content: memoryview, offset: int) -> int:
        step()
        return pwrite(fd, content[: given["piece"]], offset)

    def sync_and_step(fd: int) -> None:
        step()
        sync(fd)
        step()

    os.pwrite = write_a_piece  # type: ignore[assignment]  # in this process alone
    disk._sync = sync_and_step
    await write_run(store, name, telling, given)


async def bring_in(
    store: ConversationStore, name: str, telling: Connection, given: dict[str, Any]
) -> None:
    """Import batches of messages that say who brought them."""
    for number in range(given["batches"]):
        batch = [imported(f"{given['label']}.{number}.{part}") for part in range(BATCH)]
        telling.send(await store.append(name, batch))


async def repeat_run(
    store: ConversationStore, name: str, telling: Connection, given: dict[str, Any]
) -> None:
    """Write a run whose messages others write at the same time; tell all cursors."""
    writer = Writer(given["run_id"], 1)
    for start in range(0, given["messages"], BATCH):
        telling.send(await store.append(name, batch_of(writer.run_id, start, 1), writer=writer))


async def write_until_fenced(
    store: ConversationStore, name: str, telling: Connection, given: dict[str, Any]
) -> None:
    """Claim, write one message after the other until a newer writer is there; tell how many."""
    writer, written = Writer(given["run_id"], given["token"]), 0
    try:
        await store.claim(name, writer, limit=0)
        while written < given["messages"]:
            await store.append(name, batch_of(writer.run_id, written, 1)[:1], writer=writer)
            written += 1
    except FencedError:
        pass
    telling.send(written)


async def append_when_told(
    store: ConversationStore, name: str, telling: Connection, given: dict[str, Any]
) -> None:
    """Append one message each time something comes in over the connection given."""
    telling.send(READY)
    orders: Connection = given["orders"]
    while await asyncio.to_thread(orders.recv):
        await store.append(name, [imported("x")])


def batch_of(run_id: str, start: int, size: int) -> list[Message]:
    """A batch of a run's messages, each with so many characters."""
    return [
        Message.from_draft(user_draft("x" * size), run_id=run_id, position=position)
        for position in range(start, start + BATCH)
    ]


def _work(work: Work, url: str, name: str, telling: Connection, given: dict[str, Any]) -> None:
    async def run() -> None:
        store = conversation_from_url(url)
        await work(store, name, telling, given)
        await store.aclose()

    asyncio.run(run())


@cache
def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        [__name__, "shared.conversation.file", "shared.conversation.sqlite"]
    )
    return context
