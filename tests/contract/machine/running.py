"""Runs the state machine over one stage."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import stamina
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.contract.machine.log_watch import LogWatch
from tests.contract.machine.machine import StoreMachine
from tests.contract.machine.stage import Stage

STEPS: Final = 50
GIVES_UP_AFTER: Final = 3
"""After so many lost answers in a row a worker gives a call up, instead of after a minute."""


@contextmanager
def watched(loop: asyncio.AbstractEventLoop) -> Iterator[LogWatch]:
    """Workers give up soon, and whatever goes wrong in one of them is kept."""
    logs = LogWatch()
    loop.set_exception_handler(logs.keep_exception)
    with logs.installed(), stamina.set_testing(True, attempts=GIVES_UP_AFTER - 1):
        yield logs


def run_machine(
    stage: Stage, loop: asyncio.AbstractEventLoop, *, examples: int, **options: Any
) -> Counter[str]:
    """Try so many sequences of steps; return how often which step did what.

    Which ones is left to chance, in CI too: a fixed choice would find what it finds on its first
    day and never again. What failed is kept in `.hypothesis` and tried first the next time, and
    the output names a blob that repeats it elsewhere.
    """
    tally = Counter[str]()
    with watched(loop) as logs:
        given = {"stage": stage, "logs": logs, "loop": loop, "tally": tally}
        machine = type("Machine", (StoreMachine,), given)
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=examples,
                stateful_step_count=STEPS,
                deadline=None,
                suppress_health_check=list(HealthCheck),
                print_blob=True,
                **options,
            ),
        )
    return tally
