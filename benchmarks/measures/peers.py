"""Other systems at the same work, beside this one."""

import json
import os
import signal
import subprocess
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Final

from benchmarks.measures.throughput import QUICK, SIZES
from benchmarks.rounds.measuring import SYSTEM, measure_system, run_workers, speed
from benchmarks.rounds.work import Work
from benchmarks.suite.measured import Bars, Condition, Measured, Row, Skipped
from benchmarks.suite.peer import PEERS, Peer, find_peers
from benchmarks.suite.stage import Stage, UnavailableError

NAME: Final = "peers"
TITLE: Final = "Other systems at the same work"

RUN_TIMEOUT_S: Final = 240.0
"""One measurement of a peer, its start and its warm-up included."""
STOP_TIMEOUT_S: Final = 30.0
PROMISES: Final = ("persists", "watches", "resumes")
_OURS: Final = frozenset({"PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV"})
"""Variables of this environment, which are wrong in that of a peer."""

Size = tuple[Work, int]
"""What is done, and by how many worker processes."""
FULL: Final[Sequence[Size]] = (
    (SIZES[0], 1),
    (SIZES[1], 1),
    (SIZES[1], 2),
    (SIZES[2], 2),
)

EXPLANATION: Final = """
The work of the plain function above, done by other systems: each is set up as its documentation
recommends for work that waits, with room for all runs at once; Redis has an append-only file, and
PostgreSQL writes through. *persists*: each message is stored the moment it exists; *watches*:
others can see messages live; *resumes*: the run of a killed worker goes on where it was. Who
promises less has less to do: compare rows that say the same. In the rows of `celery-agents` every
message is stored and every run watched. Each row is one measurement, and its note the version.
"""


@dataclass(frozen=True)
class Trial:
    """A peer, and what it is asked to do."""

    peer: Peer
    variant: str
    work: Work
    workers: int

    def __str__(self) -> str:
        return f"{self.subject}, {self.work}, workers: {self.workers}"

    @property
    def subject(self) -> str:
        """The peer's name, with that of the variant."""
        name = self.peer.description.name
        return f"{name} ({self.variant})" if self.variant else name


class PeerFailedError(Exception):
    """A peer did not do the work; the message has its last words."""


def measure(stage: Stage) -> Measured:
    """This system first, then every peer that can be installed here."""
    sizes = stage.choose(FULL, quick=((QUICK, 1),))
    rows = list(_own_rows(stage, sizes))
    skipped: list[Skipped] = []
    ready = list(_install(stage, find_peers(), skipped))
    trials = [
        Trial(peer, variant, work, workers)
        for peer in ready
        for variant, (work, workers) in product(peer.description.variants, sizes)
        if workers in (peer.description.workers or [workers])
    ]
    for trial in stage.track(trials):
        try:
            rows.append(_measure(stage, trial))
        except UnavailableError as error:
            skipped.append(Skipped(trial.subject, str(error)))
        except PeerFailedError as error:
            skipped.append(Skipped(str(trial), str(error)))
    return Measured(
        tuple(rows),
        skipped=tuple(dict.fromkeys(skipped)),
        plots=(Bars("Rounds per second", "rounds_per_s", "rounds/s", group_by="runs"),),
        explanation="\n".join([EXPLANATION.strip(), "", *map(_about, ready)]),
    )


def _own_rows(stage: Stage, sizes: Sequence[Size]) -> Iterator[Row]:
    for work, workers in stage.track(sizes, lambda size: f"{SYSTEM}, {size[0]}"):
        with run_workers(workers) as system:
            taken = measure_system(system, "plain", work)
        promises = dict.fromkeys(PROMISES, "yes")
        yield Row(
            SYSTEM, _conditions(work, workers, promises), speed(taken.figures["wall_s"], work)
        )


def _install(stage: Stage, peers: Sequence[Peer], skipped: list[Skipped]) -> Iterator[Peer]:
    """Those that are ready; the others are written down."""
    for peer in stage.track(peers, lambda peer: f"installing {peer.description.name}"):
        try:
            peer.prepare()
        except UnavailableError as error:
            skipped.append(Skipped(peer.description.name, str(error)))
        else:
            yield peer


def _measure(stage: Stage, trial: Trial) -> Row:
    about = trial.peer.description
    with _servers(stage, about.needs) as environment:
        report = run_trial(trial, environment, stage.new_folder() / "log")
    promises = {name: "yes" if getattr(about, name) else "no" for name in PROMISES}
    if not report["messages_seen"]:  # another variant of it may be watched; this one was not
        promises["watches"] = "no"
    return Row(
        trial.subject,
        _conditions(trial.work, trial.workers, promises),
        speed(float(report["wall_s"]), trial.work),
        note=str(report["version"]),
    )


@contextmanager
def _servers(stage: Stage, needs: Collection[str]) -> Iterator[dict[str, str]]:
    """What a peer needs, started for it and empty, by the variables in which it is told."""
    with ExitStack() as stack:
        told = {"PEER_FOLDER": str(stage.new_folder())}
        if "redis" in needs:
            told["REDIS_URL"] = stack.enter_context(stage.redis()).url
        if "postgresql" in needs:
            told["POSTGRES_URL"] = stack.enter_context(stage.postgres()).url
        yield told


def run_trial(trial: Trial, environment: Mapping[str, str], log: Path) -> dict[str, Any]:
    """Run the peer's `runner.py` and return what it reports.

    Raises:
        PeerFailedError: It did not do the work, or not in time.
    """
    outer = {name: value for name, value in os.environ.items() if name not in _OURS}
    variant = ["--variant", trial.variant] if trial.variant else []
    command = [str(trial.peer.python), "runner.py", *trial.work.as_arguments()]
    with (
        log.open("wb") as errors,
        subprocess.Popen(  # noqa: S603  a runner of this repository
            [*command, "--workers", str(trial.workers), *variant],
            cwd=trial.peer.folder,
            env={**outer, "PYTHONPATH": str(PEERS), **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
        ) as process,
    ):
        try:
            said, _ = process.communicate(timeout=RUN_TIMEOUT_S)
        except subprocess.TimeoutExpired as error:
            raise PeerFailedError(f"not done within {RUN_TIMEOUT_S:g} s") from error
        finally:
            _stop(process)
    if process.returncode or not said.strip():
        words = (log.read_text(errors="replace") + said).strip().splitlines()
        raise PeerFailedError(f"exit code {process.returncode}: {words[-1] if words else 'silent'}")
    report: dict[str, Any] = json.loads(said.strip().splitlines()[-1])
    return report


def _stop(process: subprocess.Popen[str]) -> None:
    """Let a runner stop what it started; kill it if that takes too long."""
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _conditions(work: Work, workers: int, promises: Mapping[str, str]) -> dict[str, Condition]:
    size = {"runs": work.runs, "rounds": work.rounds, "latency_s": work.latency_s}
    return {**promises, **size, "workers": workers}


def _about(peer: Peer) -> str:
    return f"- *{peer.description.name}*: {peer.description.note}"
