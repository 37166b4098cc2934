"""Redis Cluster: each command goes to the node that has its key.

redis-py has such a client. Under concurrent use it closes, after an error, connections that others
are in the middle of using, raises where all connections of a node are taken, and repeats commands
by itself. Here each node has a client and a pool as the one server has elsewhere, and what is left
to do is little: all keys of a command lie in one slot, so it is enough to look at the first.
"""

import asyncio
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline, PubSub
from redis.crc import key_slot
from redis.exceptions import (
    AskError,
    ClusterDownError,
    MovedError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

REDIRECTS: Final = 5
"""How often one command is sent on before it is given up. One is usual after a failover."""

_SCRIPTS: Final = frozenset({"EVAL", "EVALSHA"})
_KEYLESS: Final = frozenset({"WAIT"})
_OF_EVERY_NODE: Final = frozenset({"SCRIPT LOAD"})
_LOST: Final = (RedisConnectionError, RedisTimeoutError, ClusterDownError, OSError)

Address = tuple[str, int]
Connect = Callable[[Address], Redis]
_Command = tuple[tuple[Any, ...], Mapping[str, Any]]
_Unit = list[_Command]
"""A command, and those without a key that follow it over the same connection."""


class Cluster(Redis):
    """A client for commands to a cluster; see `Redis` for what these are.

    Nodes are looked up before the first command and again after an error. A command that fails is
    not repeated: that is for its caller, as elsewhere. One that reached the wrong node is, since it
    did nothing there.
    """

    def __init__(self, addresses: Sequence[Address], connect: Connect) -> None:
        self._connect = connect
        self._seeds = list(addresses)
        self._clients: dict[Address, Redis] = {}
        self._owners: dict[int, Address] = {}
        self._is_known = False
        self._failed: Address | None = None
        self._looking = asyncio.Lock()
        self._told: Address | None = None
        # What redis-py keeps with a client, as callbacks for answers, is wanted; not its pool.
        super().__init__(connection_pool=self._at(self._seeds[0]).connection_pool)

    @property
    def addresses(self) -> list[Address]:
        """The nodes that own slots, as far as is known, and before that those of the URL."""
        return sorted(set(self._owners.values())) or self._seeds

    async def execute_command(self, *words: Any, **options: Any) -> Any:
        """Send one command to the owner of its key."""
        if words[0] in _OF_EVERY_NODE:
            return (await self.ask_all(*words, **options))[0]
        unit: _Unit = [(words, options)]
        address = await self._owner(unit)
        try:
            return await self._tell(address, words, options)
        except AskError:  # so is MovedError
            answers = await self.send([unit])
            if isinstance(answers[0], Exception):
                raise answers[0] from None
            return answers[0]
        except _LOST:
            self._forget(address)
            raise

    def pipeline(
        self,
        transaction: bool = False,  # noqa: ARG002, FBT001, FBT002 - redis-py's; never one in here
        shard_hint: str | None = None,  # noqa: ARG002
    ) -> Pipeline:
        """Commands to be sent together, to each node its own."""
        return _ClusterPipeline(self)

    async def send(self, units: Sequence[_Unit]) -> list[Any]:
        """Send units to the owners of their keys, at once. An answer may be an exception.

        Raises:
            RedisError: A node did not answer; what the others answered is lost.
        """
        answers: list[list[Any]] = [[] for _ in units]
        pending = list(range(len(units)))
        for _ in range(REDIRECTS):
            shares: defaultdict[Address, list[int]] = defaultdict(list)
            for number in pending:
                shares[await self._owner(units[number])].append(number)
            await self._send_shares(units, shares, answers)
            pending = [n for n in pending if isinstance(answers[n][0], MovedError)]
            for number in pending:
                self._learn(answers[number][0])
            if not pending:
                break
        for number, unit in enumerate(units):
            if isinstance(answers[number][0], AskError) and number not in pending:
                answers[number] = await self._ask(answers[number][0], unit)
        return [answer for each in answers for answer in each]

    async def ask_all(self, *words: Any, **options: Any) -> list[Any]:
        """Send one command to every node that owns slots; an answer of each."""
        await self._look_up()
        return await asyncio.gather(*(self._tell(each, words, options) for each in self.addresses))

    async def aclose(self, close_connection_pool: bool | None = None) -> None:  # noqa: ARG002, FBT001
        """Close the connections to all nodes."""
        clients, self._clients = self._clients, {}
        for client in clients.values():
            await client.aclose()

    async def _send_shares(
        self, units: Sequence[_Unit], shares: dict[Address, list[int]], answers: list[list[Any]]
    ) -> None:
        results = await asyncio.gather(
            *(
                self._send_to(address, [units[number] for number in numbers])
                for address, numbers in shares.items()
            ),
            return_exceptions=True,
        )
        for numbers, result in zip(shares.values(), results, strict=True):
            if isinstance(result, BaseException):
                raise result
            for number, answer in zip(numbers, result, strict=True):
                answers[number] = answer

    async def _send_to(self, address: Address, units: Sequence[_Unit]) -> list[list[Any]]:
        async with self._at(address).pipeline(transaction=False) as pipeline:
            for unit in units:
                for words, options in unit:
                    pipeline.execute_command(*words, **options)
            try:
                answers = iter(await pipeline.execute(raise_on_error=False))
            except _LOST:
                self._forget(address)
                raise
        return [[next(answers) for _ in unit] for unit in units]

    async def _ask(self, error: AskError, unit: _Unit) -> list[Any]:
        """Send a unit to where its key is moving to, which answers only to who says so first."""
        asking: _Unit = [(("ASKING",), {}), *unit]
        answers = await self._send_to((error.host, error.port), [asking])
        return answers[0][1:]

    async def _tell(
        self, address: Address, words: tuple[Any, ...], options: Mapping[str, Any]
    ) -> Any:
        return await self._at(address).execute_command(*words, **options)  # type: ignore[no-untyped-call]

    async def _owner(self, unit: _Unit) -> Address:
        await self._look_up()
        words = unit[0][0]
        key = str(words[3] if words[0] in _SCRIPTS else words[1])
        try:
            return self._owners[key_slot(key.encode(errors="surrogateescape"))]
        except KeyError:
            self._is_known = False
            raise ClusterDownError("no node owns the slot of a key") from None

    def _at(self, address: Address) -> Redis:
        if address not in self._clients:
            self._clients[address] = self._connect(address)
        return self._clients[address]

    def _learn(self, error: MovedError) -> None:
        """Note the new owner of one slot; all others are looked up with the next command."""
        if error.host:  # else it is a host that does not know its own name
            self._told = self._owners[error.slot_id] = (error.host, error.port)
        self._is_known = False

    def _forget(self, address: Address) -> None:
        """What is known may no longer be so, and this node is the last one to be asked."""
        self._failed = address
        self._is_known = False

    async def _look_up(self) -> None:
        if not self._is_known:
            async with self._looking:
                await self._look_up_once()

    async def _look_up_once(self) -> None:
        if not self._is_known:  # or somebody did while this one waited for the lock
            self._owners = await self._ask_for_owners()
            self._is_known = True

    async def _ask_for_owners(self) -> dict[int, Address]:
        candidates = list(dict.fromkeys([*self._owners.values(), *self._seeds]))
        random.shuffle(candidates)
        # What a node said of another that it is the new owner is newer than what the rest know.
        candidates.sort(key=lambda address: (address == self._failed, address != self._told))
        error: Exception = RedisConnectionError("no node of the cluster is known")
        for address in candidates:
            try:
                ranges = await self._tell(address, ("CLUSTER", "SLOTS"), {})
            except ResponseError:
                raise
            except (RedisError, OSError) as failure:
                error = failure
            else:
                return _owners(ranges, address)
        raise error


class _ClusterPipeline(Pipeline):
    """Collects commands as redis-py's pipeline does, and sends them as a cluster needs it."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(
            cluster.connection_pool, cluster.response_callbacks, transaction=False, shard_hint=None
        )
        self._cluster = cluster

    async def execute(self, raise_on_error: bool = True) -> list[Any]:  # noqa: FBT001, FBT002
        units: list[_Unit] = []
        for words, options in self.command_stack:
            if words[0] in _KEYLESS:
                units[-1].append((words, options))
            else:
                units.append([(words, options)])
        self.command_stack = []
        answers = await self._cluster.send(units)
        errors = [answer for answer in answers if isinstance(answer, Exception)]
        if raise_on_error and errors:
            raise errors[0]
        return answers


class AnyNode:
    """Listens to a cluster through one of its nodes, since each hears what is published to any.

    Every `pubsub` goes to the next node: whoever connects again after a loss does not come back to
    the node that died.
    """

    def __init__(self, cluster: Cluster, connect: Connect) -> None:
        self._cluster = cluster
        self._connect = connect
        self._clients: dict[Address, Redis] = {}
        self._turn = random.randrange(1000)  # noqa: S311 - so that not all listen at one node

    def pubsub(self) -> PubSub:
        """A pub/sub connection to the next node; connects on first use."""
        addresses = self._cluster.addresses
        address = addresses[self._turn % len(addresses)]
        self._turn += 1
        if address not in self._clients:
            self._clients[address] = self._connect(address)
        return self._clients[address].pubsub()

    async def aclose(self) -> None:
        """Close the connections."""
        for client in self._clients.values():
            await client.aclose()


def _owners(ranges: Iterable[Any], answering: Address) -> dict[int, Address]:
    """What CLUSTER SLOTS says: the primary of each slot. A node may not know its own name."""
    return {
        slot: (primary[0] or answering[0], int(primary[1]))
        for first, last, primary, *_ in ranges
        for slot in range(int(first), int(last) + 1)
    }
