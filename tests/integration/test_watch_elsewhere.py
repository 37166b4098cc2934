"""Watching from a process that has nothing but the run's id."""

import asyncio
import json
import os
import sys
import time
from pathlib import Path

import pytest
from pytest_celery import CeleryWorkerCluster

from agent_client import AsyncAgentClient
from shared.settings import Settings
from tests.acceptance.conftest import play
from tests.traces import permit

pytestmark = pytest.mark.integration

ARRIVAL_S = 30.0


async def test_another_process_sees_each_message_before_the_next_one_can_exist(
    agents_settings: Settings, celery_worker_cluster: CeleryWorkerCluster, traces: Path
) -> None:
    """`agent-client watch` shows call and results one by one while the run is still going on."""
    async with AsyncAgentClient(agents_settings) as client:
        run = await client.submit("script", play([("wait", "one"), ("wait", "two")]))
        watcher = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "agent_client.cli", "watch", run.id, "--json"),
            stdout=asyncio.subprocess.PIPE,
            limit=1_000_000,
            env={
                **os.environ,
                "AGENTS_REDIS_URL": agents_settings.redis_url.get_secret_value(),
                "AGENTS_BROKER_URL": agents_settings.effective_broker_url,
            },
        )
        assert watcher.stdout is not None
        arrivals: list[tuple[float, str]] = []

        async def arrival() -> str:
            """The next message that the watcher prints, as role and text."""
            assert watcher.stdout is not None
            while True:
                async with asyncio.timeout(ARRIVAL_S):
                    line = await watcher.stdout.readline()
                assert line, "the watcher ended early"
                event = json.loads(line)
                if event["type"] == "message":
                    message = event["message"]
                    said = f"{message['role']}: {str(message.get('content'))[:20]}"
                    arrivals.append((time.time(), said))
                    return said

        assert (await arrival()).startswith("user")
        assert await arrival() == "assistant: None"
        assert not (await run.status()).is_final
        permit(traces, "two")
        assert await arrival() == "tool: waited for two"
        assert not (await run.status()).is_final, "the other tool still waits"
        permit(traces, "one")
        assert await arrival() == "tool: waited for one"
        assert await arrival() == "assistant: done"
        await watcher.communicate()
        assert watcher.returncode == 0
    for moment, said in arrivals:
        print(f"{moment:.3f}  {said}")  # noqa: T201  shown with pytest -s
