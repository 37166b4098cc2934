"""The parts of the chaos harness that can be looked at without a system."""

import json
import socket
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.chaos.evidence import Harm, LogEntry
from benchmarks.chaos.journal import PATH, journaled, read_journal
from benchmarks.chaos.plan import make_plan
from benchmarks.chaos.recovery import Recovery, Spread, read_log, recoveries, without_outages
from benchmarks.chaos.relay import Relay
from benchmarks.chaos.schedule import Fault, FaultKind, make_schedule
from shared.errors import BrokerUnavailableError

FROZEN = (FaultKind.FREEZE,)


def schedule(seed: int, seconds: float) -> list[Fault]:
    """At default settings."""
    return make_schedule(seed, seconds, lease_s=4, redis_timeout_s=5)


def test_one_seed_gives_one_plan_and_one_schedule() -> None:
    """What was found can be looked for again."""
    assert make_plan(7, 50, 60, []) == make_plan(7, 50, 60, [])
    assert make_plan(7, 50, 60, []) != make_plan(8, 50, 60, [])
    assert schedule(7, 60) == schedule(7, 60)
    assert schedule(7, 60) != schedule(8, 60)


@pytest.mark.parametrize("seed", range(5))
def test_three_minutes_hold_enough_of_everything(seed: int) -> None:
    """At least 30 kills, 10 freezes longer than a lease, and each kind of conversation."""
    faults = schedule(seed, 180)
    counts = Counter(fault.kind for fault in faults)
    assert counts[FaultKind.KILL] >= 30
    assert counts[FaultKind.FREEZE] >= 10
    assert counts.keys() == set(FaultKind)
    assert all(fault.seconds > 4 for fault in faults if fault.kind is FaultKind.FREEZE)
    plan = make_plan(seed, 300, 180, [])
    assert {each.kind for each in plan} >= {"line", "cancel", "interrupt", "rollback", "reject"}
    specs = [spec.id for each in plan for spec in each.specs]
    assert 300 <= len(set(specs)) <= 330


def test_the_journal_pairs_ends_with_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was cut off has no end."""
    monkeypatch.setenv(PATH, str(tmp_path / "journal"))
    with journaled("tool", "run", "run.1.0", 1):
        pass
    with pytest.raises(KeyError), journaled("tool", "run", "run.1.1", 1):
        raise KeyError
    done, cut = read_journal(tmp_path / "journal")
    assert (done.key, cut.key) == ("run.1.0", "run.1.1")
    assert done.ended_at is not None
    assert cut.ended_at is None


def test_recovery_is_the_time_until_another_worker_takes_the_run() -> None:
    """Of runs that were held, and that another worker took afterwards."""
    logs = [
        LogEntry(1, "run.leased", "held", "a"),
        LogEntry(1, "run.leased", "done", "a"),
        LogEntry(2, "run.completed", "done", "a"),
        LogEntry(3, "run.leased", "elsewhere", "b"),
        LogEntry(14, "run.resumed", "held", "b"),
        LogEntry(15, "run.lost", "held", "a"),
        LogEntry(16, "run.resumed", "elsewhere", "a"),
    ]
    harms = [Harm(FaultKind.FREEZE, 10, 17, "a"), Harm(FaultKind.KILL, 10, 11, "b")]
    assert recoveries(harms, logs, FROZEN) == [Recovery(10, 14)]
    assert recoveries(harms, logs, (FaultKind.KILL,)) == [Recovery(10, 16)]


@pytest.mark.parametrize(
    ("away", "is_calm"), [((1, 9), True), ((9, 11), False), ((12, 13), False), ((14, 15), True)]
)
def test_recoveries_with_an_outage_in_their_way_are_told_apart(
    away: tuple[float, float], is_calm: bool
) -> None:
    """While the store is away nobody can take a run; before and after, it is no excuse."""
    recovery = Recovery(harmed_at=10, taken_at=14)
    outage = Harm(FaultKind.STORE_STALL, *away)
    broker = Harm(FaultKind.BROKER_RESTART, 10, 14)
    assert without_outages([recovery], [outage, broker]) == ([recovery] if is_calm else [])


def test_a_frozen_worker_that_goes_on_with_its_run_recovers_from_nothing() -> None:
    """Nobody was there to take it; that it came to another worker later has other reasons."""
    logs = [
        LogEntry(1, "run.leased", "held", "a"),
        LogEntry(20, "run.handed_over", "held", "a"),
        LogEntry(21, "run.resumed", "held", "b"),
    ]
    assert recoveries([Harm(FaultKind.FREEZE, 10, 17, "a")], logs, FROZEN) == []


def test_a_spread_names_values_that_were_measured() -> None:
    """By nearest rank."""
    assert Spread.of([]) == Spread()
    assert Spread.of([3.0]) == Spread(1, 3.0, 3.0, 3.0)
    assert Spread.of(float(number) for number in range(1, 101)) == Spread(100, 50.0, 95.0, 100.0)


def test_a_log_that_a_kill_cut_off_is_read(tmp_path: Path) -> None:
    """Its last line may be half of one; lines that are not about a run are passed over."""
    entry = {"event": "run.resumed", "run_id": "r", "worker_id": "w", "attempt": 2}
    lines = [
        json.dumps({**entry, "timestamp": "2026-01-01T00:00:00.500000Z"}),
        json.dumps({"event": "worker.ready"}),
        '{"event": "run.comp',
    ]
    (tmp_path / "log").write_text("\n".join(lines))
    (read,) = read_log(tmp_path / "log")
    assert (read.event, read.run_id, read.worker_id, read.attempt) == ("run.resumed", "r", "w", 2)
    assert read.at % 1 == 0.5


def test_a_relay_can_be_cut_and_opened_again() -> None:
    """Cut, it ends what is connected and refuses what comes; its port stays."""
    with socket.create_server(("127.0.0.1", 0)) as broker:
        port = broker.getsockname()[1]
        with Relay(f"amqp://guest:guest@127.0.0.1:{port}//") as relay:
            here = ("127.0.0.1", int(relay.url.rpartition("//")[0].rpartition(":")[2]))
            broker.accept()[0].close()  # the look whether it is there
            for _ in range(2):
                with socket.create_connection(here, 5) as client:
                    server, _ = broker.accept()
                    client.sendall(b"ring")
                    assert server.recv(4) == b"ring"
                    relay.cut()
                    assert client.recv(1) == b""
                    server.close()
                with pytest.raises(ConnectionRefusedError):
                    socket.create_connection(here, 5)
                relay.open()


def test_a_broker_that_is_not_there_is_named() -> None:
    """With what to do about it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(BrokerUnavailableError, match=f"{port}.*AGENTS_CHAOS_BROKER_URL"):
        Relay(f"amqp://127.0.0.1:{port}//").__enter__()
