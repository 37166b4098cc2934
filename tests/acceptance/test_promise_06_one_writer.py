"""Promise 6: one run at a time writes to a conversation; a second one does as its policy says."""

import asyncio
import json
import signal
import sys
from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from pytest_celery import CeleryWorkerCluster
from redis import Redis

from agent_client import (
    AsyncAgentClient,
    AsyncRun,
    BusyPolicy,
    ConversationBusyError,
    Message,
    MessageEvent,
    RemovedEvent,
    RunStatus,
    StatusEvent,
    ToolOutcome,
)
from shared.settings import Settings
from shared.testing.waiting import eventually
from tests.acceptance.conftest import (
    calling,
    check_closed,
    environment,
    play,
    scene,
    wait_stored,
    wait_traced,
    worker_at,
)
from tests.model_server import ModelServer
from tests.traces import executions, permit

pytestmark = [pytest.mark.acceptance, pytest.mark.integration]

RESULT_S = 40.0
PROMPT_S = 5.0
"""How long the next run may wait for one that is being stopped, on a machine that is busy."""
RECOVERED_S = 20.0
"""Where the worker of the active run has to be given up first."""
CLIENTS, SUBMITS = 3, 8

INTERRUPTING = [BusyPolicy.INTERRUPT, BusyPolicy.ROLLBACK]


# --- enqueue --------------------------------------------------------------------------------------


async def test_runs_of_one_conversation_go_first_come_first_served(
    client: AsyncAgentClient, agents_settings: Settings, model_server: ModelServer, traces: Path
) -> None:
    """Submitted by several processes at once, executed by two workers: in the order in which they
    were accepted, and never two at a time."""
    metadata = scene(model_server, calling([("dwell", "a"), ("dwell", "b")]))
    accepted = await _submit_from_processes(agents_settings, "busy", metadata)
    assert len(accepted) == CLIENTS * SUBMITS
    runs = [client.run(each["id"]) for each in accepted]
    outcomes = await asyncio.gather(*(run.result(timeout_s=RESULT_S) for run in runs))
    assert {outcome.status for outcome in outcomes} == {RunStatus.COMPLETED}

    executed = await _check_one_at_a_time(client, traces)
    assert sorted(executed) == sorted(each["id"] for each in accepted)
    place = {run_id: index for index, run_id in enumerate(executed)}
    for earlier in accepted:
        for later in accepted:
            if earlier["returned"] < later["called"]:
                assert place[earlier["id"]] < place[later["id"]], "the later one overtook it"
    created = {run.id: run.created_at for run in await client.runs(conversation_id="busy")}
    assert sorted(executed, key=created.__getitem__) == executed
    assert len({entry["pid"] for entry in executions(traces)}) == 2, (
        "both workers have to take part"
    )
    messages = await client.history("busy")
    assert _writers(messages) == executed
    check_closed(messages)


async def test_two_messages_at_once_to_an_idle_conversation(
    client: AsyncAgentClient, agents_settings: Settings, model_server: ModelServer, traces: Path
) -> None:
    """Neither is lost, and the second one waits for the end of the first."""
    metadata = scene(model_server, calling([("dwell", "a")]))
    async with AsyncAgentClient(agents_settings) as other:
        for number in range(10):
            name = f"idle-{number}"
            runs = await asyncio.gather(
                *(
                    each.submit("chat", "hello", conversation_id=name, metadata=metadata)
                    for each in (client, other)
                )
            )
            outcomes = await asyncio.gather(*(run.result(timeout_s=RESULT_S) for run in runs))
            assert {outcome.status for outcome in outcomes} == {RunStatus.COMPLETED}
            messages = await client.history(name)
            assert sorted(_writers(messages)) == sorted(run.id for run in runs)
            assert len(messages) == 2 * 4
    await _check_one_at_a_time(client, traces)


# --- reject ---------------------------------------------------------------------------------------


async def test_a_rejected_submit_stores_nothing(
    client: AsyncAgentClient, agents_settings: Settings, traces: Path
) -> None:
    """No run, no message, no key in Redis; its idempotency key is still free."""
    active = await client.submit("script", play([("wait", "gate")]), conversation_id="full")
    await wait_stored(client, "full", 2)
    await wait_traced(traces, "start", "gate")
    with Redis.from_url(agents_settings.redis_url.get_secret_value()) as redis:
        before = _keys(redis)
        for _ in range(5):
            with pytest.raises(ConversationBusyError, match=active.id):
                await client.submit(
                    *("script", play()),
                    conversation_id="full",
                    on_busy="reject",
                    idempotency_key="order-17",
                )
        assert _keys(redis) == before
    assert [run.id for run in await client.runs(conversation_id="full")] == [active.id]
    assert len(await client.history("full")) == 2
    permit(traces, "gate")
    await active.result(timeout_s=RESULT_S)
    accepted = await client.submit(
        *("script", play()),
        conversation_id="full",
        on_busy="reject",
        idempotency_key="order-17",
    )
    assert (await accepted.result(timeout_s=RESULT_S)).status is RunStatus.COMPLETED


def _keys(redis: Redis) -> set[bytes]:
    """All but what workers write by themselves, whenever it is missing."""
    return {key for key in redis.scan_iter(count=1000) if b":card:" not in key}


async def test_of_many_submits_that_reject_one_is_accepted(
    client: AsyncAgentClient, agents_settings: Settings, traces: Path
) -> None:
    """From two clients, at once, to an idle conversation."""
    async with AsyncAgentClient(agents_settings) as other:
        answers = await asyncio.gather(
            *(
                each.submit(
                    *("script", play([("wait", "gate")])),
                    conversation_id="wanted",
                    on_busy="reject",
                )
                for each in (client, other)
                for _ in range(10)
            ),
            return_exceptions=True,
        )
    assert Counter(type(answer) for answer in answers) == {AsyncRun: 1, ConversationBusyError: 19}
    assert len(await client.runs(conversation_id="wanted")) == 1
    permit(traces, "gate")


# --- interrupt and rollback -----------------------------------------------------------------------


@pytest.mark.parametrize("policy", INTERRUPTING)
@pytest.mark.parametrize("place", ["model", "tool"])
async def test_a_run_that_is_stopped_makes_room_at_once(
    client: AsyncAgentClient, model_server: ModelServer, policy: BusyPolicy, place: str
) -> None:
    """In the middle of a model call or a tool. What it wrote stays and is closed, or is gone; the
    new run's model is shown just that."""
    name = f"stopped-{place}-{policy}"
    model = "hang" if place == "model" else calling([("note", "a"), ("tidy", "b")])
    first = await client.submit(
        "chat", "first", conversation_id=name, metadata=scene(model_server, model)
    )
    await wait_stored(client, name, 1 if place == "model" else 3)
    second = await _submit_instead(client, name, model_server, policy)
    assert await second.output(timeout_s=PROMPT_S) == "instead"
    await _check_stopped(client, name, first, second, policy)
    shown = [each["content"] for each in model_server.requests()[-1]["messages"]]
    assert ("first" in shown) is (policy is BusyPolicy.INTERRUPT)
    assert model_server.stats().broken_histories == 0


@pytest.mark.parametrize(
    ("number", "policy"),
    [(signal.SIGKILL, BusyPolicy.INTERRUPT), (signal.SIGSTOP, BusyPolicy.ROLLBACK)],
)
async def test_a_run_whose_worker_is_gone_is_stopped_by_another(
    client: AsyncAgentClient,
    model_server: ModelServer,
    celery_worker_cluster: CeleryWorkerCluster,
    traces: Path,
    number: signal.Signals,
    policy: BusyPolicy,
) -> None:
    """Frozen or killed, it holds the conversation no longer than its lease; and when a frozen one
    comes back, it changes nothing."""
    name = f"gone-{number}-{policy}"
    metadata = scene(model_server, calling([("note", "a"), ("wait", "gate")]))
    first = await client.submit("chat", "first", conversation_id=name, metadata=metadata)
    worker = await worker_at("gate", celery_worker_cluster, traces)
    await wait_stored(client, name, 3)
    worker.kill(number)
    second = await _submit_instead(client, name, model_server, policy)
    assert await second.output(timeout_s=RECOVERED_S) == "instead"
    await _check_stopped(client, name, first, second, policy)
    if number is signal.SIGSTOP:
        following = await client.history(name)
        permit(traces, "gate")
        worker.kill(signal.SIGCONT)

        async def has_dropped() -> bool:
            return any(
                "run.lost" in line and first.id in line for line in worker.logs().split("\n")
            )

        await eventually(has_dropped, timeout_s=RESULT_S)
        assert await client.history(name) == following
    # Runs of earlier tests that the worker had may start their tools again, too.
    own = [each for each in executions(traces) if each["key"].startswith(first.id)]
    starts = sorted(each["name"] for each in own if each["event"] == "start")
    assert starts == ["a", "gate"], "a run that is to be stopped is not resumed"


@pytest.mark.parametrize("policy", INTERRUPTING)
async def test_a_run_that_never_started_gives_its_place_away(
    client: AsyncAgentClient,
    celery_worker_cluster: CeleryWorkerCluster,
    traces: Path,
    policy: BusyPolicy,
) -> None:
    """It is cancelled at once, without a worker; those that wait politely are passed."""
    for worker in celery_worker_cluster:
        worker.kill(signal.SIGSTOP)
    name = f"unstarted-{policy}"
    first, polite = [
        await client.submit("script", play([("note", each)]), conversation_id=name)
        for each in ("first", "polite")
    ]
    second = await client.submit(
        "script", play([("note", "second")]), conversation_id=name, on_busy=policy
    )
    assert await first.status() is RunStatus.CANCELLED
    for worker in celery_worker_cluster:
        worker.kill(signal.SIGCONT)
    for run in (second, polite):
        assert (await run.result(timeout_s=RESULT_S)).status is RunStatus.COMPLETED
    assert _writers(await client.history(name)) == [second.id, polite.id]


async def test_a_rollback_is_one_step_for_every_reader(
    client: AsyncAgentClient, agents_settings: Settings, traces: Path
) -> None:
    """Whoever reads as fast as it can sees all messages of the run or none of them."""
    notes = [("note", str(number)) for number in range(40)]
    first = await client.submit("script", play(notes, [("wait", "gate")]), conversation_id="whole")
    await wait_traced(traces, "start", "gate")
    await wait_stored(client, "whole", 43)
    lengths: set[int] = set()

    async def read_until_it_is_gone(reader: AsyncAgentClient) -> None:
        while 0 not in lengths:
            messages = await reader.history("whole")
            lengths.add(sum(message.run_id == first.id for message in messages))

    async with AsyncAgentClient(agents_settings) as other:
        readers = [asyncio.create_task(read_until_it_is_gone(each)) for each in [client, other] * 3]
        second = await client.submit("script", play(), conversation_id="whole", on_busy="rollback")
        async with asyncio.timeout(RESULT_S):
            await asyncio.gather(*readers)
    assert lengths <= {0, 43, 44}, "a part of it was visible"  # 44: the gate's result closes it
    assert (await second.result(timeout_s=RESULT_S)).status is RunStatus.COMPLETED
    assert _writers(await client.history("whole")) == [second.id]


async def test_watchers_are_told_of_a_rollback(client: AsyncAgentClient, traces: Path) -> None:
    """Who watches the run or its conversation, who asks for the outcome, and who comes later."""
    first = await client.submit("script", play([("wait", "gate")]), conversation_id="told")
    waiting = asyncio.create_task(first.result(timeout_s=RESULT_S))
    messages, events = first.watch(), first.events()
    changes = client.watch_changes("told")
    async with asyncio.timeout(RESULT_S):
        assert [getattr(await anext(changes), "role", None) for _ in range(2)] == [
            "user",
            "assistant",
        ]
        assert [(await anext(messages)).role for _ in range(2)] == ["user", "assistant"]
        while (
            not isinstance(seen := await anext(events), MessageEvent) or seen.message.position < 1
        ):
            pass
    await wait_traced(traces, "start", "gate")
    second = await client.submit("script", play(), conversation_id="told", on_busy="rollback")
    async with asyncio.timeout(RESULT_S):
        assert await _collect(messages) == [], "the watch ends, and nothing more comes"
        assert await anext(changes) == RemovedEvent(run_id=first.id)
        end = (await _collect(events))[-1]
        outcome = await waiting
    assert isinstance(end, StatusEvent)
    assert (end.status, end.rolled_back) == (RunStatus.CANCELLED, True)
    assert (outcome.status, outcome.rolled_back) == (RunStatus.CANCELLED, True)
    assert await first.history() == []
    assert (await second.result(timeout_s=RESULT_S)).status is RunStatus.COMPLETED
    assert await _collect(first.watch()) == []
    await changes.aclose()
    later = await _collect(first.events())
    assert isinstance(later[-1], StatusEvent)
    assert later[-1].rolled_back
    assert not any(isinstance(each, MessageEvent) for each in later)


async def test_the_last_one_to_interrupt_wins(
    client: AsyncAgentClient, model_server: ModelServer, traces: Path
) -> None:
    """While the active run takes its time to stop, one interrupts and then another: the first of
    them would only have been stopped as soon as it began."""
    metadata = scene(model_server, calling([("defy", "late")]))
    first = await client.submit("chat", "first", conversation_id="hasty", metadata=metadata)
    await wait_traced(traces, "start", "late")
    polite = await client.submit(
        "chat", "polite", conversation_id="hasty", metadata=scene(model_server, "echo")
    )
    overtaken = await _submit_instead(client, "hasty", model_server, BusyPolicy.INTERRUPT)
    last = await _submit_instead(client, "hasty", model_server, BusyPolicy.INTERRUPT)
    assert await overtaken.status() is RunStatus.CANCELLED
    assert await last.output(timeout_s=PROMPT_S) == "instead"
    assert await polite.output(timeout_s=RESULT_S) == "polite"
    assert _writers(await client.history("hasty")) == [first.id, last.id, polite.id]
    permit(traces, "late")


async def test_of_many_that_interrupt_each_other_one_goes_on(
    client: AsyncAgentClient, agents_settings: Settings, model_server: ModelServer, traces: Path
) -> None:
    """Waves of them from two clients, into whatever the wave before left running. Every run ends,
    never two at a time, and the history holds what was kept and nothing of what was rolled back."""
    for_ever = scene(model_server, calling([("dwell", "a")], [("tidy", "b")]))
    brief = scene(model_server, calling([("dwell", "c")]))
    runs: list[AsyncRun] = []

    async def submit(each: AsyncAgentClient, policy: str, metadata: dict[str, Any]) -> None:
        on_busy = BusyPolicy(policy)
        runs.append(
            await each.submit(
                *("chat", policy), conversation_id="crowd", metadata=metadata, on_busy=on_busy
            )
        )

    async with AsyncAgentClient(agents_settings) as other:
        await submit(client, "enqueue", for_ever)
        for number, policy in enumerate(INTERRUPTING * 3, start=1):
            await wait_traced(traces, "start", "b", times=number)
            interrupting = [submit(each, policy, for_ever) for each in [client, other] * 2]
            await asyncio.gather(submit(client, "enqueue", brief), *interrupting)
        await wait_traced(traces, "start", "b", times=7)
        await submit(client, "interrupt", brief)
        outcomes = [await run.result(timeout_s=RESULT_S) for run in runs]
    ended = Counter(outcome.status for outcome in outcomes)
    assert ended == {RunStatus.COMPLETED: 6 + 1, RunStatus.CANCELLED: 1 + 6 * 4}
    messages = await client.history("crowd")
    check_closed(messages)
    writers = _writers(messages)
    assert len(writers) == len(set(writers)), "their messages are mixed"
    rolled_back = {outcome.run_id for outcome in outcomes if outcome.rolled_back}
    assert len(rolled_back) >= 3, "of each wave of interrupts, the one that went on"
    started_runs = set(await _check_one_at_a_time(client, traces))
    assert started_runs - rolled_back <= set(writers)
    assert not rolled_back & set(writers)
    assert model_server.stats().broken_histories == 0


# --- what the tests share -------------------------------------------------------------------------


async def _submit_from_processes(
    settings: Settings, name: str, metadata: dict[str, Any]
) -> list[dict[str, Any]]:
    """Let several processes submit at once; what each of them says about each of its runs."""
    processes = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.acceptance.submitter"),
            *(name, str(SUBMITS), json.dumps(metadata)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=environment(settings),
        )
        for _ in range(CLIENTS)
    ]
    for process in processes:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
    printed = await asyncio.gather(*(process.communicate(b"\n") for process in processes))
    return [json.loads(line) for out, _ in printed for line in out.splitlines()]


async def _submit_instead(
    client: AsyncAgentClient, name: str, server: ModelServer, policy: BusyPolicy
) -> AsyncRun:
    return await client.submit(
        *("chat", "instead"),
        conversation_id=name,
        metadata=scene(server, "echo"),
        on_busy=policy,
    )


async def _check_stopped(
    client: AsyncAgentClient, name: str, first: AsyncRun, second: AsyncRun, policy: BusyPolicy
) -> None:
    """The first run is cancelled, and its messages are as the policy wants them."""
    assert (await first.result(timeout_s=RESULT_S)).status is RunStatus.CANCELLED
    messages = await client.history(name)
    check_closed(messages)
    kept = [message for message in messages if message.run_id == first.id]
    if policy is BusyPolicy.ROLLBACK:
        assert kept == []
        assert _writers(messages) == [second.id]
        return
    assert _writers(messages) == [first.id, second.id]
    assert kept[0].text == "first"
    assert len(kept) in {1, 4}
    for message in kept[3:]:
        assert message.outcome is ToolOutcome.CANCELLED


async def _check_one_at_a_time(client: AsyncAgentClient, traces: Path) -> list[str]:
    """Assert that tools of two runs never ran at the same time; return the runs in their order.

    Runs that lost their worker are left out: on a machine that stands still for seconds, a worker
    that was given up may go on with a tool until it hears of it. It cannot write any more.
    """
    lost = {run.id for run in await client.runs(limit=1000) if run.crashes}
    running: set[str] = set()
    order: list[str] = []
    for entry in executions(traces):
        run_id = entry["key"].rsplit(".", 2)[0]
        if run_id in lost:
            continue
        others = {key for key in running if not key.startswith(run_id)}
        assert not others, f"{run_id} goes on while {others} do"
        if run_id not in order:
            order.append(run_id)
        assert order[-1] == run_id, f"{run_id} went on behind its successor"
        (running.add if entry["event"] == "start" else running.remove)(entry["key"])
    return order


def _writers(messages: Sequence[Message]) -> list[str]:
    """The runs that wrote, one for each unbroken stretch of messages."""
    return [str(run_id) for run_id, _ in groupby(messages, key=lambda message: message.run_id)]


async def _collect(events: Any) -> list[Any]:
    return [event async for event in events]
