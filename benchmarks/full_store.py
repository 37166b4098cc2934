"""Filling a store with conversations: by its own script, so in its own layout.

Long ones are appended. Very many small ones would take minutes that way, so the store's command is
overheard once for each partition, and sent again with the name of each conversation in it.
"""

import asyncio
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from benchmarks.redis_account import Account
from shared.conversation.protocol import ConversationStore
from shared.embedded_redis import EmbeddedRedis
from shared.identifier import PARTITIONS, new_run_id, partition_of
from shared.message import Message, user_draft
from shared.redis_backend import open_redis_conversations
from shared.settings import Settings
from tests.network import Proxy

TEXT: Final = ("Find a hotel in Rome for three, near the station, with breakfast. " * 3)[:200]

SMALL: Final = 2
"""Messages of a small conversation."""

_PER_RUN: Final = 4
_AT_ONCE: Final = 400
_CHUNK: Final = 1_000


def messages_for(conversation: str, count: int) -> list[Message]:
    """So many messages of 200 characters; four for each run."""
    partition = partition_of(conversation)
    runs = [new_run_id(partition) for _ in range(-(-count // _PER_RUN))]
    return [
        Message.from_draft(
            user_draft(TEXT), run_id=runs[number // _PER_RUN], position=number % _PER_RUN
        )
        for number in range(count)
    ]


async def fill_long(store: ConversationStore, conversation: str, messages: int) -> None:
    """Append so many messages."""
    new = messages_for(conversation, messages)
    for start in range(0, messages, _AT_ONCE):
        await store.append(conversation, new[start : start + _AT_ONCE])


async def fill_with_small(redis: EmbeddedRedis, conversations: int, *, limit_s: float) -> int:
    """Add small conversations; return how many there was time for."""
    templates = await _overhear_appends(redis)
    return await asyncio.to_thread(_send_all, redis.port, templates, conversations, limit_s)


def _name(number: int) -> str:
    return f"small-{number:08d}"


async def _overhear_appends(redis: EmbeddedRedis) -> Mapping[int, tuple[bytes, bytes]]:
    """By partition: a conversation's name, and the command that filled it."""
    account = Account()
    heard: dict[int, tuple[bytes, bytes]] = {}
    number = 0
    with Proxy(redis.port, ear=account) as proxy:
        store = open_redis_conversations(f"redis://{proxy.address}/0", Settings())
        while len(heard) < PARTITIONS:
            # Above all others, so that none is filled twice; two appends, as the first one of all
            # sends the script in full.
            name = _name(10_000_000 + number)
            for _ in range(2):
                await store.append(name, messages_for(name, SMALL))
            heard[partition_of(name)] = name.encode(), _packed(account.commands[-1].words)
            number += 1
        await store.aclose()
    return heard


def _packed(words: Sequence[bytes]) -> bytes:
    lines = [b"*%d" % len(words)]
    for word in words:
        lines += [b"$%d" % len(word), word]
    return b"\r\n".join([*lines, b""])


def _send_all(
    port: int, templates: Mapping[int, tuple[bytes, bytes]], conversations: int, limit_s: float
) -> int:
    """Send without waiting for answers; one at the end says that all was done."""
    deadline = time.monotonic() + limit_s
    sent = 0
    with socket.create_connection(("127.0.0.1", port)) as pipe:
        pipe.sendall(b"CLIENT REPLY OFF\r\n")
        while sent < conversations and time.monotonic() < deadline:
            upto = min(conversations, sent + _CHUNK)
            pipe.sendall(b"".join(_appends(templates, range(sent, upto))))
            sent = upto
        pipe.sendall(b"CLIENT REPLY ON\r\n")
        answer = pipe.recv(64)
        assert answer == b"+OK\r\n", answer
    return sent


def _appends(templates: Mapping[int, tuple[bytes, bytes]], numbers: range) -> Iterator[bytes]:
    for number in numbers:
        name = _name(number)
        known, command = templates[partition_of(name)]
        yield command.replace(known, name.encode())
