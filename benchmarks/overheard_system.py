"""A system of one worker in which everybody's commands to Redis are counted on the way."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import uuid4

from agent_client import AsyncAgentClient, RunStatus
from agent_worker.testing import WorkerProcess
from benchmarks.redis_account import Account, Bill
from benchmarks.rounds.work import QUESTION, Work
from benchmarks.system import REPOSITORY
from shared.embedded_redis import EmbeddedRedis
from shared.settings import Settings
from tests.network import Proxy

_AGENTS: Final = "benchmarks.rounds.agents"


class Party:
    """Somebody who reaches Redis, and an account of what he asks there."""

    def __init__(self, proxy: Proxy, account: Account) -> None:
        self.account = account
        self.store_url = f"redis://{proxy.address}/0"
        self.broker_url = f"redis://{proxy.address}/1"

    @property
    def settings(self) -> Settings:
        """Of a client."""
        urls = {"redis_url": self.store_url, "broker_url": self.broker_url}
        return Settings.model_validate(urls)


@dataclass(frozen=True)
class OverheardSystem:
    """Who is listened to. What the worker asks of its broker is not in its account."""

    worker: Party
    submitter: Party
    watcher: Party


@dataclass(frozen=True)
class RunBills:
    """What one run took."""

    submit: Bill
    """The submit alone, its ring included."""
    worker: Bill
    """What the worker asked about the run."""
    watcher: Bill
    """What one watcher asked about it."""


@contextmanager
def run_overheard_system(
    redis: EmbeddedRedis, folder: Path, environment: Mapping[str, str] | None = None
) -> Iterator[OverheardSystem]:
    """Start a worker that serves `benchmarks.rounds.agents`; its log is in `folder`."""
    with ExitStack() as stack:

        def listen_to() -> Party:
            account = Account()
            return Party(stack.enter_context(Proxy(redis.port, ear=account)), account)

        worker, submitter, watcher = listen_to(), listen_to(), listen_to()
        process = WorkerProcess(
            _AGENTS,
            environment={
                "AGENTS_REDIS_URL": worker.store_url,
                "AGENTS_BROKER_URL": f"redis://127.0.0.1:{redis.port}/1",
                **(environment or {}),
            },
            cwd=REPOSITORY,
            log_path=folder / "worker.log",
        )
        stack.callback(process.stop)
        process.start().wait_ready()
        yield OverheardSystem(worker, submitter, watcher)


async def execute(system: OverheardSystem, *works: Work) -> list[RunBills]:
    """Execute runs of the plain agent, one after the other, each watched from its beginning.

    A first run, which is not counted, opens connections and shows Redis the scripts.
    """
    async with (
        AsyncAgentClient(system.submitter.settings) as submitting,
        AsyncAgentClient(system.watcher.settings) as watching,
    ):
        runs = [await _execute(system, submitting, watching, each) for each in (works[0], *works)]
    return runs[1:]


async def _execute(
    system: OverheardSystem,
    submitting: AsyncAgentClient,
    watching: AsyncAgentClient,
    work: Work,
) -> RunBills:
    conversation = f"overheard:{uuid4().hex}"
    before = len(system.submitter.account.commands)
    submitted = await submitting.submit(
        "plain",
        QUESTION,
        conversation_id=conversation,
        metadata=work.as_metadata(),
        max_rounds=work.rounds,
    )
    submit = Bill.of(system.submitter.account.commands[before:])
    run = watching.run(submitted.id)
    seen = [message async for message in run.watch()]
    # Once this is answered, what the watch sent at its end has come by as well.
    await watching.workers()
    bills = [
        Bill.of([each for each in account.commands if each.is_about(run.id, conversation)])
        for account in (system.worker.account, system.watcher.account)
    ]
    assert len(seen) == work.messages
    assert (await run.get()).status is RunStatus.COMPLETED
    return RunBills(submit, *bills)
