"""The chaos harness: a whole system under load, while its parts are killed, frozen and cut off.

    python -m benchmarks.chaos [--runs 300] [--workers 4] [--minutes 3] [--seed 1]
                               [--broker redis|rabbitmq] [--recordings FILE] [--json FILE]

Workers are killed, frozen for longer than a lease and terminated; the store and the broker are
restarted; wake-ups are dropped and doubled; runs are cancelled, interrupted, rolled back, submitted
twice, and submitted while servers are away. Tools and models write what they do to a file outside
of Redis. In the end every run, every message, every execution and what every watcher saw is held
against what was promised. Exit code 1 on any violation; then logs and data are kept.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Final

from rich.console import Console

from benchmarks.chaos.harness import load_sound_recordings, run_harness
from benchmarks.chaos.plan import count_runs, make_plan
from benchmarks.chaos.report import Setup
from benchmarks.chaos.site import MAX_CRASHES
from shared.errors import AgentsError
from tests.model_server import RecordingError, find_folder

BROKER_URL: Final = "AGENTS_CHAOS_BROKER_URL"
"""Environment variable: RabbitMQ, for --broker rabbitmq."""
DEFAULT_BROKER_URL: Final = "amqp://guest:guest@localhost:5672//"
DEFAULT_RECORDINGS: Final = "conversations.jsonl"


def main() -> int:
    """Run from the command line."""
    options = _read_options()
    console = Console()
    try:
        recordings = load_sound_recordings(options.recordings) if options.recordings else []
    except (RecordingError, OSError) as error:
        sys.exit(f"{options.recordings}: {error}")
    plan = make_plan(options.seed, options.runs, options.minutes * 60, recordings)
    setup = Setup(
        seed=options.seed,
        runs=sum(count_runs(each.steps) for each in plan),
        workers=options.workers,
        minutes=options.minutes,
        broker=options.broker,
        recorded=sum(count_runs(each.steps) for each in plan if each.kind == "recorded"),
        max_crashes=MAX_CRASHES,
    )
    is_ours = options.broker == "redis"
    broker_url = None if is_ours else os.environ.get(BROKER_URL, DEFAULT_BROKER_URL)
    folder = Path(tempfile.mkdtemp(prefix="agents-chaos-"))
    try:
        report = run_harness(
            setup, folder, broker_url=broker_url, recordings=recordings, console=console
        )
    except AgentsError as error:
        sys.exit(f"The harness could not go on; what there is lies in {folder}. {error}")
    report.print(console)
    if options.json is not None:
        options.json.write_text(json.dumps(report.as_json(), indent=2) + "\n", encoding="utf-8")
    if report.violations or options.keep:
        (folder / "report.json").write_text(json.dumps(report.as_json(), indent=2))
        console.print(f"{len(report.violations)} violations; logs and data are in {folder}")
        return 1 if report.violations else 0
    shutil.rmtree(folder, ignore_errors=True)
    return 0


def _read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--runs", type=int, default=300, help="runs to submit (300)")
    parser.add_argument("--workers", type=int, default=4, help="worker processes (4)")
    parser.add_argument("--minutes", type=float, default=3.0, help="how long under fire (3)")
    parser.add_argument("--seed", type=int, default=1, help="decides load and faults (1)")
    parser.add_argument("--broker", choices=("redis", "rabbitmq"), default="redis")
    parser.add_argument(
        "--recordings",
        type=Path,
        default=_find_recordings(),
        help="recorded conversations, one JSON object a line (those of AGENTS_RECORDINGS, if any)",
    )
    parser.add_argument("--keep", action="store_true", help="keep logs and data in any case")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    return parser.parse_args()


def _find_recordings() -> Path | None:
    folder = find_folder()
    path = folder / DEFAULT_RECORDINGS if folder is not None else None
    return path if path is not None and path.is_file() else None


if __name__ == "__main__":
    sys.exit(main())
