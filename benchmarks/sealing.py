"""What compression and encryption cost: bytes and time for each message of recorded conversations.

    python -m benchmarks.sealing FILE.jsonl [FILE.jsonl ...] [--rounds 5]

Each conversation is appended to a store in memory, which keeps messages encoded as Redis does, and
read again, message by message compared. Times are those of the process (CPU), the best of all
rounds; the row without wrappers is what encoding and decoding alone take.
"""

import argparse
import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from shared.conversation.memory import MemoryConversationStore
from shared.conversation.protocol import ConversationStore
from shared.encryption_key import EncryptionKey
from shared.message import Message
from shared.notification.memory import MemoryNotifications
from shared.openai_chat import from_openai
from shared.sealing.compressed import CompressedConversations
from shared.sealing.encrypted import EncryptedConversations
from shared.sealing.guard import GuardedConversations
from shared.sealing.key_ring import KeyRing
from tests.model_server import load_recordings

KEYS: Final = KeyRing([EncryptionKey("2026-11", bytes(range(32)))])
MAX_BYTES: Final = 8_000_000

Wrap = Callable[[ConversationStore], ConversationStore]


def _compressed(store: ConversationStore) -> CompressedConversations:
    return CompressedConversations(store, max_bytes=MAX_BYTES)


WRAPPED: Final[dict[str, Wrap]] = {
    "as it is": GuardedConversations,
    "zstd": lambda store: GuardedConversations(_compressed(store)),
    "AES-256-GCM": lambda store: GuardedConversations(EncryptedConversations(store, KEYS)),
    "zstd and AES-256-GCM": lambda store: GuardedConversations(
        _compressed(EncryptedConversations(store, KEYS))
    ),
}


@dataclass
class Cost:
    """Of all messages together."""

    stored_bytes: int = 0
    write_s: float = 0.0
    read_s: float = 0.0


def load(files: Sequence[Path]) -> dict[str, list[Message]]:
    """The conversations, with an id for each."""
    conversations = {}
    for file in files:
        for recording in load_recordings(file):
            name = f"{file.stem}:{recording.id}"
            conversations[name] = [
                Message.from_draft(draft, run_id=name, position=position)
                for position, draft in enumerate(from_openai(recording.replayable))
            ]
    return conversations


async def measure(conversations: dict[str, list[Message]], wrap: Wrap) -> Cost:
    """Write all conversations, read them, compare them."""
    below = MemoryConversationStore(MemoryNotifications())
    store, cost = wrap(below), Cost()
    start = time.process_time()
    for name, messages in conversations.items():
        for message in messages:
            await store.append(name, [message])
    cost.write_s = time.process_time() - start
    start = time.process_time()
    read = {name: await store.list_messages(name) for name in conversations}
    cost.read_s = time.process_time() - start
    for name, messages in conversations.items():
        again = [message.model_copy(update={"cursor": None}) for message in read[name]]
        assert again == messages, name
        stored = await below.list_messages(name)
        cost.stored_bytes += sum(len(message.model_dump_json().encode()) for message in stored)
    return cost


async def run(files: Sequence[Path], rounds: int) -> None:
    """Measure each way to store and print what it costs."""
    conversations = load(files)
    count = sum(len(messages) for messages in conversations.values())
    table = Table("stored", "bytes a message", "of the plain size", "write (us)", "read (us)")
    plain = 0
    for name, wrap in WRAPPED.items():
        costs = [await measure(conversations, wrap) for _ in range(rounds)]
        size = costs[0].stored_bytes
        plain = plain or size
        table.add_row(
            name,
            f"{size / count:.0f}",
            f"{size / plain:.2f}",
            f"{min(cost.write_s for cost in costs) / count * 1e6:.0f}",
            f"{min(cost.read_s for cost in costs) / count * 1e6:.0f}",
        )
    console = Console()
    console.print(f"{len(conversations)} conversations, {count} messages")
    console.print(table)


def main() -> None:
    """See the top of this file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sealing")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE.jsonl")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    asyncio.run(run(given.files, given.rounds))


if __name__ == "__main__":
    main()
