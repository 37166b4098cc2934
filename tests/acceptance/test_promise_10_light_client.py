"""Promise 10: importing the client loads no LLM library and nothing of the worker."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.acceptance

HEAVY = ("agent_worker", "pydantic_ai", "openai", "anthropic", "celery", "redis", "fastapi")

PROGRAM = f"""
import sys
import agent_client
agent_client.AsyncAgentClient, agent_client.AgentClient
print([name for name in {HEAVY!r} if name in sys.modules])
"""


def test_importing_the_client_loads_nothing_heavy() -> None:
    """A new interpreter that imports the client has none of the heavy libraries loaded."""
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=60
    )
    assert run.stdout.strip() == "[]"
