"""A snapshot from a shell without the agent's code, of a run that a worker elsewhere did."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pytest_celery import CeleryWorkerCluster

from agent_client import AsyncAgentClient
from shared.settings import Settings
from shared.testing.waiting import eventually
from shared.transfer.digest import digest_of
from tests.acceptance.conftest import play
from tests.traces import permit

pytestmark = pytest.mark.integration


def command(settings: Settings, folder: Path, *arguments: str) -> str:
    ended = subprocess.run(
        [sys.executable, "-m", "agent_client.cli", "snapshot", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={
            **os.environ,
            "AGENTS_REDIS_URL": settings.redis_url.get_secret_value(),
            "AGENTS_BROKER_URL": settings.effective_broker_url,
            "AGENTS_SNAPSHOT_FOLDER": str(folder),
        },
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


async def test_a_snapshot_needs_no_code_of_the_agent(
    agents_settings: Settings,
    celery_worker_cluster: CeleryWorkerCluster,
    traces: Path,
    tmp_path: Path,
) -> None:
    """It has the tools as the worker told them; another conversation goes on from it."""
    folder = tmp_path / "snapshots"
    async with AsyncAgentClient(agents_settings) as client:
        permit(traces, "one")
        name = f"web:{tmp_path.name}"
        run = await client.submit("script", play([("wait", "one")]), conversation_id=name)
        await run.result(timeout_s=60)
        await eventually(lambda: client.backend.cards.find("script"), timeout_s=60)
        snapshot_id = command(agents_settings, folder, "save", name)
        shown: dict[str, Any] = json.loads(
            command(agents_settings, folder, "show", snapshot_id, "--json")
        )
        tools = {tool["name"]: tool for tool in shown["tools"]}
        assert tools["wait"]["parameters"]["type"] == "object"
        assert tools["wait"]["description"]
        assert shown["info"]["agent"] == "script"
        restored = command(agents_settings, folder, "restore", snapshot_id)
        history = await client.history(restored)
        assert digest_of(history) == shown["info"]["digest"]
        following = await client.submit("script", play(), conversation_id=restored)
        assert (await following.result(timeout_s=60)).output == "done"
        assert len(await client.history(restored)) == len(history) + 2
