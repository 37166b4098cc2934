"""Whole workers in random orders over every store: see `tests.contract.machine`."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.conversation.file import FileConversationStore
from shared.conversation.sqlite import SqliteConversationStore
from shared.run import NewRun
from tests.contract.machine.local_stage import LocalStage
from tests.contract.machine.node import ANSWER, Node
from tests.contract.machine.postgres_stage import PostgresStage
from tests.contract.machine.redis_stage import RedisStage
from tests.contract.machine.running import GIVES_UP_AFTER, run_machine, watched
from tests.contract.machine.stage import SETTINGS, MemoryStage, Stage
from tests.contract.machine.world import EVERYBODYS, World
from tests.services import RedisServer

ONE_CALL, TWO_CALLS = 0, 1
LOCAL = {
    "file": lambda place, clock: FileConversationStore(place, clock=clock),
    "sqlite": lambda place, clock: SqliteConversationStore(place, clock=clock),
}
EXAMPLES = int(os.environ.get("AGENTS_TEST_EXAMPLES", "60"))


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    with asyncio.Runner() as runner:
        yield runner.get_loop()


@pytest.fixture(
    params=[
        "memory",
        "file",
        "sqlite",
        pytest.param("redis", marks=pytest.mark.integration),
        pytest.param("postgres", marks=pytest.mark.integration),
    ]
)
def stage(
    request: pytest.FixtureRequest, loop: asyncio.AbstractEventLoop, tmp_path: Path
) -> Iterator[Stage]:
    if request.param == "memory":
        yield MemoryStage()
        return
    if request.param in LOCAL:
        local = LocalStage(tmp_path, LOCAL[request.param])
        yield local
        loop.run_until_complete(local.aclose())
        return
    server: RedisServer = request.getfixturevalue("redis_server")
    stage = RedisStage(server.url, SETTINGS)
    if request.param == "postgres":
        stage = PostgresStage(server.url, request.getfixturevalue("postgres_server"), SETTINGS)
    yield stage
    loop.run_until_complete(stage.aclose())


def test_what_a_worker_gave_up_is_refused_once_it_takes_the_run_up_again(
    stage: Stage, loop: asyncio.AbstractEventLoop
) -> None:
    """Its model answers something else then; the first answer must not come between."""

    async def play(world: World) -> None:
        await world.open()
        [node, *_] = world.nodes
        run_id = world.new_run_id("room-0")
        new = NewRun(id=run_id, conversation_id="room-0", agent=EVERYBODYS, input="hello")
        await world.submit(new)
        await node.hear_ring(run_id)
        await let(node, "lease", "claim", "append", TWO_CALLS)
        late = node.waiting[0]
        for _ in range(GIVES_UP_AFTER):
            await node.lose_call(node.waiting[0])
        assert node.is_idle
        await node.sweep()
        await let(node, "sweep", "lease", "claim", ONE_CALL)
        assert await world.arrive(late) == "append FencedError"
        await let(node, "append", ANSWER, "append", ANSWER, "append", "finish")
        await world.check()
        [calls] = [one.tool_calls for one in world.history.messages["room-0"] if one.tool_calls]
        assert len(calls) == 1

    with watched(loop) as logs:
        world = World(stage, logs)
        try:
            loop.run_until_complete(play(world))
        finally:
            loop.run_until_complete(world.close())


async def let(node: Node, *steps: str | int) -> None:
    """Let a worker's calls happen, which are these; a number is what its engine decides."""
    for step in steps:
        [call] = node.waiting
        assert call.verb == (step if isinstance(step, str) else "decide")
        await node.let(call, step if isinstance(step, int) else 0)


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_nothing_is_lost_in_any_order_of_steps(
    stage: Stage, loop: asyncio.AbstractEventLoop
) -> None:
    """After every step all that the protocols promise holds, and in the end every run ends."""
    # Each step on disk is one fsync and more; with two servers, it takes several times as long.
    slow = isinstance(stage, LocalStage | PostgresStage)
    examples = max(1, EXAMPLES // 5) if slow else EXAMPLES
    tally = run_machine(stage, loop, examples=examples)
    for what, count in sorted(tally.items()):
        print(f"{count:9,}  {what}")  # noqa: T201  shown with -s, or when it fails
