"""Runs of a Pydantic AI agent that DBOS makes durable, submitted through a queue of DBOS."""

import asyncio
import math
import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path

import _work
from _work import Message, Work
from chat_form import chat_form
from dbos import DBOSClient
from pydantic_ai.messages import ModelResponse

POLL_S = 0.1
"""How often the driver asks for a result that is not there yet."""


@contextmanager
def workers(work: Work) -> Iterator[DBOSClient]:
    """Start them; give a client of theirs."""
    environment = {
        "PEER_ROUNDS": str(work.rounds),
        "PEER_LATENCY_S": str(work.latency_s),
        "PEER_AT_ONCE": str(math.ceil(work.runs / work.workers)),
    }
    with ExitStack() as running:
        for number in range(work.workers):
            name = f"worker-{number}"
            running.enter_context(_work.started([sys.executable, "worker.py", name], environment))
            # One after the other: the first one makes the tables.
            _work.wait_until((Path(os.environ["PEER_FOLDER"]) / name).exists)
        client = DBOSClient(
            system_database_url=os.environ["POSTGRES_URL"],
            system_database_pool_size=20,
            use_listen_notify=True,
            application_name="peer",
        )
        running.callback(client.destroy)
        yield client


async def submit(client: DBOSClient, run: int, workflow: str) -> None:
    """Put a run into the queue."""
    await client.enqueue_async(
        {"workflow_name": workflow, "queue_name": "runs", "workflow_id": f"run-{run}"},
        _work.question(run),
    )


async def has_answer(client: DBOSClient, run: int) -> bool:
    """Wait for the result; say whether it is the right one."""
    handle = await client.retrieve_workflow_async(f"run-{run}")
    return bool(await handle.get_result(polling_interval_sec=POLL_S) == _work.final(run))


async def completed(client: DBOSClient, runs: Iterable[int]) -> int:
    """Submit runs and wait for each; return how many went well."""
    await asyncio.gather(*(submit(client, run, "answer") for run in runs))
    return sum([await has_answer(client, run) for run in runs])


async def watched(client: DBOSClient, run: int, rounds: int) -> tuple[bool, int]:
    """Submit a run and read its messages; return whether it went well, and how many were right."""
    await submit(client, run, "answer:streams")
    messages = [each async for each in client.read_stream_async(f"run-{run}", "messages")]
    return await has_answer(client, run), matches(messages, run, rounds)


async def stored(client: DBOSClient, run: int, rounds: int) -> int:
    """Count right messages among the input and the steps that DBOS has kept of a run."""
    handle = await client.retrieve_workflow_async(f"run-{run}")
    status = await handle.get_status()
    assert status.input is not None
    messages: list[Message] = [{"role": "user", "content": status.input["args"][0]}]
    for step in await client.list_workflow_steps_async(f"run-{run}"):
        output = step["output"]
        if isinstance(output, ModelResponse):
            messages.append(chat_form(output.parts[0]))
        elif step["function_name"] == _work.TOOL:
            call_id = messages[-1]["tool_calls"][0]["id"]
            messages.append({"role": "tool", "tool_call_id": call_id, "content": output})
    return matches(messages, run, rounds)


def matches(messages: list[Message], run: int, rounds: int) -> int:
    """Count them, if they are what is said in a run, and all of it."""
    return len(messages) if messages == _work.transcript(run, rounds) else 0


async def drive(work: Work, client: DBOSClient, started_at: float) -> int:
    """Warm up, do the work, look at what is left, report."""
    await completed(client, work.warm_up)
    startup_s = time.monotonic() - started_at
    began = time.monotonic()
    seen = None
    if work.variant == "streams":
        ended = await asyncio.gather(
            *(watched(client, run, work.rounds) for run in range(work.runs))
        )
        well, seen = sum(is_right for is_right, _ in ended), sum(count for _, count in ended)
    else:
        well = await completed(client, range(work.runs))
    wall_s = time.monotonic() - began
    kept = [await stored(client, run, work.rounds) for run in range(work.runs)]
    return _work.report(
        work,
        wall_s=wall_s,
        startup_s=startup_s,
        version=version("dbos"),
        completed=well,
        seen=seen,
        stored=sum(kept),
    )


def main() -> int:
    work = _work.parse()
    started_at = time.monotonic()
    with workers(work) as client:
        return asyncio.run(drive(work, client, started_at))


if __name__ == "__main__":
    sys.exit(main())
