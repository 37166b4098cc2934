"""Stores whose every answer is compared with the reference's."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, Final, cast

from shared.backend import Backend
from shared.conversation.protocol import Claim, ConversationStore
from shared.errors import AgentsError
from shared.ledger.protocol import Cancellation, RunLedger, Submission, Sweep, WakeUp
from shared.run import Lease, Run
from tests.contract.machine.reference_history import ReferenceHistory, Words, words
from tests.contract.machine.reference_ledger import ReferenceLedger, Swept


def _simple_claim(claim: Claim) -> tuple[list[Words], list[Words]]:
    return [words(one) for one in claim.earlier], [words(one) for one in claim.own]


def _simple_sweep(swept: Sweep) -> Swept:
    return Swept(
        reclaimed=frozenset(wake_up.run_id for wake_up in swept.reclaimed),
        overdue=frozenset(swept.overdue),
        suspects=frozenset(swept.suspects),
        cancelled=frozenset(swept.cancelled),
        leased=swept.leased,
    )


def _simple_submission(found: Submission) -> tuple[str, bool, bool, str | None]:
    return found.run.id, found.is_new, found.is_ready, found.interrupted


def _simple_cancellation(found: Cancellation) -> tuple[object, str | None]:
    return found.result, found.next.run_id if found.next else None


def _simple_wake_up(wake_up: WakeUp | None) -> str | None:
    return wake_up.run_id if wake_up else None


def _simple_run(run: Run) -> object:
    return run.status


_SIMPLE: Final[dict[str, Callable[[Any], object]]] = {
    "submit": _simple_submission,
    "finish": _simple_wake_up,
    "hand_over": _simple_wake_up,
    "cancel": _simple_cancellation,
    "sweep": _simple_sweep,
    "get": _simple_run,
    "clear_strikes": _simple_run,
    "claim": _simple_claim,
    "append": len,
}
"""Answers of the stores as the reference gives them; the others are the same anyway."""

_COMPARED: Final = frozenset(
    {
        *("submit", "withdraw", "lease", "finish", "hand_over", "cancel", "sweep", "get"),
        *("beat", "retire", "claim", "append", "retract", "expire", "clear_strikes"),
    }
)


class _Observed:
    """A store that is compared with the reference, call by call."""

    def __init__(self, store: Any, reference: Any) -> None:
        self._store = store
        self._reference = reference

    def __getattr__(self, name: str) -> Any:
        if name in _COMPARED:
            return partial(self._compare, name)
        return getattr(self._store, name)

    async def _compare(self, verb: str, *args: Any, **kwargs: Any) -> Any:
        expected: object
        try:
            expected = getattr(self._reference, verb)(*args, **kwargs)
        except AgentsError as error:
            expected = type(error)
        try:
            answer = await getattr(self._store, verb)(*args, **kwargs)
        except AgentsError as error:
            if type(error) is not expected:
                raise AssertionError(f"{verb}: not {expected}, but an error") from error
            raise
        if verb == "lease":
            self._compare_lease(answer, expected)
            return answer
        found = _SIMPLE.get(verb, _same)(answer)
        if isinstance(expected, Swept) and isinstance(found, Swept):
            found = _with_all_suspects(found, expected)
        assert found == expected, f"{verb}: {found} instead of {expected}"
        return _in_fixed_order(answer) if verb == "sweep" else answer

    def _compare_lease(self, lease: Lease | None, expected: object) -> None:
        assert (lease is not None) is expected, f"lease: {lease} instead of {expected}"
        if lease is None:
            return
        known = self._reference.runs[lease.run.id]
        self._reference.took(lease.run.id, lease.fencing_token)
        assert lease.fencing_token == lease.run.fencing_token == known.token
        assert lease.worker_id == lease.run.worker_id == known.worker


def observed(backend: Backend, ledger: ReferenceLedger, history: ReferenceHistory) -> Backend:
    """The same stores; an answer that the reference does not expect raises AssertionError."""
    return dataclasses.replace(
        backend,
        ledger=cast(RunLedger, _Observed(backend.ledger, ledger)),
        conversations=cast(ConversationStore, _Observed(backend.conversations, history)),
    )


def _with_all_suspects(found: Swept, expected: Swept) -> Swept:
    """One suspect is enough, so how many of them are named is the store's affair."""
    is_enough = found.suspects and found.suspects <= expected.suspects
    return dataclasses.replace(found, suspects=expected.suspects) if is_enough else found


def _same(answer: object) -> object:
    return answer


def _in_fixed_order(swept: Sweep) -> Sweep:
    """Runs that were due in one millisecond, or in one set of Redis, come in any order.

    A sequence of steps that failed has to fail again, so they do not here.
    """
    return dataclasses.replace(
        swept,
        reclaimed=tuple(sorted(swept.reclaimed, key=lambda wake_up: wake_up.run_id)),
        overdue=tuple(sorted(swept.overdue)),
        suspects=tuple(sorted(swept.suspects)),
        cancelled=tuple(sorted(swept.cancelled)),
    )
