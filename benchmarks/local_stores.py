"""What one call of a local store costs, in a short conversation and in a long one.

    python -m benchmarks.local_stores --lengths 1000 100000

All calls wait for the disk as they do in earnest. "First" is the first call of a process.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final

from shared.conversation.file import FileConversationStore
from shared.conversation.protocol import ConversationStore, Writer
from shared.conversation.sqlite import SqliteConversationStore
from shared.identifier import new_run_id
from shared.message import Message, user_draft

NAME: Final = "chat:ada"
RUN_LENGTH: Final = 10
STORES: Final[dict[str, Callable[[Path], ConversationStore]]] = {
    "file": FileConversationStore,
    "sqlite": SqliteConversationStore,
}


def messages(run_id: str, positions: Sequence[int]) -> list[Message]:
    draft = user_draft("x" * 300)
    return [Message.from_draft(draft, run_id=run_id, position=position) for position in positions]


async def fill(store: ConversationStore, length: int) -> None:
    for start in range(0, length, 1000):
        runs = [new_run_id(0) for _ in range(start, min(start + 1000, length), RUN_LENGTH)]
        await store.append(NAME, [m for run in runs for m in messages(run, range(RUN_LENGTH))])


async def measure(name: str, call: Callable[[int], Awaitable[Any]], times: int) -> None:
    taken_ms = []
    for number in range(times):
        started = time.perf_counter()
        await call(number)
        taken_ms.append((time.perf_counter() - started) * 1000)
    median = statistics.median(taken_ms[1:])
    print(f"    {name:22} first {taken_ms[0]:8.2f} ms   median {median:8.2f} ms")


async def run(kind: str, length: int, times: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "chats"
        store = STORES[kind](place)
        await fill(store, length)
        await store.aclose()
        print(f"{kind}, {length:,} messages")
        store = STORES[kind](place)
        runs = [new_run_id(0) for _ in range(times)]
        last = Writer(runs[-1], times)
        await measure("newest 20", lambda _: store.list_messages(NAME, limit=20), times)
        await measure(
            "claim of a new run",
            lambda n: store.claim(NAME, Writer(runs[n], n + 1), limit=19),
            times,
        )
        await measure(
            "append",
            lambda n: store.append(NAME, messages(last.run_id, [n]), writer=last),
            times,
        )
        newest = await store.list_messages(NAME, limit=times)
        after = newest[-1].cursor
        await measure("behind a cursor", lambda _: store.list_messages(NAME, after=after), times)
        await measure("count", lambda _: store.count(NAME), times)
        await measure("remove", lambda n: store.remove(NAME, newest[n].cursor or ""), 5)
        await store.aclose()


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lengths", type=int, nargs="+", default=[1000, 100_000])
    parser.add_argument("--times", type=int, default=50)
    given = parser.parse_args()
    for kind in STORES:
        for length in given.lengths:
            await run(kind, length, given.times)


if __name__ == "__main__":
    asyncio.run(main())
