"""A worker that a test moves by hand, and the doors that a client rings."""

from collections.abc import Sequence
from datetime import UTC, datetime

from shared.backend import Backend
from shared.conversation.protocol import Writer
from shared.errors import BrokerUnavailableError
from shared.event import DeltaEvent
from shared.ledger.protocol import WakeUp
from shared.message import Draft, Message, Role, user_draft
from shared.run import AgentInfo, Ending, Lease, Run, RunStatus, WorkerInfo

AGENT = "clerk"
COMPLETED = Ending(status=RunStatus.COMPLETED, output="done")


class Puppet:
    """Does with a backend what a worker does, one call at a time."""

    def __init__(self, backend: Backend, *agents: str, name: str = "puppet-1") -> None:
        self._backend = backend
        self._agents = agents or (AGENT,)
        self.name = name
        self._leases: dict[str, Lease] = {}
        self._positions: dict[str, int] = {}

    async def beat(self) -> None:
        await self._backend.ledger.beat(
            WorkerInfo(
                id=self.name,
                hostname="host",
                pid=1,
                version="1",
                concurrency=10,
                agents=tuple(AgentInfo(name=name, queue="agents") for name in self._agents),
                started_at=datetime.now(UTC),
            )
        )

    async def take(self, run_id: str) -> Run:
        """Lease a run and store its input."""
        await self.beat()
        lease = await self._backend.ledger.lease(run_id, self.name, agents=self._agents)
        assert lease is not None, f"{run_id} cannot be leased"
        self._leases[run_id] = lease
        claim = await self._backend.conversations.claim(
            lease.run.history_id, self._writer(run_id), limit=0
        )
        self._positions[run_id] = len(claim.own)
        if not claim.own:
            await self.write(run_id, user_draft(lease.run.input))
        return lease.run

    async def say(self, run_id: str, *texts: str) -> list[Message]:
        """Store an assistant's message for each text, in one append."""
        return await self.write(
            run_id, *(Draft(role=Role.ASSISTANT, content=text) for text in texts)
        )

    async def write(self, run_id: str, *drafts: Draft) -> list[Message]:
        start = self._positions[run_id]
        messages = [
            Message.from_draft(draft, run_id=run_id, position=start + index)
            for index, draft in enumerate(drafts)
        ]
        await self._backend.conversations.append(
            self._leases[run_id].run.history_id, messages, writer=self._writer(run_id)
        )
        self._positions[run_id] = start + len(drafts)
        return messages

    async def whisper(self, run_id: str, *pieces: str) -> None:
        """Publish text deltas of the message to come."""
        lease = self._leases[run_id]
        position, attempt = self._positions[run_id], lease.run.attempts
        await self._backend.ledger.publish(
            lease,
            [
                DeltaEvent(run_id=run_id, text=piece, position=position, attempt=attempt)
                for piece in pieces
            ],
        )

    async def finish(self, run_id: str, ending: Ending = COMPLETED) -> None:
        await self._backend.ledger.finish(self._leases[run_id], ending)

    async def hand_over(self, run_id: str) -> None:
        await self._backend.ledger.hand_over(self._leases[run_id])

    async def roll_back(self, run_id: str) -> None:
        """Remove what the run wrote, and end it."""
        lease = self._leases[run_id]
        await self._backend.conversations.retract(lease.run.history_id, self._writer(run_id))
        ending = Ending(status=RunStatus.CANCELLED)
        await self._backend.ledger.finish(lease, ending, is_rolled_back=True)

    def _writer(self, run_id: str) -> Writer:
        return Writer(run_id, self._leases[run_id].fencing_token)


class Doorbell:
    """A dispatcher that notes who was rung for, and breaks when told to."""

    def __init__(self, *, is_distributed: bool = False) -> None:
        self.is_distributed = is_distributed
        self.is_broken = False
        self.is_closed = False
        self.rung: list[str] = []

    async def ring(self, wake_ups: Sequence[WakeUp]) -> None:
        if self.is_broken:
            raise BrokerUnavailableError("The broker is away.")
        self.rung += [wake_up.run_id for wake_up in wake_ups]

    async def aclose(self) -> None:
        self.is_closed = True
