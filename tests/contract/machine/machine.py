"""The state machine: the steps, in random orders.

Numbers that a step draws stand for whatever there is to choose from at that moment, so hardly a
step has nothing to do.
"""

import asyncio
from collections import Counter
from collections.abc import Coroutine, Sequence
from typing import Any, ClassVar, Final, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from shared.run import BusyPolicy, NewRun, RunOptions
from tests.contract.machine.drain import drain
from tests.contract.machine.gate import Call
from tests.contract.machine.log_watch import LogWatch
from tests.contract.machine.node import Node
from tests.contract.machine.stage import Stage
from tests.contract.machine.world import EVERYBODYS, NOBODYS, NODES, ONE_WORKERS, World

CONVERSATIONS: Final = ("room-0", "room-0", "room-1", None)
AGENTS: Final = (*(EVERYBODYS,) * 6, ONE_WORKERS, NOBODYS)
KEYS: Final = (None, None, None, "key-0", "key-1")
SPANS: Final = ((13_000,), (43_000,), (38_000,) * 3)
"""Seconds between beats. No sum of them comes near what anything waits for."""

HAPPENS: Final = "happens"
FATES: Final = (*(HAPPENS,) * 9, "answer lost", "call lost", "call late")
Moves = Sequence[tuple[int, str]]

Value = TypeVar("Value")
places = st.integers(0, len(NODES) - 1)
choices = st.integers(0, 31)
move = st.sampled_from([(choice, fate) for choice in range(32) for fate in FATES])
moves = st.one_of(
    *(st.lists(move, min_size=size, max_size=size) for size in (0, 1, 2, 4, 8, 12, 16, 24))
)
"""What becomes of the calls of one worker, one after the other; choices are also its engines'."""


class StoreMachine(RuleBasedStateMachine):
    """See the rules."""

    stage: ClassVar[Stage]
    logs: ClassVar[LogWatch]
    loop: ClassVar[asyncio.AbstractEventLoop]
    tally: ClassVar[Counter[str]]
    """How often which step did what."""

    def __init__(self) -> None:
        super().__init__()
        self.is_broken = False
        self.world = World(self.stage, self.logs)
        self.do(self.world.open())

    def do(self, work: Coroutine[Any, Any, Value]) -> Value:
        """Do a step, then check everything."""

        async def checked() -> Value:
            value = await work
            await self.world.check()
            return value

        try:
            return self.loop.run_until_complete(checked())
        except BaseException:
            self.is_broken = True
            raise

    def note(self, step: str, what: str) -> None:
        """Count what a step did, so that one can see that it does something."""
        self.tally[f"{step}: {what}"] += 1

    # What clients do.

    @rule(
        conversation=st.sampled_from(CONVERSATIONS),
        agent=st.sampled_from(AGENTS),
        policy=st.sampled_from(BusyPolicy),
        key=st.sampled_from(KEYS),
        saves=st.booleans(),
        place=places,
        ring=st.sampled_from(["arrives", "arrives", "is late", "is never sent"]),
        moves=moves,
    )
    def submit(
        self,
        conversation: str | None,
        agent: str,
        policy: BusyPolicy,
        key: str | None,
        saves: bool,
        place: int,
        ring: str,
        moves: Moves,
    ) -> None:
        """A new run. Whoever gets an answer rings; a worker hears it at once, or later."""
        new = NewRun(
            id=self.world.new_run_id(conversation),
            conversation_id=conversation,
            agent=agent,
            input="hello",
            idempotency_key=key,
            on_busy=policy,
            options=RunOptions(save_on_iteration=saves),
        )
        self.world.asked.append(new)
        what = self.do(self.world.submit(new, is_answered=ring != "is never sent"))
        self.note("submit", f"{policy.value}: {what}")
        if ring == "arrives" and new.id in self.world.rings:
            self.world.rings.remove(new.id)
            self.do(self.world.nodes[place].hear_ring(new.id))
        if ring == "arrives" and "interrupts" in what and self.stopping:
            node, run_id = self.stopping[-1]
            self.do(node.hear_cancel(run_id))
            self.let_happen(node, moves)
        else:
            self.let_happen(self.world.nodes[place], moves)

    @precondition(lambda self: self.world.reference.active)
    @rule(choice=choices, what=st.sampled_from(["cancel", "cancel", "withdraw", "submit again"]))
    def come_back(self, choice: int, what: str) -> None:
        """A client stops a run, takes back what it could not ring for, or got no answer."""
        if what == "submit again":
            self.note(what, self.do(self.world.submit(_choose(self.world.asked, choice))))
            return
        run_id = self.choose_run(choice)
        if what == "withdraw":
            self.note(what, str(self.do(self.world.withdraw(run_id))))
        else:
            self.note(what, self.do(self.world.cancel(run_id)))

    # What workers do.

    @precondition(lambda self: self.world.reference.active)
    @rule(
        place=places,
        choice=choices,
        how=st.sampled_from(["once", "once", "to come again", "for no reason"]),
        moves=moves,
    )
    def ring(self, place: int, choice: int, how: str, moves: Moves) -> None:
        """A ring arrives, at any worker."""
        if how == "for no reason" or not self.world.rings:
            run_id = self.choose_run(choice)
        else:
            run_id = _choose(self.world.rings, choice)
            if how == "once":
                self.world.rings.remove(run_id)
        node = self.world.nodes[place]
        self.note("ring", how)
        self.do(node.hear_ring(run_id))
        self.let_happen(node, moves)

    @precondition(lambda self: self.world.reference.active)
    @rule(place=places, moves=moves)
    def sweep(self, place: int, moves: Moves) -> None:
        """A worker looks around, and perhaps works on what it finds."""
        node = self.world.nodes[place]
        self.note("sweep", "begun" if node.can_sweep else "the last one is not through")
        self.do(node.sweep())
        self.let_happen(node, moves)

    @precondition(lambda self: self.stopping)
    @rule(choice=choices, place=st.none() | places, moves=moves)
    def hear_cancel(self, choice: int, place: int | None, moves: Moves) -> None:
        """The hint that a run shall stop arrives, late, doubled, and at the wrong worker too."""
        node, run_id = _choose(self.stopping, choice)
        if place is not None:
            node = self.world.nodes[place]
        self.note("hear cancel", "active" if run_id in node.runtime.active else "not active")
        self.do(node.hear_cancel(run_id))
        self.let_happen(node, moves)

    def work(self, choice: int, moves: Moves) -> None:
        """Some of a worker's calls happen, one after the other; its engines decide."""
        self.let_happen(_choose(self.busy, choice), moves)

    # Nothing comes about without it, so it is there more than once.
    work_on = precondition(lambda self: self.busy)(rule(choice=choices, moves=moves)(work))
    work_off = precondition(lambda self: self.busy)(rule(choice=choices, moves=moves)(work))
    go_on = precondition(lambda self: self.busy)(rule(choice=choices, moves=moves)(work))

    @precondition(lambda self: self.world.late)
    @rule(choice=choices)
    def arrive_late(self, choice: int) -> None:
        """A call that was given up, or whose worker is gone, reaches the store."""
        call = _choose(self.world.late, choice)
        self.world.late.remove(call)
        self.note("late", self.do(self.world.arrive(call)))

    # What happens to workers.

    @precondition(lambda self: self.world.reference.active)
    @rule(span=st.sampled_from(SPANS), beating=st.sets(places), place=places, moves=moves)
    def pass_time(self, span: Sequence[int], beating: set[int], place: int, moves: Moves) -> None:
        """Some workers beat meanwhile; the others are frozen or cut off. Then one sweeps."""
        self.note("pass time", f"{len(beating)} workers beat")
        for seconds in span:
            self.do(self.world.pass_time(seconds))
            for other in sorted(beating):
                self.do(self.world.nodes[other].beat())
        self.do(self.world.nodes[place].sweep())
        self.let_happen(self.world.nodes[place], moves)

    @precondition(lambda self: self.busy)
    @rule(choice=choices, how=st.sampled_from(["killed", "told to stop", "out of grace"]))
    def end_worker(self, choice: int, how: str) -> None:
        """A worker is gone at once, or leaves; another process starts in its place."""
        node = _choose(self.busy, choice)
        self.note(how, f"with {min(len(node.runtime.active), 3)} runs")
        if how == "killed":
            return self.do(self.world.crash(self.world.nodes.index(node)))
        self.do(node.leave())
        if how == "out of grace":
            self.do(node.lose_patience())
        return self.replace_those_that_left()

    @property
    def busy(self) -> list[Node]:
        """Workers of which a call waits."""
        return [node for node in self.world.nodes if node.waiting]

    def choose_run(self, choice: int) -> str:
        """A run that has not ended; sometimes any."""
        runs = self.world.reference.runs
        live = [run_id for run_id, run in runs.items() if run.is_live]
        return _choose(
            live if live and choice % 4 else [one.id for one in self.world.asked], choice
        )

    def let_happen(self, node: Node, moves: Moves) -> None:
        """Let calls of a worker happen, or not; and let its engines decide."""
        for choice, fate in moves:
            if not node.waiting:
                break
            call = _choose(node.waiting, choice // 8)
            if call.verb == "decide":
                # Nothing of the store changes, so there is nothing to check.
                self.loop.run_until_complete(node.let(call, choice))
            elif fate == HAPPENS:
                self.note("call", f"{call.verb} happens")
                self.do(node.let(call))
            else:
                self.note("call", f"{call.verb}: {fate}")
                self.lose(node, call, fate)
        self.replace_those_that_left()

    def lose(self, node: Node, call: Call, fate: str) -> None:
        """The store does not answer: the call has happened, will not, or will when it is late."""
        if fate == "answer lost":
            return self.do(node.lose_answer(call))
        if fate == "call late":
            self.world.late.append(call)
        return self.do(node.lose_call(call))

    @property
    def stopping(self) -> list[tuple[Node, str]]:
        """Runs that shall stop, and who executes them."""
        return [
            (node, run_id)
            for node in self.world.nodes
            for run_id in sorted(node.runtime.active)
            if self.world.reference.runs[run_id].cancel
        ]

    def replace_those_that_left(self) -> None:
        for place, node in enumerate(self.world.nodes):
            if node.is_leaving and node.is_idle:
                self.do(self.world.replace(place))

    def note_ends(self) -> None:
        for run in self.world.reference.runs.values():
            self.note("run", f"{run.status.value} after {min(run.attempts, 5)} leases")
        for block in self.world.history.messages.values():
            self.note("history", f"{min(len(block) // 5 * 5, 20)} messages or more")

    def teardown(self) -> None:
        """Whatever the steps were, the runs end, even if only one worker is left."""
        try:
            if not self.is_broken:
                self.note_ends()
                self.do(drain(self.world))
                self.note("example", "drained")
        finally:
            self.loop.run_until_complete(self.world.close())


def _choose(things: Sequence[Value], choice: int) -> Value:
    return things[choice % len(things)]
