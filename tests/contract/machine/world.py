"""The world of one example: a store, its reference, workers, and what is on its way to them."""

import asyncio
from collections.abc import Sequence
from typing import Final

from shared.errors import AgentsError
from shared.identifier import new_run_id, partition_of
from shared.ledger.protocol import WakeUp
from shared.run import NewRun, Run
from tests.contract.machine.gate import Call
from tests.contract.machine.invariants import (
    check_histories,
    check_indexes,
    check_runs,
    check_transitions,
)
from tests.contract.machine.log_watch import LogWatch
from tests.contract.machine.node import Node
from tests.contract.machine.observed import observed
from tests.contract.machine.reference_history import ReferenceHistory
from tests.contract.machine.reference_ledger import ReferenceLedger
from tests.contract.machine.snapshot import Snapshot
from tests.contract.machine.stage import Stage

EVERYBODYS: Final = "clerk"
ONE_WORKERS: Final = "painter"
NOBODYS: Final = "ghost"
NODES: Final = ((EVERYBODYS, ONE_WORKERS), (EVERYBODYS,), (EVERYBODYS,))
"""Which agents the worker in each place serves."""


class World:
    """Every change goes through here, so that each is followed by a check."""

    def __init__(self, stage: Stage, logs: LogWatch) -> None:
        self.stage = stage
        self.reference = ReferenceLedger(stage.settings)
        self.history = ReferenceHistory()
        self.nodes: list[Node] = []
        self.rings: list[str] = []
        self.late: list[Call] = []
        self.asked: list[NewRun] = []
        self._logs = logs
        self._gone: list[Node] = []
        self._workers = 0
        self._before: dict[str, Run] = {}

    async def open(self) -> None:
        """Start with an empty store and a live worker in each place."""
        self.backend = observed(await self.stage.open(), self.reference, self.history)
        self.nodes = [self.new_node(agents) for agents in NODES]
        for node in self.nodes:
            await node.beat()

    def new_node(self, agents: Sequence[str]) -> Node:
        """Another worker, which has not beaten yet."""
        self._workers += 1
        return Node(
            f"worker-{self._workers}", self.backend, self.stage.settings, agents, self._ring
        )

    def new_run_id(self, conversation_id: str | None) -> str:
        """A run id that is the same each time that the same steps are done."""
        partition = 7 if conversation_id is None else partition_of(conversation_id)
        prefix = new_run_id(partition)[: len("run-0-")]
        return f"{prefix}{len(self.asked):032x}"

    async def submit(self, new: NewRun, *, is_answered: bool = True) -> str:
        """Submit a run, and ring for it where the answer arrives; what became of it, in a word."""
        try:
            submission = await self.backend.ledger.submit(new)
        except AgentsError as error:
            return type(error).__name__
        if is_answered and submission.is_ready:
            self.rings.append(submission.run.id)
        what = "new" if submission.is_new else "known"
        return f"{what}, interrupts" if submission.interrupted else what

    async def cancel(self, run_id: str) -> str:
        """Stop a run, and ring for the one that comes next."""
        try:
            found = await self.backend.ledger.cancel(run_id)
        except AgentsError as error:
            return type(error).__name__
        if found.next is not None:
            self.rings.append(found.next.run_id)
        return found.result.value

    async def withdraw(self, run_id: str) -> bool:
        """Take a run back."""
        return await self.backend.ledger.withdraw(run_id)

    async def pass_time(self, seconds: float) -> None:
        """Let it be later for the store and for the reference."""
        self.reference.now += seconds
        await self.stage.pass_time(seconds)

    async def crash(self, place: int, *, is_replaced: bool = True) -> None:
        """A worker is gone. What it had sent may arrive yet. Another one may come in its place."""
        gone = self.nodes[place]
        self.late += [call for call in gone.waiting if call.verb != "decide"]
        if is_replaced:
            await self.replace(place)

    async def replace(self, place: int) -> None:
        """A new worker in the place of one that is gone."""
        self._gone.append(self.nodes[place])
        node = self.nodes[place] = self.new_node(NODES[place])
        await node.beat()

    async def arrive(self, call: Call) -> str:
        """A call that its worker had given up reaches the store after all."""
        try:
            await call.perform()
        except AgentsError as error:
            return f"{call.verb} {type(error).__name__}"
        return f"{call.verb} done"

    async def check(self) -> Snapshot:
        """All that has to hold after every step."""
        found = await self.stage.look()
        check_transitions(self._before, found.runs)
        check_runs(found, self.reference)
        check_indexes(found, self.reference)
        check_histories(found, self.history)
        for node in self.nodes:
            node.check_engines()
        self._logs.check()
        self._before = dict(found.runs)
        return found

    async def close(self) -> None:
        """End whatever still waits."""
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for task in tasks:
            if not task.cancelled():
                task.exception()

    def _ring(self, wake_ups: Sequence[WakeUp]) -> None:
        self.rings += [wake_up.run_id for wake_up in wake_ups]
