"""Promise 10: importing the client loads no LLM library and nothing of the worker."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.acceptance

HEAVY = (
    "agent_worker",
    "agents",
    "pydantic_ai",
    "openai",
    "anthropic",
    "celery",
    "redis",
    "fastapi",
)

PROGRAM = f"""
import sys
import agent_client
for name in agent_client.__all__:
    getattr(agent_client, name)
print([name for name in {HEAVY!r} if name in sys.modules])
"""


def test_importing_the_client_loads_nothing_heavy() -> None:
    """With every public name of the client in use, none of the heavy libraries is loaded."""
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=60
    )
    assert run.stdout.strip() == "[]"
