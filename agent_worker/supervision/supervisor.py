"""The supervisor: a process that keeps workers alive, each a process, and serves nothing itself.

It knows no agents, no Celery and no Redis, so there is little that it could die of. Its processes
are this very command, started afresh.

    start    One process first. What it finds wrong with the set-up, it says, once, and that is
             the end. When it has come up, the others follow.
    a death  The place is filled again after a pause; see `Restarts`. The others do not notice.
    leaving  A signal goes to each process, once, and all of them are waited for. One that does not
             keep its promise, the grace and 5 s, is killed after as long again.
    its own  Lifelines end with the supervisor, whatever ended it; who sees its own end leaves.
"""

import asyncio
import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import structlog

from agent_worker.leave_signals import LEAVE_SIGNALS, URGENT_SIGNALS
from agent_worker.supervision.child import Child
from agent_worker.supervision.restarts import Ending, Restarts

LEAVE_S: Final = 10.0
"""What a process may take to leave besides the grace of its tools. It promises half of that; but on
a busy machine it may be late, and who is killed has not handed over."""
OK: Final = 0
FAILED: Final = 1
_GOOD_ENDS: Final = frozenset({OK, -signal.SIGTERM})
"""How a process may end that was told to leave. One that had not begun dies of SIGTERM itself."""

log = structlog.get_logger()


def usable_cores() -> int:
    """Processor cores that this process may use. A container's quota of their time is not seen."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on every system
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


class Supervisor:
    """Keeps so many processes of a command alive. `run` can be called once, on the main thread.

    `grace_s` is how long the tools of a worker that leaves may go on. A process that ends with
    `refusal_code` found its set-up wrong, and has said so.
    """

    def __init__(
        self, command: Sequence[str], processes: int, *, grace_s: float, refusal_code: int
    ) -> None:
        self._command = command
        self._processes = processes
        self._grace_s = grace_s
        self._refusal_code = refusal_code
        self._children: set[Child] = set()
        self._has_worked = False
        self._may_follow = asyncio.Event()
        self._is_closing = asyncio.Event()
        self._is_leaving = False
        self._urgency = 0
        self._code = OK

    def run(self) -> int:
        """Supervise until a signal arrives and all have left; return the exit code.

        It is 0 where all left as they should, 1 where one did not, and `refusal_code` where none is
        left because the set-up is wrong.
        """
        code = asyncio.run(self.supervise())
        for number in LEAVE_SIGNALS:
            signal.signal(number, signal.SIG_IGN)  # who repeats SIGTERM now changes nothing
        return code

    async def supervise(self) -> int:
        """What `run` does, on a loop of the main thread."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGCHLD, self._look)
        for number in LEAVE_SIGNALS:
            loop.add_signal_handler(number, self._on_signal, number)
        log.info("supervisor.started", pid=os.getpid(), processes=self._processes)
        async with asyncio.TaskGroup() as places:
            for place in range(self._processes):
                places.create_task(self._keep(place), name=f"place-{place}")
        if self._is_leaving:
            log.info("supervisor.exited", pid=os.getpid(), code=self._code)
        return self._code

    async def _keep(self, place: int) -> None:
        """Keep a process in a place for as long as there shall be one."""
        if place > 0:
            await self._may_follow.wait()
        restarts = Restarts(self._refusal_code)
        while not self._is_closing.is_set():
            ending = await self._live()
            if self._is_leaving:
                self._judge(ending)
                return
            pause_s = restarts.pause_s(ending, has_worked=self._has_worked)
            if pause_s is None:
                self._give_up(ending)
                return
            log.warning("process.died", **ending.facts, restart_in_s=pause_s)
            await self._pause(pause_s)

    async def _live(self) -> Ending:
        """Start a process and wait for its end."""
        try:
            child = Child(self._command)
        except OSError as error:  # the machine has no more processes to give, or memory
            log.error("process.not_started", error=str(error))
            return Ending(None, FAILED, 0.0)
        log.info("process.started", pid=child.pid)
        self._children.add(child)
        if await child.is_up:
            self._has_worked = True
            self._may_follow.set()
        ending = await child.ended
        self._children.discard(child)
        return ending

    async def _pause(self, pause_s: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await self._is_closing.wait()

    def _judge(self, ending: Ending) -> None:
        if ending.code not in _GOOD_ENDS:
            log.warning("process.died", **ending.facts)
            self._code = FAILED

    def _give_up(self, ending: Ending) -> None:
        """Leave a place empty; with all of them empty, that is the end."""
        self._code = self._refusal_code
        if self._has_worked:
            log.error("process.given_up", **ending.facts)
        else:
            self._close()  # the process has said why, and any other would only repeat it

    def _close(self) -> None:
        """Let no further process be started."""
        self._is_closing.set()
        self._may_follow.set()

    def _look(self) -> None:
        for child in self._children:
            child.look()

    def _on_signal(self, number: int) -> None:
        """Pass it on. The first is one wish, whichever it is; later ones mean what they are."""
        if self._is_leaving:
            self._urgency += number in URGENT_SIGNALS
            if self._urgency > 1:
                self._kill()
            else:
                self._tell(number)
            return
        self._is_leaving = True
        self._code = OK
        log.info("supervisor.stopping", pid=os.getpid(), processes=len(self._children))
        self._close()
        # A process that has no handlers yet dies of this one without a word, and has no runs.
        self._tell(signal.SIGTERM)
        asyncio.get_running_loop().call_later(self._grace_s + LEAVE_S, self._kill)

    def _tell(self, number: int) -> None:
        for child in self._children:
            child.send(number)

    def _kill(self) -> None:
        for child in self._children:
            log.warning("process.killed", pid=child.pid)
            child.kill()
