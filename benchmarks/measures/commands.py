"""What a run asks of Redis: commands and round trips of worker, watcher and submit."""

import asyncio
import time
from collections import Counter
from typing import Final

from benchmarks.overheard_system import OverheardSystem, execute, run_overheard_system
from benchmarks.redis_account import Bill
from benchmarks.rounds.work import Work
from benchmarks.suite.measured import Bars, Measured, Row
from benchmarks.suite.stage import Stage

NAME: Final = "commands"
TITLE: Final = "Commands and round trips to Redis"

_SHORT_ROUNDS: Final = 5
_EXPLANATION: Final = """
Counted on the connections, between everybody and Redis: what is sent, not what scripts call within
the server. A round trip begins with what is sent while no answer is outstanding, so a pipeline is
one. One run of a plain function is executed after another, of few and of many rounds: the
difference is what a round takes, the rest is what a run takes besides. A round has two messages, a
call and its result. Counted are commands about the run; what a worker does for all of its runs
together, whatever their number, is in the row of the idle worker. Rings cost the worker a few
commands more at its broker, for each run and not for each round.
"""


def measure(stage: Stage) -> Measured:
    """A short run and a long one, then nothing for a while."""
    rounds = stage.choose(100, quick=10)
    works = Work(1, _SHORT_ROUNDS, 0.01), Work(1, rounds, 0.01)
    with (
        stage.redis() as redis,
        run_overheard_system(redis, stage.new_folder()) as system,
    ):
        short, long = asyncio.run(execute(system, *works))
        idle = _idle_row(system, stage.choose(5.0, quick=1.0))
    sizes = _SHORT_ROUNDS, rounds
    rows = (
        _row("worker", (short.worker, long.worker), sizes),
        _row("watcher", (short.watcher, long.watcher), sizes),
        Row("submit", {}, _per_run(long.submit), _listed(long.submit.kinds)),
        idle,
    )
    plot = Bars("Round trips of a round", "round_trips_per_round", "round trips")
    return Measured(rows, plots=(plot,), explanation=_EXPLANATION.strip())


def _row(subject: str, bills: tuple[Bill, Bill], rounds: tuple[int, int]) -> Row:
    short, long = bills
    more = rounds[1] - rounds[0]
    commands = (long.commands - short.commands) / more
    round_trips = (long.round_trips - short.round_trips) / more
    figures = {
        "commands_per_round": commands,
        "round_trips_per_round": round_trips,
        "commands_per_run": short.commands - rounds[0] * commands,
        "round_trips_per_run": short.round_trips - rounds[0] * round_trips,
    }
    return Row(subject, {"rounds": rounds[1]}, figures, _listed(long.kinds))


def _per_run(bill: Bill) -> dict[str, float]:
    return {"commands_per_run": bill.commands, "round_trips_per_run": bill.round_trips}


def _idle_row(system: OverheardSystem, seconds: float) -> Row:
    """What a worker asks all the time: heartbeats, and looks for runs that nobody works on."""
    before, started = len(system.worker.account.commands), time.perf_counter()
    time.sleep(seconds)
    bill = Bill.of(system.worker.account.commands[before:])
    took_s = time.perf_counter() - started
    figures = {
        "commands_per_s": bill.commands / took_s,
        "round_trips_per_s": bill.round_trips / took_s,
    }
    return Row("worker, idle", {"seconds": seconds}, figures, _listed(bill.kinds))


def _listed(kinds: Counter[str]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
