"""The executor: leads one leased run to its outcome, or hands it on."""

import asyncio
import time
from collections.abc import Coroutine
from functools import partial
from typing import Any, Final

import structlog

from agent_worker.bounds import resolve_bounds
from agent_worker.context import RunInfo
from agent_worker.definition import AgentDefinition
from agent_worker.engine.protocol import EngineRequest
from agent_worker.execution.closing import (
    account,
    closing_drafts,
    describe,
    failed,
    recorded_error,
    summaries_usage,
)
from agent_worker.execution.deltas import DeltaStream
from agent_worker.execution.drive import Drive, Stop
from agent_worker.execution.persistence import insist, uninterrupted
from agent_worker.execution.tenure import Tenure
from agent_worker.execution.transcript import Transcript
from agent_worker.execution.view import View
from shared.backend import Backend
from shared.conversation.protocol import Claim, Writer
from shared.dispatch.protocol import Dispatcher
from shared.errors import (
    BrokerUnavailableError,
    FencedError,
    NewerVersionError,
    RollbackRequestedError,
    SealError,
    StoreUnavailableError,
    UnknownRunError,
)
from shared.identifier import is_alone
from shared.ledger.protocol import WakeUp
from shared.message import user_draft
from shared.run import Ending, Lease, RunStatus
from shared.sealing.failure import failure_of, is_for_others
from shared.settings import Settings

ENDING_PATIENCE_S: Final = 1.0
"""How long a worker that is being killed waits for a run's last status to be written."""
_OUT_OF_REACH: Final = (FencedError, UnknownRunError, StoreUnavailableError)
"""Errors after which this worker cannot, or must not, write an outcome."""

log = structlog.get_logger()


class Executor:
    """Executes one leased run, once. Made and used on the worker's event loop.

    Whatever `run` is interrupted by, what is stored is a prefix of the run's messages, and another
    worker continues from it. Each write may be repeated; none is made under a lost lease, since the
    stores refuse it.
    """

    def __init__(
        self,
        lease: Lease,
        definition: AgentDefinition,
        *,
        backend: Backend,
        dispatcher: Dispatcher,
        settings: Settings,
    ) -> None:
        self._lease = lease
        self._run = lease.run
        self._writer = Writer(lease.run.id, lease.fencing_token)
        self._engine = definition.engine
        self._bounds = resolve_bounds(lease.run.options, definition.options, settings)
        self._ledger = backend.ledger
        self._conversations = backend.conversations
        self._dispatcher = dispatcher
        self._settings = settings
        self._tenure = Tenure(self._check_lease, trusted_s=settings.heartbeat_s)
        self._drive: Drive | None = None
        self._transcript: Transcript | None = None
        self._stop: Stop | None = None
        self._is_declined = False
        self._started = time.monotonic()

    @property
    def fencing_token(self) -> int:
        """The token of the lease; a later lease of the same run has a greater one."""
        return self._lease.fencing_token

    @property
    def is_suspect(self) -> bool:
        """Whether the run may be what its workers died of. Ends when it stores a message."""
        return self._run.is_suspect

    @property
    def is_declined(self) -> bool:
        """Whether the run was given back because this worker lacks the key to open its history."""
        return self._is_declined

    # An engine is all that can be stopped. Once it has ended, the three have no effect.

    def cancel(self) -> None:
        """Stop the engine and end the run `cancelled`. The ledger knows of the wish already."""
        self._request(Stop.CANCEL)

    def drop(self) -> None:
        """Stop the engine and write nothing more: the run belongs to somebody else."""
        self._request(Stop.LOST)

    def hand_over(self, grace_s: float) -> None:
        """Give the run back at the next safe point, or after `grace_s` where it is."""
        if self._drive is not None:
            self._drive.leave(grace_s)
        else:
            self._request(Stop.HAND_OVER)

    async def run(self) -> None:
        """Execute the run. Returns when this worker has nothing more to do for it.

        How that came about is in the log; everybody else learns it from the ledger.
        """
        self._log_start()
        try:
            await self._lead()
        except (FencedError, UnknownRunError) as error:
            log.warning("run.lost", reason=str(error), duration_s=self._duration_s)
        except StoreUnavailableError as error:
            # The lease goes on with the heartbeats of this worker; its next sweep finds the run.
            log.error("run.abandoned", reason=str(error), duration_s=self._duration_s)
        except asyncio.CancelledError:
            log.warning("run.dropped", duration_s=self._duration_s)
            raise

    async def _lead(self) -> None:
        try:
            try:
                ending = await self._find_ending()
            except NewerVersionError as error:
                closing = self._decline(error)
            except SealError as error:
                closing = self._leave_sealed(error)
            else:
                closing = self._give_back() if ending is None else self._settle(ending)
            await self._shield(closing)
        except _OUT_OF_REACH:
            raise
        except Exception as error:
            log.exception("run.broken")
            await self._shield(self._settle_broken(failed("internal_error", describe(error))))

    async def _find_ending(self) -> Ending | None:
        """Do what is left to do of the run. None: it is to be handed over."""
        claim = await self._claim()
        self._transcript = Transcript(
            self._conversations, self._run.history_id, self._writer, claim, self._tenure
        )
        if self._run.cancel_requested:
            return Ending(status=RunStatus.CANCELLED)
        if claim.unreadable:
            return _history_unreadable(claim.unreadable)
        if not claim.own:
            self._transcript.add(user_draft(self._run.input))
        if (error := recorded_error(claim.own)) is not None:
            return Ending(status=RunStatus.FAILED, error=error)
        if self._run.strikes >= self._settings.max_crashes:
            return self._worker_lost()
        if self._bounds.save_on_iteration:
            await self._transcript.flush()
        return await self._drive_engine(claim, self._transcript)

    async def _claim(self) -> Claim:
        asked_at = time.monotonic()
        claim = await insist(
            partial(
                self._conversations.claim,
                self._run.history_id,
                self._writer,
                limit=self._bounds.window.first_read(self._bounds.history_size),
            )
        )
        self._tenure.renew(asked_at)
        return claim

    async def _check_lease(self) -> None:
        run = await insist(partial(self._ledger.get, self._run.id))
        if run.status is not RunStatus.RUNNING or run.fencing_token != self.fencing_token:
            raise FencedError("The lease ran out while this worker stood still.")

    async def _drive_engine(self, claim: Claim, transcript: Transcript) -> Ending | None:
        request = EngineRequest(
            run=self._run_info(),
            history=(),  # chosen when the drive has begun: it may take a model call
            own=transcript.messages,
            limits=self._bounds.engine,
            stream_text=self._bounds.stream_text,
        )
        view = View(
            claim,
            self._conversations,
            self._run.history_id,
            self._bounds,
            request.run,
            self._engine.info.model,
        )
        deltas = DeltaStream(self._ledger, self._lease)
        saves_each = self._bounds.save_on_iteration
        self._drive = Drive(
            self._engine,
            request,
            transcript,
            deltas,
            self._tenure,
            look_back=view.open,
            saves_each=saves_each,
            on_progress=self._clear_strikes if self._run.strikes else None,
        )
        if self._stop is not None:
            self._drive.stop(self._stop)
        ending = await self._drive.run(self._bounds.time_limit_s)
        if ending is None:
            return None
        took = ending.usage + summaries_usage(transcript.messages)
        return ending.model_copy(update={"usage": took})

    async def _clear_strikes(self) -> None:
        self._run = await insist(partial(self._ledger.clear_strikes, self._lease))

    async def _give_back(self) -> None:
        if self._bounds.save_on_iteration and self._transcript is not None:
            await self._transcript.flush()
        wake_up = await insist(partial(self._ledger.hand_over, self._lease))
        self._log_end("run.handed_over")
        await self._ring(wake_up)

    async def _decline(self, error: NewerVersionError) -> None:
        """Leave the run to newer workers: a history with holes is none to show to a model."""
        wake_up = await insist(
            partial(self._ledger.hand_over, self._lease, needs_version=error.version)
        )
        log.warning("run.declined", needs_version=error.version, reason=str(error))
        await self._ring(wake_up)

    async def _leave_sealed(self, error: SealError) -> None:
        """End a run whose history cannot be opened, or leave it to those who may have the key.

        Nothing of the history is removed, and no model has seen what could be opened of it.
        """
        if self._run.cancel_requested:
            return await self._settle(Ending(status=RunStatus.CANCELLED))
        if is_for_others(error, self._run.attempts):
            wake_up = await insist(partial(self._ledger.hand_over, self._lease))
            self._is_declined = True
            log.warning("run.declined", reason=str(error))
            return await self._ring(wake_up)
        log.error("history.sealed", reason=str(error))
        ending = Ending(status=RunStatus.FAILED, error=failure_of(error))
        if self._transcript is not None:
            return await self._settle(ending)
        # Where its messages cannot be read, its calls cannot be closed; windows pair them.
        return await self._finish(ending, is_rolled_back=True)

    async def _settle(self, ending: Ending) -> None:
        """Leave the history in good order, then store the outcome."""
        if ending.status is RunStatus.CANCELLED and await self._is_rollback_requested():
            return await self._roll_back()
        if self._transcript is not None:
            self._transcript.add(*closing_drafts(self._transcript.messages, ending))
            await self._transcript.flush()
        try:
            await self._finish(ending)
        except RollbackRequestedError:
            # Asked for since: whoever did so counts on a history without this run.
            await self._roll_back()

    async def _roll_back(self) -> None:
        await insist(partial(self._conversations.retract, self._run.history_id, self._writer))
        await self._finish(Ending(status=RunStatus.CANCELLED), is_rolled_back=True)

    async def _settle_broken(self, ending: Ending) -> None:
        """Fail a run of which this worker may hold a wrong picture: what is stored is the truth."""
        self._transcript = None
        try:
            claim = await self._claim()
            self._transcript = Transcript(
                self._conversations, self._run.history_id, self._writer, claim, self._tenure
            )
            await self._settle(ending)
        except _OUT_OF_REACH:
            raise
        except Exception:
            # Accepted means finished, even if the history cannot be closed.
            log.exception("history.unclosed")
            await self._finish(ending, is_rolled_back=True)

    async def _finish(self, ending: Ending, *, is_rolled_back: bool = False) -> None:
        if self._transcript is not None:
            ending = account(ending, self._transcript.messages)
        history = self._run.history_id
        if is_alone(history):
            # Before the last status: nobody would come back to do it after a crash in between.
            await insist(partial(self._conversations.expire, history, self._settings.run_ttl_s))
        next_run = await insist(
            partial(self._ledger.finish, self._lease, ending, is_rolled_back=is_rolled_back)
        )
        self._log_end(f"run.{ending.status.value}", ending)
        if next_run is not None:
            await self._ring(next_run)

    async def _ring(self, wake_up: WakeUp) -> None:
        try:
            await self._dispatcher.ring([wake_up])
        except BrokerUnavailableError as error:
            log.warning("ring.failed", for_run=wake_up.run_id, error=str(error))  # a sweep finds it

    async def _is_rollback_requested(self) -> bool:
        if self._run.rollback_requested:
            return True
        return (await insist(partial(self._ledger.get, self._run.id))).rollback_requested

    def _request(self, stop: Stop) -> None:
        self._stop = self._stop or stop
        if self._drive is not None:
            self._drive.stop(stop)

    async def _shield(self, closing: Coroutine[Any, Any, None]) -> None:
        await uninterrupted(closing, patience_s=ENDING_PATIENCE_S, name=f"closing:{self._run.id}")

    def _worker_lost(self) -> Ending:
        return failed(
            "worker_lost",
            f"{self._run.strikes} workers died one after the other at this point of the run, and "
            f"AGENTS_MAX_CRASHES is {self._settings.max_crashes}. Look into their logs, and at the "
            "last messages: a tool that takes too much memory, or holds up the event loop for "
            "longer than AGENTS_LEASE_S, does that.",
        )

    def _run_info(self) -> RunInfo:
        return RunInfo(
            run_id=self._run.id,
            agent=self._run.agent,
            conversation_id=self._run.conversation_id,
            attempt=self._run.attempts,
            metadata=self._run.metadata,
        )

    @property
    def _duration_s(self) -> float:
        return round(time.monotonic() - self._started, 3)

    def _log_start(self) -> None:
        structlog.contextvars.bind_contextvars(
            run_id=self._run.id,
            conversation_id=self._run.conversation_id,
            worker_id=self._lease.worker_id,
            fencing_token=self._lease.fencing_token,
        )
        log.info(
            "run.leased" if self._run.attempts <= 1 else "run.resumed",
            agent=self._run.agent,
            attempt=self._run.attempts,
            crashes=self._run.crashes,
        )

    def _log_end(self, event: str, ending: Ending | None = None) -> None:
        counts: dict[str, Any] = {}
        if self._transcript is not None:
            counts["messages"] = len(self._transcript.messages)
        if ending is not None:
            counts |= {"rounds": ending.rounds, "tokens": ending.usage.total_tokens}
            if ending.error is not None:
                counts["code"] = ending.error.code
        log.info(event, duration_s=self._duration_s, **counts)


def _history_unreadable(count: int) -> Ending:
    """To go on without these messages would mean to do again what they say was done."""
    return failed(
        "history_unreadable",
        f"{count} of the messages that this run has stored cannot be read, so that it cannot be "
        "continued. The log of the worker names them (entry.unreadable).",
    )
