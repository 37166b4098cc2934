"""What only a cluster can get wrong: slots that move, nodes that do not know a script, crowds."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from typing import Any
from uuid import uuid4

import pytest
from redis import Redis
from redis.crc import key_slot

from shared.errors import StoreUnavailableError
from shared.redis_keys import Keys
from shared.testing.conversation.value import imported, texts
from tests.contract.harness import ClusterHarness
from tests.contract.values import AGENT, new_run, worker
from tests.services import RedisServer
from tests.topologies.cluster import RedisCluster

pytestmark = pytest.mark.integration


@pytest.fixture
async def harness(redis_cluster: RedisCluster) -> AsyncIterator[ClusterHarness]:
    harness = ClusterHarness(redis_cluster.url, f"test-{uuid4().hex}")
    yield harness
    await harness.aclose()


class Move:
    """Moves the slot of a conversation's partition from its node to another one, step by step."""

    def __init__(self, cluster: RedisCluster, key: str) -> None:
        self._slot = key_slot(key.encode())
        self._clients = [self._client(node) for node in cluster.nodes]
        self._ids = [client.execute_command("CLUSTER", "MYID") for client in self._clients]
        owner = next(n for n, client in enumerate(self._clients) if self._owns(client))
        self.source, self.target = owner, (owner + 1) % len(self._clients)

    def begin(self) -> None:
        """Keys that are there are served by the source, others by the target to who asks."""
        self._set_slot(self.target, "IMPORTING", self._ids[self.source])
        self._set_slot(self.source, "MIGRATING", self._ids[self.target])

    def carry_over(self) -> None:
        """Move the keys."""
        source, port = self._clients[self.source], self._port(self.target)
        while keys := source.execute_command("CLUSTER", "GETKEYSINSLOT", self._slot, 100):
            source.execute_command("MIGRATE", "127.0.0.1", port, "", 0, 5000, "KEYS", *keys)

    def end(self) -> None:
        """The slot is the target's, and every node knows."""
        for number in (self.target, self.source, *range(len(self._clients))):
            self._set_slot(number, "NODE", self._ids[self.target])

    def close(self) -> None:
        for client in self._clients:
            client.close()

    def _client(self, node: RedisServer) -> Any:
        return Redis(port=node.port, decode_responses=True)

    def _owns(self, client: Any) -> bool:
        own = client.execute_command("CLUSTER", "MYID")
        ranges = client.execute_command("CLUSTER", "SLOTS")
        return any(r[0] <= self._slot <= r[1] and r[2][2] == own for r in ranges)

    def _port(self, number: int) -> int:
        return int(self._clients[number].connection_pool.connection_kwargs["port"])

    def _set_slot(self, number: int, state: str, node_id: str) -> None:
        self._clients[number].execute_command("CLUSTER", "SETSLOT", self._slot, state, node_id)


@pytest.fixture
def move(redis_cluster: RedisCluster, harness: ClusterHarness) -> Iterator[Move]:
    with closing(Move(redis_cluster, Keys(harness.key_prefix).messages("room"))) as move:
        yield move


async def test_a_slot_may_move_to_another_node(harness: ClusterHarness, move: Move) -> None:
    """Before, between and after the steps of a move, the conversation simply goes on."""
    store = harness.open().conversations
    await store.append("room", [imported("before")])
    move.begin()
    await store.append("room", [imported("while it begins")])
    move.carry_over()
    assert texts(await store.list_messages("room")) == ["before", "while it begins"]
    await store.append("room", [imported("with its keys gone")])
    move.end()
    await store.append("room", [imported("after")])
    await harness.open().conversations.append("room", [imported("from elsewhere")])
    assert texts(await store.list_messages("room"))[2:] == [
        "with its keys gone",
        "after",
        "from elsewhere",
    ]


async def test_pipelines_follow_a_slot_that_moved(harness: ClusterHarness, move: Move) -> None:
    """A sweep, which asks all partitions at once, and changes that wait for replicas do, too."""
    backend = harness.open()
    waiting = harness.open(redis_wait_replicas=1, redis_wait_timeout_s=0.1)
    await backend.ledger.beat(worker())
    with pytest.raises(StoreUnavailableError, match="is written"):
        await waiting.ledger.submit(new_run("room"))
    move.begin()
    move.carry_over()
    move.end()
    run = new_run("room")
    with pytest.raises(StoreUnavailableError, match="is written"):
        await waiting.ledger.submit(run)
    await backend.ledger.sweep("worker-1", agents=[AGENT], limit=10)
    assert run.id in {each.id for each in await backend.ledger.list_runs(conversation_id="room")}


async def test_each_node_is_told_the_scripts(
    redis_cluster: RedisCluster, harness: ClusterHarness
) -> None:
    """A node that was restarted, or joined, has none; nobody notices."""
    backend = harness.open()
    await backend.ledger.beat(worker())
    await backend.ledger.sweep("worker-1", agents=[AGENT], limit=10)
    for node in redis_cluster.nodes:
        with Redis(port=node.port) as client:
            client.script_flush()
    await backend.ledger.sweep("worker-1", agents=[AGENT], limit=10)
    assert (await backend.ledger.submit(new_run("room"))).is_new


async def test_a_crowd_waits_for_connections(harness: ClusterHarness) -> None:
    """Far more commands at once than there are connections: each waits for its turn."""
    backend = harness.open()
    submitted = await asyncio.gather(*(backend.ledger.submit(new_run()) for _ in range(500)))
    assert all(each.is_new for each in submitted)
