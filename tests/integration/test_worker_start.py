"""A worker process that cannot start says why."""

import subprocess
import sys

import pytest

from agent_worker.cli.report import ExitCode
from shared.settings import Settings

pytestmark = pytest.mark.integration


def test_a_redis_that_refuses_the_worker_is_told_in_a_line(agents_settings: Settings) -> None:
    """As with any wrong setting: exit code 2 and what to change, no traceback."""
    url = f"{agents_settings.redis_url.get_secret_value().rpartition('/')[0]}/9999"
    done = subprocess.run(
        [sys.executable, "-m", "agent_worker.cli", "start", "tests.agents", "--redis-url", url],
        capture_output=True,
        check=False,
        text=True,
        timeout=30,
    )
    assert done.returncode == ExitCode.USAGE
    assert done.stderr.splitlines()[-1].startswith("Error: Redis has no database")
    assert "Traceback" not in done.stderr
