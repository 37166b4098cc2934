"""What the tools of `tests.agents` leave in files, outside of everything that is being tested."""

import json
from pathlib import Path
from typing import Any, Final

FOLDER: Final = "TEST_AGENTS_FOLDER"
"""Environment variable: where tools leave their traces and look for permission."""


def executions(folder: Path) -> list[dict[str, Any]]:
    """What the tools wrote so far, one entry for each start and each end of a call."""
    return _entries(folder / "executions.jsonl")


def model_calls(folder: Path) -> list[dict[str, Any]]:
    """The model calls that were started so far, in order: which round of which run, and where."""
    return _entries(folder / "model_calls.jsonl")


def permit(folder: Path, name: str) -> None:
    """Let the tool call `wait(name)` return; with `name.2`, the one of a run's second attempt."""
    (folder / f"{name}.permitted").touch()


def arm(folder: Path, point: str) -> None:
    """Let the first worker that reaches a point of `tests.kill_points` die there."""
    trap(folder, point).touch()


def trap(folder: Path, point: str) -> Path:
    """The file that says that somebody is to die at this point."""
    return folder / f"{point}.kills"


def _entries(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines()]
