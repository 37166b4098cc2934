"""A sealed ledger: what is readable below it, and what happens to what cannot be opened."""

import json
from typing import Any

import pytest

from shared.encryption_key import EncryptionKey, Plaintext
from shared.errors import (
    IdempotencyConflictError,
    SealError,
    SealKeyError,
    TamperedError,
    UnsealedError,
)
from shared.event import DeltaEvent
from shared.ledger.memory import MemoryRunLedger
from shared.ledger.protocol import RunLedger
from shared.message import Sealed, Usage
from shared.notification.memory import MemoryNotifications
from shared.run import Ending, Lease, NewRun, Run, RunError, RunOptions, RunStatus
from shared.sealing.failure import KEY_TRIES, PLAIN_ERRORS
from shared.sealing.key_ring import KeyRing
from shared.sealing.ledger import SealedRunLedger, innermost_ledger
from shared.settings import Settings
from tests.contract.values import AGENT, COMPLETED, new_run, take, worker
from tests.unit.sealing.scene import key, ring

SECRET = "marker-word"
FAILED = Ending(
    status=RunStatus.FAILED,
    error=RunError(code="model_error", message=SECRET),
    usage=Usage(input_tokens=7),
    rounds=2,
)


@pytest.fixture
def below() -> MemoryRunLedger:
    return MemoryRunLedger(MemoryNotifications(), Settings())


def sealed(below: RunLedger, *names: str, plaintext: Plaintext = "refuse") -> SealedRunLedger:
    return SealedRunLedger(below, ring(*names), plaintext=plaintext)


def secret_run(**fields: Any) -> NewRun:
    asked: dict[str, Any] = {
        "input": SECRET,
        "metadata": {"note": SECRET},
        "options": RunOptions(max_rounds=3),
    }
    return new_run("room", **asked | fields)


def tamper(below: MemoryRunLedger, run_id: str, **changes: Any) -> None:
    """Change a record past the wrapper."""
    below._runs.replace(below._runs[run_id].model_copy(update=changes))


def everything(below: MemoryRunLedger) -> str:
    """All that the ledger holds, as text."""
    return repr(below._runs._runs) + repr(below._events._events)


class TestWhatIsReadable:
    async def test_nothing_that_was_said(self, below: MemoryRunLedger) -> None:
        """Input, metadata, options, deltas, output and error: the ledger holds none of them."""
        ledger = sealed(below, "a")
        for ending in (COMPLETED.model_copy(update={"output": {"is": SECRET}}), FAILED):
            new = secret_run()
            run = (await ledger.submit(new)).run
            lease = await take(ledger, run.id)
            delta = DeltaEvent(run_id=run.id, text=SECRET, position=1, attempt=1)
            await ledger.publish(lease, [delta])
            await ledger.finish(lease, ending)
            assert SECRET not in everything(below)
            assert (await below.get(run.id)).options == RunOptions()
            read = await ledger.get(run.id)
            assert (read.input, read.metadata, read.options) == (
                new.input, new.metadata, new.options,
            )  # fmt: skip
            assert (read.output, read.error) == (ending.output, ending.error)
            assert (read.usage, read.rounds) == (ending.usage, ending.rounds)
            texts = [e.text for e in await ledger.list_events(run.id) if isinstance(e, DeltaEvent)]
            assert texts == [SECRET]

    async def test_equal_requests_do_not_look_equal(self, below: MemoryRunLedger) -> None:
        """Neither in their seals nor in their digests, and no digest is one of the input alone."""
        ledger = sealed(below, "a")
        plain = MemoryRunLedger(MemoryNotifications(), Settings())
        runs = []
        for place in ("k1", "k2", None):
            new = secret_run(idempotency_key=place)
            await ledger.submit(new)
            await plain.submit(new)
            runs.append(await below.get(new.id))
        digests = [run.request_digest for run in runs]
        assert len(set(digests)) == 3
        assert digests[2] == "", "nobody compares it"
        assert len({run.sealed.data for run in runs if run.sealed}) == 3
        other = sealed(MemoryRunLedger(MemoryNotifications(), Settings()), "b")
        again = secret_run(idempotency_key="k1")
        await other.submit(again)
        assert (await innermost_ledger(other).get(again.id)).request_digest not in digests

    async def test_an_older_worker_does_not_get_it(self, below: MemoryRunLedger) -> None:
        """It would read an empty input."""
        ledger = sealed(below, "a")
        run = (await ledger.submit(secret_run())).run
        assert (run.version, run.needs_version) == (1, 2)
        await ledger.beat(worker())
        assert await below.lease(run.id, "worker-1", agents=[AGENT], version=1) is None
        assert await ledger.lease(run.id, "worker-1", agents=[AGENT]) is not None


class TestIdempotency:
    @pytest.mark.parametrize(
        ("first", "then"),
        [(("a",), ("b", "a")), (("a", "b"), ("b", "a")), (("b", "a"), ("a", "b"))],
    )
    async def test_a_key_gives_one_run_over_a_rotation(
        self, below: MemoryRunLedger, first: tuple[str, ...], then: tuple[str, ...]
    ) -> None:
        """Digests depend on the key that writes; the same request is the same all the same."""
        before = await sealed(below, *first).submit(secret_run(idempotency_key="k"))
        again = await sealed(below, *then).submit(secret_run(idempotency_key="k"))
        assert (again.is_new, again.run.id) == (False, before.run.id)
        for changed in ({"input": "else"}, {"agent": "other"}):
            with pytest.raises(IdempotencyConflictError) as caught:
                await sealed(below, *then).submit(secret_run(idempotency_key="k", **changed))
            assert caught.value.run_id == before.run.id

    async def test_a_key_from_before_encryption_is_known(self, below: MemoryRunLedger) -> None:
        """Where plain runs are accepted; elsewhere that is said, and no second run is made."""
        before = await SealedRunLedger(below).submit(secret_run(idempotency_key="k"))
        lenient = sealed(below, "a", plaintext="read")
        assert (await lenient.submit(secret_run(idempotency_key="k"))).run.id == before.run.id
        with pytest.raises(UnsealedError):
            await sealed(below, "a").submit(secret_run(idempotency_key="k"))
        assert len(await below.list_runs()) == 1

    async def test_encryption_is_turned_on_without_a_gap(self, below: MemoryRunLedger) -> None:
        """Processes of each step know the runs and idempotency keys of those beside them."""
        keyless = SealedRunLedger(below)
        prepared = sealed(below, "a", plaintext="write")
        lenient = sealed(below, "a", plaintext="read")
        first = await keyless.submit(secret_run(idempotency_key="k"))
        for ledger in (prepared, lenient):
            again = await ledger.submit(secret_run(idempotency_key="k"))
            assert (again.is_new, again.run.id) == (False, first.run.id)
        second = await lenient.submit(secret_run(idempotency_key="j"))
        again = await prepared.submit(secret_run(idempotency_key="j"))
        assert (again.is_new, again.run.id) == (False, second.run.id)
        await below.beat(worker())
        lease = await prepared.lease(first.run.id, "worker-1", agents=[AGENT])
        assert lease is not None
        await prepared.finish(lease, COMPLETED)
        for ledger in (keyless, prepared, lenient):
            assert (await ledger.get(first.run.id)).output == "done"

    async def test_options_are_no_part_of_the_request(self, below: MemoryRunLedger) -> None:
        """As without encryption."""
        ledger = sealed(below, "a")
        await ledger.submit(secret_run(idempotency_key="k"))
        assert not (await ledger.submit(secret_run(idempotency_key="k", metadata={}))).is_new


class TestTampering:
    @pytest.fixture
    async def run(self, below: MemoryRunLedger) -> Run:
        """A run that failed."""
        ledger = sealed(below, "a")
        lease = await take(ledger, (await ledger.submit(secret_run(idempotency_key="k"))).run.id)
        await ledger.finish(lease, FAILED)
        return await below.get(lease.run.id)

    @pytest.mark.parametrize(
        "changes",
        [
            {"agent": "other"},
            {"conversation_id": "elsewhere"},
            {"idempotency_key": "other"},
            {"priority": 0},
            {"version": 3},
            {"status": RunStatus.COMPLETED},
            {"sealed": None},
            {"sealed": None, "input": "forged"},
            {"sealed_outcome": None},
            {"sealed_outcome": None, "output": "forged", "status": RunStatus.COMPLETED},
            {"sealed_outcome": None, "output": "forged", "error": None},
            {"sealed_outcome": None, "error": RunError(code="forged", message="call 555")},
            {"sealed_outcome": None, "status": RunStatus.COMPLETED},
        ],
    )
    async def test_a_record_that_was_changed_is_refused(
        self, below: MemoryRunLedger, run: Run, changes: dict[str, Any]
    ) -> None:
        """By everything that would return it; lists as well: to leave it out would hide it."""
        tamper(below, run.id, **changes)
        for read in (
            sealed(below, "a").get(run.id),
            sealed(below, "a").list_runs(),
            sealed(below, "a").submit(secret_run(idempotency_key="k").model_copy(
                update={"id": run.id})),
        ):  # fmt: skip
            with pytest.raises(SealError):
                await read
        assert (await below.get(run.id)).id == run.id, "nothing was removed"

    async def test_parts_of_runs_cannot_be_exchanged(
        self, below: MemoryRunLedger, run: Run
    ) -> None:
        """Not between runs, and not a request for an outcome."""
        other = await sealed(below, "a").submit(secret_run())
        theirs = (await below.get(other.run.id)).sealed
        for changes in (
            {"sealed": theirs},
            {"sealed": run.sealed_outcome},
            {"sealed_outcome": run.sealed},
        ):
            tamper(below, run.id, **{"sealed": run.sealed, **changes})
            with pytest.raises(TamperedError):
                await sealed(below, "a").get(run.id)

    async def test_numbers_are_those_that_were_sealed(
        self, below: MemoryRunLedger, run: Run
    ) -> None:
        """The readable ones are for whoever counts without keys."""
        tamper(below, run.id, usage=Usage(input_tokens=10**9), rounds=99)
        read = await sealed(below, "a").get(run.id)
        assert (read.usage, read.rounds) == (FAILED.usage, FAILED.rounds)

    async def test_a_failure_in_clear_is_shown_in_fixed_words(
        self, below: MemoryRunLedger, run: Run
    ) -> None:
        """Ledgers and workers without keys say such things; anybody could have written the text."""
        for code, words in PLAIN_ERRORS.items():
            error = RunError(code=code, message="call 555")
            tamper(below, run.id, sealed_outcome=None, output=None, error=error)
            read = await sealed(below, "a").get(run.id)
            assert read.error == RunError(code=code, message=words)

    @pytest.mark.parametrize("change", ["text", "position", "strip"])
    async def test_deltas_are_bound_to_their_place(
        self, below: MemoryRunLedger, change: str
    ) -> None:
        """And refused without a seal."""
        ledger = sealed(below, "a")
        lease = await take(ledger, (await ledger.submit(secret_run())).run.id)
        delta = DeltaEvent(run_id=lease.run.id, text=SECRET, position=1, attempt=1)
        await ledger.publish(lease, [delta])
        stored = below._events._events[lease.run.id]
        number, event = next((n, e) for n, e in stored.items() if isinstance(e, DeltaEvent))
        assert event.sealed is not None
        updates: dict[str, dict[str, Any]] = {
            "text": {"sealed": event.sealed.model_copy(update={"data": "AAAA"})},
            "position": {"position": 2},
            "strip": {"sealed": None, "text": "forged"},
        }
        stored[number] = event.model_copy(update=updates[change])
        with pytest.raises(SealError):
            await ledger.list_events(lease.run.id)

    async def test_layers_that_nobody_writes_are_refused(self, below: MemoryRunLedger) -> None:
        """Though they were encrypted with the right key."""
        ledger = sealed(below, "a")
        run = (await ledger.submit(secret_run())).run
        from shared.sealing.binding import facts_of_request

        record = await below.get(run.id)
        odd = ring("a").seal(
            b"{}", scope=f"run:{run.id}", facts=facts_of_request(record), layers=["zstd"]
        )
        tamper(below, run.id, sealed=odd)
        with pytest.raises(TamperedError):
            await ledger.get(run.id)


class TestWithoutKeys:
    async def test_it_is_a_guard(self, below: MemoryRunLedger) -> None:
        """Request, outcome and deltas are not handed out as if they were empty."""
        ledger, keyless = sealed(below, "a"), SealedRunLedger(below)
        lease = await take(ledger, (await ledger.submit(secret_run())).run.id)
        delta = DeltaEvent(run_id=lease.run.id, text=SECRET, position=1, attempt=1)
        await ledger.publish(lease, [delta])
        for read in (
            keyless.get(lease.run.id),
            keyless.list_runs(),
            keyless.list_events(lease.run.id),
            keyless.clear_strikes(lease),
        ):
            with pytest.raises(SealKeyError, match="Set AGENTS_ENCRYPTION_KEYS"):
                await read
        await ledger.finish(lease, COMPLETED)
        tamper(below, lease.run.id, sealed=None)
        with pytest.raises(SealKeyError, match="The outcome"):
            await keyless.get(lease.run.id)
        assert (await keyless.cancel(lease.run.id)).result.value == "already_ended"


async def lease_all(ledger: SealedRunLedger, run_id: str) -> tuple[int, SealError]:
    """Lease a run until it has ended; how often that took, and the last error."""
    await ledger.beat(worker())
    for tries in range(1, 50):
        with pytest.raises(SealError) as caught:
            await ledger.lease(run_id, "worker-1", agents=[AGENT])
        if (await innermost_ledger(ledger).get(run_id)).status.is_final:
            return tries, caught.value
    raise AssertionError("it goes on for ever")


class TestLease:
    """A run that cannot be opened by the worker that takes it."""

    async def test_a_tampered_request_fails_at_once(self, below: MemoryRunLedger) -> None:
        """No worker could execute it; its conversation goes on."""
        ledger = sealed(below, "a")
        run = (await ledger.submit(secret_run())).run
        following = (await ledger.submit(secret_run())).run
        record = await below.get(run.id)
        assert record.sealed is not None
        tamper(below, run.id, sealed=record.sealed.model_copy(update={"data": "AAAA"}))
        assert (await lease_all(ledger, run.id))[0] == 1
        tamper(below, run.id, sealed=record.sealed)
        ended = await ledger.get(run.id)
        assert ended.error is not None
        assert (ended.status, ended.error.code) == (RunStatus.FAILED, "seal_broken")
        assert (await take(ledger, following.id)).run.input == SECRET

    async def test_a_request_in_clear_fails_at_once(self, below: MemoryRunLedger) -> None:
        """Somebody without keys put it there; it is not executed."""
        run = (await SealedRunLedger(below).submit(secret_run())).run
        ledger = sealed(below, "a")
        assert (await lease_all(ledger, run.id))[0] == 1
        ended = await sealed(below, "a", plaintext="read").get(run.id)
        assert ended.error is not None
        assert ended.error.code == "not_encrypted"

    @pytest.mark.parametrize("names", [(), ("b",)])
    async def test_a_missing_key_leaves_it_to_others_and_not_for_ever(
        self, below: MemoryRunLedger, names: tuple[str, ...]
    ) -> None:
        """Each such lease is given back; the fifth one fails the run, in words all can read."""
        run = (await sealed(below, "a").submit(secret_run())).run
        lacking = sealed(below, *names) if names else SealedRunLedger(below)
        tries, error = await lease_all(lacking, run.id)
        assert tries == KEY_TRIES
        assert isinstance(error, SealKeyError)
        ended = await sealed(below, "a", "b").get(run.id)
        assert ended.error is not None
        assert (ended.status, ended.error.code) == (RunStatus.FAILED, "key_missing")
        assert ended.crashes == 0

    async def test_a_worker_with_the_key_takes_what_others_gave_back(
        self, below: MemoryRunLedger
    ) -> None:
        """As in a rotation that some workers have not heard of."""
        run = (await sealed(below, "b").submit(secret_run())).run
        await below.beat(worker())
        with pytest.raises(SealKeyError):
            await sealed(below, "a").lease(run.id, "worker-1", agents=[AGENT])
        lease = await sealed(below, "a", "b").lease(run.id, "worker-1", agents=[AGENT])
        assert isinstance(lease, Lease)
        assert (lease.run.input, lease.run.attempts) == (SECRET, 2)


def test_a_seal_in_json_is_what_the_document_says() -> None:
    """Stored names are compatibility data."""
    body = json.loads(Sealed(layers=("zstd",), data="AAAA").model_dump_json())
    assert body == {"layers": ["zstd"], "data": "AAAA"}
    assert KeyRing([key("a")]).ids == ("a",)
    assert EncryptionKey("a", b"").id == "a"
