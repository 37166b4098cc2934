"""Replays recorded conversations through the whole system and compares, message by message.

    python -m benchmarks.replay FILE.jsonl [--limit N] [--workers K] [--format json]

Real provider client, real agent library, real worker processes, real Redis; only the model's words
and the tools' answers come from the recording. Each run of a conversation is submitted when the one
before has ended, and watched while it is executed. What is stored and what the watcher saw must
equal the recording. A recording that breaks a pairing rule is refused, naming the fault; nothing of
it is submitted. Exit code 1 on any mismatch.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from agent_client import AsyncAgentClient
from benchmarks.replay_agents import MODEL_URL, RECORDINGS
from benchmarks.system import System, run_system
from shared.message import Message
from shared.openai_chat import to_openai
from tests.model_server import (
    ModelServerProcess,
    Recording,
    RecordingError,
    load_recordings,
    validate,
)

AT_ONCE = 32
"""Conversations in flight."""
RUN_TIMEOUT_S = 120.0


@dataclass
class Report:
    """What a replay found."""

    file: str
    conversations: int = 0
    refused: dict[str, list[str]] = field(default_factory=dict)
    """Faults of each recording that was not replayed."""
    runs: int = 0
    messages: int = 0
    rounds: int = 0
    model_requests: int = 0
    model_mismatches: int = 0
    """Requests that reached the model server and differed from the recording."""
    stored_mismatches: list[str] = field(default_factory=list)
    watched_mismatches: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def mismatches(self) -> int:
        """All differences together."""
        found = len(self.stored_mismatches) + len(self.watched_mismatches)
        return found + self.model_mismatches


async def replay(
    system: System, recordings: Sequence[Recording], report: Report, bar: Callable[[], None]
) -> None:
    """Replay all recordings, `AT_ONCE` conversations at a time."""
    free = asyncio.Semaphore(AT_ONCE)
    async with AsyncAgentClient(system.settings) as client, asyncio.TaskGroup() as group:
        for recording in recordings:
            await free.acquire()
            task = group.create_task(_replay_one(client, recording, report))
            task.add_done_callback(lambda _: _done(free, bar))


def _done(free: asyncio.Semaphore, bar: Callable[[], None]) -> None:
    free.release()
    bar()


async def _replay_one(client: AsyncAgentClient, recording: Recording, report: Report) -> None:
    conversation_id = f"replay:{recording.id.replace('/', ':')}"
    watched: list[Message] = []
    for run in recording.runs():
        handle = await client.submit(
            "replay",
            run.user_text,
            conversation_id=conversation_id,
            metadata={"recording": recording.id, "run_index": run.index},
        )
        async with asyncio.timeout(RUN_TIMEOUT_S):
            watched += [message async for message in handle.watch()]
        outcome = await handle.result(timeout_s=RUN_TIMEOUT_S)
        if outcome.error is not None:
            detail = (
                f"{recording.id}, run {run.index}: {outcome.error.code}: {outcome.error.message}"
            )
            report.stored_mismatches.append(detail)
            break
        report.runs += 1
        report.rounds += outcome.rounds
    expected = [dict(message) for message in recording.replayable if message["role"] != "system"]
    stored = await client.history(conversation_id)
    report.conversations += 1
    report.messages += len(stored)
    report.stored_mismatches += _differences(recording.id, "stored", expected, stored)
    report.watched_mismatches += _differences(recording.id, "watched", expected, watched)


def _differences(
    name: str, what: str, expected: Sequence[dict[str, Any]], found: Sequence[Message]
) -> list[str]:
    actual = to_openai(found)
    differences = [
        f"{name}, message {index}: {what} {_short(mine)}, recorded {_short(theirs)}"
        for index, (mine, theirs) in enumerate(zip(actual, expected, strict=False))
        if mine != theirs
    ]
    if len(actual) != len(expected):
        differences.append(f"{name}: {what} {len(actual)} messages, recorded {len(expected)}")
    return differences


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) < 200 else text[:200] + "…"


def run(path: Path, *, limit: int | None, workers: int, console: Console) -> Report:
    """Start the system, replay the file, stop everything again."""
    report = Report(path.name)
    with tempfile.TemporaryDirectory(prefix="agents-replay-") as folder:
        sound = Path(folder) / "recordings.jsonl"
        recordings = _sort_out(path, limit, sound, report)
        if not recordings:
            return report
        with ModelServerProcess([sound]) as server:
            environment = {RECORDINGS: str(sound), MODEL_URL: server.base_url}
            with run_system(
                "benchmarks.replay_agents", workers=workers, environment=environment
            ) as system:
                _measure(system, recordings, report, console)
            counts = server.stats()
            report.model_requests, report.model_mismatches = counts.requests, counts.mismatches
    return report


def _measure(
    system: System, recordings: Sequence[Recording], report: Report, console: Console
) -> None:
    columns = (TextColumn("replaying"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("replay", total=len(recordings))
        started = time.perf_counter()
        asyncio.run(replay(system, recordings, report, lambda: progress.advance(task)))
        report.seconds = time.perf_counter() - started


def _sort_out(path: Path, limit: int | None, sound: Path, report: Report) -> list[Recording]:
    """Refuse what breaks a pairing rule; write the rest, with its tools, for server and workers."""
    recordings = []
    with sound.open("w", encoding="utf-8") as target:
        for recording in load_recordings(path, limit):
            if faults := validate(recording):
                report.refused[recording.id] = faults
                continue
            recordings.append(recording)
            target.write(json.dumps(sound_row(recording)) + "\n")
    return recordings


def sound_row(recording: Recording) -> dict[str, Any]:
    """The line of a recording that stands alone: its tools are in it."""
    return {
        "id": recording.id,
        "source": recording.source,
        "model": recording.model,
        "tools": [dict(spec) for spec in recording.tools],
        "messages": [dict(message) for message in recording.messages],
        "meta": {"replay_len": recording.replay_len},
    }


def _print(report: Report, console: Console) -> None:
    for name, faults in report.refused.items():
        console.print(f"refused   {name}: {'; '.join(faults)}", markup=False, highlight=False)
    for difference in [*report.stored_mismatches, *report.watched_mismatches]:
        console.print(f"mismatch  {difference}", markup=False, highlight=False)
    rate = report.rounds / report.seconds if report.seconds else 0.0
    console.print(
        f"{report.conversations} conversations, {report.runs} runs, {report.messages} messages, "
        f"{len(report.refused)} refused, {report.mismatches} mismatches "
        f"(stored {len(report.stored_mismatches)}, watched {len(report.watched_mismatches)}, "
        f"at the model {report.model_mismatches}); {report.rounds} rounds in "
        f"{report.seconds:.1f} s, {rate:.0f} rounds/s",
        highlight=False,
        soft_wrap=True,
    )


def main() -> int:
    """Run from the command line; the exit code says whether everything was equal."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.replay", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("file", type=Path, help="recorded conversations, one JSON object a line")
    parser.add_argument("--limit", type=int, help="only the first N of the file")
    parser.add_argument("--workers", type=int, default=2, help="worker processes (2)")
    parser.add_argument("--format", choices=("text", "json"), default="text")
    options = parser.parse_args()
    console = Console(stderr=options.format == "json")
    try:
        report = run(options.file, limit=options.limit, workers=options.workers, console=console)
    except (RecordingError, OSError) as error:
        sys.exit(f"{options.file}: {error}")
    if options.format == "json":
        json.dump({**asdict(report), "mismatches": report.mismatches}, sys.stdout, indent=2)
    else:
        _print(report, console)
    return 1 if report.mismatches else 0


if __name__ == "__main__":
    sys.exit(main())
