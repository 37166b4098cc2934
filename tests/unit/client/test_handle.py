"""The handle of a run: its record, its result, and stopping it."""

import asyncio
import time

import pytest

from agent_client import (
    AsyncAgentClient,
    AsyncRun,
    CancelResult,
    ResultTimeoutError,
    RunCancelledError,
    RunFailedError,
    RunStatus,
    Usage,
)
from shared.backend import Backend
from shared.errors import UnknownRunError
from shared.identifier import new_run_id
from shared.run import Ending, RunError
from tests.unit.client.puppet import AGENT, Doorbell, Puppet

FAILED = Ending(status=RunStatus.FAILED, error=RunError(code="model_error", message="no answer"))
CANCELLED = Ending(status=RunStatus.CANCELLED)


async def test_the_record_and_the_messages_can_be_read_at_any_time(
    run: AsyncRun, puppet: Puppet
) -> None:
    """get, status and history show where the run stands, without waiting for anything."""
    assert (await run.status(), await run.history()) == (RunStatus.QUEUED, [])
    await puppet.take(run.id)
    await puppet.say(run.id, "one")
    assert (await run.get()).worker_id == "puppet-1"
    assert [message.text for message in await run.history()] == ["hello", "one"]


async def test_a_result_is_pushed_to_who_waits(run: AsyncRun, puppet: Puppet) -> None:
    """All that wait get the outcome when the run ends; later it is there at once."""
    waiting = [asyncio.create_task(run.result()) for _ in range(3)]
    await puppet.take(run.id)
    await puppet.whisper(run.id, "piece")
    ending = Ending(
        status=RunStatus.COMPLETED, output={"answer": 42}, usage=Usage(input_tokens=7), rounds=2
    )
    await puppet.finish(run.id, ending)
    for outcome in [*await asyncio.gather(*waiting), await run.result()]:
        assert (outcome.output, outcome.rounds) == ({"answer": 42}, 2)
        assert outcome.usage.input_tokens == 7
    assert await run.output() == {"answer": 42}


async def test_a_result_that_takes_too_long_is_an_error_and_the_run_goes_on(
    run: AsyncRun, puppet: Puppet, backend: Backend
) -> None:
    """The timeout is the caller's; the run may be awaited again."""
    await puppet.take(run.id)
    started_at = time.monotonic()
    with pytest.raises(ResultTimeoutError, match=r"within 0.05 s; it goes on"):
        await run.result(timeout_s=0.05)
    assert time.monotonic() - started_at < 2
    assert await run.status() is RunStatus.RUNNING
    await puppet.finish(run.id)
    assert (await run.result(timeout_s=5)).output == "done"


async def test_a_result_ends_as_the_run_ended(run: AsyncRun, puppet: Puppet) -> None:
    """result reports a failure, output raises it with its reason."""
    await puppet.take(run.id)
    await puppet.finish(run.id, FAILED)
    outcome = await run.result()
    assert (outcome.status, outcome.error) == (RunStatus.FAILED, FAILED.error)
    with pytest.raises(RunFailedError, match=r"model_error\): no answer"):
        await run.output()


async def test_a_waiting_run_is_cancelled_at_once(run: AsyncRun) -> None:
    """Nobody has to be told; the outcome is there."""
    assert await run.cancel() is CancelResult.CANCELLED
    assert await run.cancel() is CancelResult.ALREADY_ENDED
    with pytest.raises(RunCancelledError):
        await run.output()


async def test_a_running_run_is_asked_to_stop(run: AsyncRun, puppet: Puppet) -> None:
    """Its worker stops it; until then the cancel is a request, and repeating it is harmless."""
    await puppet.take(run.id)
    assert await run.cancel() is CancelResult.REQUESTED
    assert await run.cancel() is CancelResult.ALREADY_REQUESTED
    assert (await run.get()).cancel_requested
    await puppet.finish(run.id, CANCELLED)
    assert await run.cancel() is CancelResult.ALREADY_ENDED


@pytest.mark.parametrize("is_broken", [False, True])
async def test_a_cancel_rings_for_the_run_that_comes_next(
    client: AsyncAgentClient, run: AsyncRun, doorbell: Doorbell, is_broken: bool
) -> None:
    """The next run of the conversation need not wait for a sweep, nor the cancel for a broker."""
    second = await client.submit(AGENT, "me too", conversation_id="web:ada")
    assert doorbell.rung == [run.id]
    doorbell.is_broken = is_broken
    assert await run.cancel() is CancelResult.CANCELLED
    assert doorbell.rung == ([run.id] if is_broken else [run.id, second.id])


async def test_what_is_asked_of_an_unknown_run_is_an_error(client: AsyncAgentClient) -> None:
    """No method takes an unknown id for a run that has nothing to say."""
    unknown = client.run(new_run_id(3))
    for asked in (unknown.get(), unknown.history(), unknown.result(), unknown.cancel()):
        with pytest.raises(UnknownRunError):
            await asked
    with pytest.raises(UnknownRunError):
        await anext(unknown.events())
