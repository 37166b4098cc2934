"""What the tools of `tests.agents` leave in files, outside of everything that is being tested."""

import json
from pathlib import Path
from typing import Any, Final

FOLDER: Final = "TEST_AGENTS_FOLDER"
"""Environment variable: where tools leave their traces and look for permission."""


def executions(folder: Path) -> list[dict[str, Any]]:
    """What the tools wrote so far, one entry for each start and each end of a call."""
    path = folder / "executions.jsonl"
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines()]


def permit(folder: Path, name: str) -> None:
    """Let the tool call `wait(name)` return; with `name.2`, the one of a run's second attempt."""
    (folder / f"{name}.permitted").touch()
