"""Whether what a conversation costs grows: with its messages, or with how many others there are."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from itertools import count, cycle, islice
from typing import Final

from redis.asyncio import Redis

from benchmarks.full_store import SMALL, TEXT, fill_long, fill_with_small
from benchmarks.quantile import quantile
from benchmarks.suite.measured import Condition, Lines, Measured, Row
from benchmarks.suite.stage import Stage
from shared.conversation.protocol import ConversationStore, Writer
from shared.embedded_redis import EmbeddedRedis
from shared.identifier import new_run_id, partition_of
from shared.message import Message, user_draft
from shared.redis_backend import open_redis_conversations
from shared.redis_keys import Keys
from shared.settings import Settings

NAME: Final = "growth"
TITLE: Final = "Costs of a conversation as it, and the store, grow"

_MESSAGES: Final = (10, 1_000, 100_000)
_CONVERSATIONS: Final = (1, 10_000, 1_000_000)
_FREE_GIB: Final = 8
_FEWER: Final = 100_000
_FIRST_MESSAGES: Final = 10
_WINDOW: Final = 10
_FILL_S: Final = 60.0
_OPERATIONS: Final = ("append", "window", "look")
_EXPLANATION: Final = f"""
*Append* stores one message of {len(TEXT)} characters, *window* claims the conversation for a run
and reads its last {_WINDOW} messages, *look* reads what is behind the last message but one, as a
watcher does after each hint. Each is the median of many, as the caller sees it, round trip and
decoding included; *in server* is the mean within Redis, by its own count. Every size has a Redis
of its own, without an append-only file, whose cost depends on no size. The longer conversation is
the only one in its store (there are several of the shortest, so that appending does not make them
longer by much); among more conversations, those measured have {_FIRST_MESSAGES} messages and all
others {SMALL}. `times first` is the largest of the three medians' ratios to the first row of the
same kind; the goal is 1.2 at most. Memory is what Redis says, for the stream alone and for all
that is kept of a conversation; Redis reserves 4 KiB for each stream, however short. Where less
than {_FREE_GIB} GiB of memory are free, the most conversations are {_FEWER:,}.
"""


def measure(stage: Stage) -> Measured:
    """One size after the other, each in a new Redis."""
    repetitions = stage.choose(500, quick=20)
    longer, more = [], []
    for messages in stage.track(stage.choose(_MESSAGES, quick=(10, 100)), _said("messages")):
        with stage.redis({"appendonly": "no"}) as redis:
            longer.append(asyncio.run(_longer(redis, messages, repetitions)))
    for conversations in stage.track(_conversations(stage), _said("conversations")):
        with stage.redis({"appendonly": "no"}) as redis:
            more.append(asyncio.run(_more(redis, conversations, repetitions)))
    rows = tuple(_with_ratio(row, longer[0]) for row in longer)
    rows += tuple(_with_ratio(row, more[0]) for row in more)
    plots = tuple(
        Lines(f"Costs with more {what}", what, tuple(f"{each}_us" for each in _OPERATIONS), "µs")
        for what in ("messages", "conversations")
    )
    return Measured(rows, plots=plots, explanation=_EXPLANATION.strip())


def _conversations(stage: Stage) -> tuple[int, ...]:
    free_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES") / 2**30
    *fewer, most = stage.choose(_CONVERSATIONS, quick=(1, 100))
    return (*fewer, most if free_gib >= _FREE_GIB else min(most, _FEWER))


def _said(what: str) -> Callable[[int], str]:
    return lambda number: f"{number:,} {what}"


async def _longer(server: EmbeddedRedis, messages: int, repetitions: int) -> Row:
    # Shorter ones get an append each, or they would not stay short.
    names = [f"long-{number}" for number in range(max(1, repetitions * 10 // messages))]
    async with Redis.from_url(server.url, decode_responses=True) as redis:
        store = _open(server)
        for name in names:
            await fill_long(store, name, messages)
        memory = await _bytes_per_message(redis, names[0], messages)
        costs = await _costs(redis, store, names, repetitions)
        await store.aclose()
    return Row("longer conversation", {"messages": messages}, {**costs, **memory})


async def _more(server: EmbeddedRedis, conversations: int, repetitions: int) -> Row:
    names = [f"here-{number}" for number in range(min(conversations, repetitions))]
    async with Redis.from_url(server.url, decode_responses=True) as redis:
        store = _open(server)
        for name in names:
            await fill_long(store, name, _FIRST_MESSAGES)
        before = await _used_bytes(redis)
        others = await fill_with_small(server, conversations - len(names), limit_s=_FILL_S)
        figures = await _costs(redis, store, names, repetitions)
        if others:
            figures["bytes_per_conversation"] = (await _used_bytes(redis) - before) / others
        await store.aclose()
    conditions: dict[str, Condition] = {"conversations": len(names) + others}
    note = "" if len(names) + others == conversations else f"as many as took {_FILL_S:g} s to fill"
    return Row("more conversations", conditions, figures, note)


def _open(server: EmbeddedRedis) -> ConversationStore:
    return open_redis_conversations(server.url, Settings())


async def _costs(
    redis: Redis, store: ConversationStore, names: Sequence[str], repetitions: int
) -> dict[str, float]:
    """Microseconds of each operation, done so many times, on all conversations in turn."""
    turns = [*islice(cycle(names), repetitions)]
    writers = [
        Writer(new_run_id(partition_of(name)), token) for name, token in zip(turns, count(1))
    ]
    last = dict(zip(turns, writers, strict=True))
    claims = [
        partial(store.claim, name, writer, limit=_WINDOW)
        for name, writer in zip(turns, writers, strict=True)
    ]
    positions = dict.fromkeys(names, 0)
    appends = []
    for name in turns:
        draft, run_id = user_draft(TEXT), last[name].run_id
        message = Message.from_draft(draft, run_id=run_id, position=positions[name])
        positions[name] += 1
        appends.append(partial(store.append, name, [message], writer=last[name]))
    figures = await _timed(redis, "window", "evalsha", claims)
    figures |= await _timed(redis, "append", "evalsha", appends)
    ends = {name: (await store.list_messages(name, limit=2))[0].cursor for name in names}
    looks = [partial(store.list_messages, name, after=ends[name]) for name in turns]
    return figures | await _timed(redis, "look", "xrange", looks)


async def _timed(
    redis: Redis, name: str, command: str, operations: Sequence[Callable[[], Awaitable[object]]]
) -> dict[str, float]:
    for operation in operations[:1]:
        await operation()  # the script may be new to the server
    await redis.config_resetstat()
    took_s = []
    for operation in operations[1:]:
        started = time.perf_counter()
        await operation()
        took_s.append(time.perf_counter() - started)
    statistics = (await redis.info("commandstats"))[f"cmdstat_{command}"]
    in_server = statistics["usec"] / statistics["calls"]
    return {f"{name}_us": 1e6 * quantile(took_s, 0.5), f"{name}_in_server_us": in_server}


async def _bytes_per_message(redis: Redis, name: str, messages: int) -> dict[str, float]:
    keys = Keys(Settings().key_prefix)
    stream = await redis.memory_usage(keys.messages(name), samples=0)
    beside = await redis.memory_usage(keys.history(name), samples=0)
    assert stream is not None
    assert beside is not None
    return {
        "stream_bytes_per_message": stream / messages,
        "bytes_per_message": (stream + beside) / messages,
    }


async def _used_bytes(redis: Redis) -> int:
    return int((await redis.info("memory"))["used_memory"])


def _with_ratio(row: Row, first: Row) -> Row:
    ratio = max(row.figures[f"{each}_us"] / first.figures[f"{each}_us"] for each in _OPERATIONS)
    return Row(row.subject, row.conditions, {**row.figures, "times_first": ratio}, row.note)
