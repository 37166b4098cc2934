"""Whole workers in random orders over every store: see `tests.contract.machine`."""

import asyncio
import os
from collections.abc import Iterator

import pytest

from tests.contract.machine.redis_stage import RedisStage
from tests.contract.machine.running import run_machine
from tests.contract.machine.stage import SETTINGS, MemoryStage, Stage
from tests.services import RedisServer

EXAMPLES = int(os.environ.get("AGENTS_TEST_EXAMPLES", "100"))


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    with asyncio.Runner() as runner:
        yield runner.get_loop()


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.integration)])
def stage(request: pytest.FixtureRequest, loop: asyncio.AbstractEventLoop) -> Iterator[Stage]:
    if request.param == "memory":
        yield MemoryStage()
        return
    server: RedisServer = request.getfixturevalue("redis_server")
    stage = RedisStage(server.url, SETTINGS)
    yield stage
    loop.run_until_complete(stage.aclose())


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_nothing_is_lost_in_any_order_of_steps(
    stage: Stage, loop: asyncio.AbstractEventLoop
) -> None:
    """After every step all that the protocols promise holds, and in the end every run ends."""
    tally = run_machine(stage, loop, examples=EXAMPLES)
    for what, count in sorted(tally.items()):
        print(f"{count:9,}  {what}")  # noqa: T201  shown with -s, or when it fails
