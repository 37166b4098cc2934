"""What every engine guarantees: see `agent_worker.engine.protocol.Engine`.

A suite gets an engine that plays a `Scene`: in each round the model asks for some tools, behind the
last one it says `done`. What a tool does is told by its name.
"""

import asyncio
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from agent_worker.context import RunInfo, run_info, tool_context
from agent_worker.engine.protocol import (
    Engine,
    EngineError,
    EngineEvent,
    EngineLimits,
    EngineRequest,
    Finished,
    TextDelta,
)
from shared.message import Draft, Message, Role, ToolOutcome, Usage, user_draft
from shared.testing.waiting import eventually

RUN = RunInfo(run_id="run-1", agent="scene", conversation_id="talk", metadata={"from": "test"})
LIMITS = EngineLimits(max_rounds=10, model_timeout_s=10, tool_timeout_s=10, model_retries=0)
ROUNDS = (("a", "b"), ("c", "d"), ("e", "f"))


@dataclass
class Scene:
    """A run for an engine to play, and what was seen of it.

    Tools named `broken…` raise, `hanging…` never end, `gated…` wait for `gate`.
    """

    rounds: Sequence[Sequence[str]] = ROUNDS
    asked: list[int] = field(default_factory=list)
    """Rounds for which a model was asked, by number."""
    started: list[str] = field(default_factory=list)
    keys: dict[str, set[str]] = field(default_factory=dict)
    """Idempotency keys that a tool saw."""
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    async def ask(self, number: int) -> Sequence[str]:
        """The model: which tools it wants in this round; none behind the last one."""
        assert run_info() == RUN
        self.asked.append(number)
        await asyncio.sleep(0)
        return self.rounds[number] if number < len(self.rounds) else ()

    async def has_started_two(self) -> bool:
        """Whether two tools are in flight."""
        return len(self.started) == 2

    async def act(self, name: str) -> str:
        """Every tool."""
        self.started.append(name)
        self.keys.setdefault(name, set()).add(tool_context().idempotency_key)
        await asyncio.sleep(0)
        if name.startswith("hanging"):
            await asyncio.Event().wait()
        if name.startswith("gated"):
            await self.gate.wait()
        if name.startswith("broken"):
            raise ValueError(f"{name} is broken")
        return f"{name} ended"


class EngineContract(ABC):
    """The suite. A subclass says how its engine plays a scene."""

    @abstractmethod
    def engine(self, scene: Scene) -> Engine:
        """An engine whose model is `scene.ask` and whose one tool, `act`, is `scene.act`."""

    async def test_every_message_comes_once_and_in_order(self) -> None:
        """A run of two rounds: each answer, its results, the final answer, and `Finished` last."""
        events = await collect(self.engine(Scene((("a",), ("b",)))).run(request()))

        drafts, last = events[:-1], events[-1]
        assert [draft.role for draft in messages(drafts)] == [
            Role.ASSISTANT,
            Role.TOOL,
            Role.ASSISTANT,
            Role.TOOL,
            Role.ASSISTANT,
        ]
        assert [draft.text for draft in messages(drafts)[1::2]] == ["a ended", "b ended"]
        assert isinstance(last, Finished)
        assert (last.output, last.rounds) == ("done", 3)

    async def test_what_an_earlier_run_was_asked_is_not_told_again(self) -> None:
        """A run that was cancelled before its first answer leaves an input that nobody answered.

        It is history: neither the next run nor one that takes that over writes it down.
        """
        history = stored([user_draft("earlier")], run_id="run-0")
        scene = Scene((("a",),))
        whole = await collect(self.engine(scene).run(request(history=history)))
        assert [draft.text for draft in messages(whole)][1:] == ["a ended", "done"]
        assert {draft.role for draft in messages(whole)} == {Role.ASSISTANT, Role.TOOL}

        for cut in range(3):
            behind = messages(whole)[:cut]
            again = await collect(self.engine(scene).run(request(behind, history=history)))
            assert list(map(essence, messages(again))) == list(map(essence, messages(whole)[cut:]))

    async def test_an_answer_is_out_before_its_tools_start(self) -> None:
        """As long as nobody asks for more, the tools of an answer do not start."""
        scene = Scene((("a", "b"),))
        events = self.engine(scene).run(request())

        answer = await next_message(events)
        await settle()

        assert [call.name for call in answer.tool_calls] == ["act", "act"]
        assert scene.started == []
        await events.aclose()

    async def test_no_model_call_starts_before_the_results_are_stored(self) -> None:
        """As long as nobody asks for more behind a result, the next round does not start."""
        scene = Scene((("a",), ("b",)))
        events = self.engine(scene).run(request())

        for _ in range(2):
            await next_message(events)
        await settle()

        assert scene.asked == [0]
        await events.aclose()

    async def test_results_come_in_the_order_in_which_tools_end(self) -> None:
        """A tool that takes long does not hold back the result of one that is through."""
        scene = Scene((("gated", "quick"),))
        events = self.engine(scene).run(request())
        await next_message(events)

        first = await next_message(events)
        scene.gate.set()
        second = await next_message(events)

        assert [first.text, second.text] == ["quick ended", "gated ended"]
        await events.aclose()

    async def test_a_tool_that_raises_gives_a_result(self) -> None:
        """The model is told type and message of the exception; the run goes on."""
        events = await collect(self.engine(Scene((("broken", "a"),))).run(request()))

        result = next(one for one in messages(events) if "broken" in one.text)
        assert result.outcome is ToolOutcome.FAILED
        assert result.text == "ValueError: broken is broken"
        assert isinstance(events[-1], Finished)

    async def test_a_tool_that_runs_out_of_time_gives_a_result(self) -> None:
        """The model is told how long the tool may take; the run goes on."""
        limits = EngineLimits(
            max_rounds=10, model_timeout_s=10, tool_timeout_s=0.05, model_retries=0
        )

        events = await collect(self.engine(Scene((("hanging",),))).run(request(limits=limits)))

        result = messages(events)[1]
        assert result.outcome is ToolOutcome.FAILED
        assert "0.05 s" in result.text
        assert isinstance(events[-1], Finished)

    async def test_rounds_are_bounded_over_the_whole_run(self) -> None:
        """Rounds before a take-over count, and the error names the setting."""
        limits = EngineLimits(max_rounds=3, model_timeout_s=10, tool_timeout_s=10, model_retries=0)
        engine = self.engine(Scene((("a",),) * 5))
        before = messages(await collect(engine.run(request()), count=4))
        after: list[EngineEvent] = []

        with pytest.raises(EngineError, match="max_rounds") as caught:
            await collect(engine.run(request(before, limits=limits)), into=after)

        assert caught.value.code == "max_rounds"
        answers = [draft for draft in messages([*before, *after]) if draft.role is Role.ASSISTANT]
        assert len(answers) == 3

    async def test_a_run_that_has_its_answer_only_finishes(self) -> None:
        """Nobody asks a model for an answer that is stored."""
        whole = await collect(self.engine(Scene()).run(request()))
        scene = Scene()

        again = await collect(self.engine(scene).run(request(messages(whole))))

        assert again == [whole[-1]]
        assert (scene.asked, scene.started) == ([], [])

    @pytest.mark.parametrize("cut", range(11))
    async def test_a_run_cut_anywhere_goes_on(self, cut: int) -> None:
        """Behind each of its ten messages: the same history, and nothing stored is done again."""
        whole = await collect(self.engine(Scene()).run(request()))
        scene = Scene()
        before = await collect(self.engine(scene).run(request()), count=cut)
        stored = Counter(draft.text.removesuffix(" ended") for draft in messages(before))

        after = await collect(self.engine(scene).run(request(messages(before))))

        resumed = [*messages(before), *messages(after)]
        assert [essence(draft) for draft in resumed] == [essence(one) for one in messages(whole)]
        assert after[-1] == whole[-1]
        answered = sum(draft.role is Role.ASSISTANT for draft in messages(before))
        assert all(scene.asked.count(number) == 1 for number in range(answered))
        executed = Counter(scene.started)
        assert all(executed[name] == 1 for name in "abcdef" if stored[name])
        assert all(len(keys) == 1 for keys in scene.keys.values())

    async def test_what_a_run_took_does_not_depend_on_where_it_was_cut(self) -> None:
        """`Finished` counts the whole run, and the messages' usage adds up to it."""
        whole = await collect(self.engine(Scene()).run(request()))
        last = whole[-1]
        assert isinstance(last, Finished)

        usages = [draft.usage or Usage() for draft in messages(whole)]

        assert sum(usages, Usage()) == last.usage
        assert (last.usage.requests, last.rounds) == (4, 4)

    async def test_keys_name_the_run_the_answer_and_the_call(self) -> None:
        """A key tells calls apart whose provider gave them one id."""
        scene = Scene((("a", "b"), ("c",)))

        await collect(self.engine(scene).run(request()))

        assert scene.keys == {"a": {"run-1.1.0"}, "b": {"run-1.1.1"}, "c": {"run-1.4.0"}}

    @pytest.mark.parametrize("count", range(4))
    async def test_a_closed_engine_leaves_nothing_behind(self, count: int) -> None:
        """Wherever it stands, with tools in flight or not, no task goes on."""
        events = self.engine(Scene((("a", "hanging", "b"),))).run(request())
        before = asyncio.all_tasks()
        for _ in range(count):
            await next_message(events)

        await events.aclose()

        assert asyncio.all_tasks() == before

    async def test_a_cancelled_consumer_leaves_nothing_behind(self) -> None:
        """The task that waits for the next event may be cancelled; the tools go with it."""
        scene = Scene((("hanging", "hanging-2"),))
        before = asyncio.all_tasks()
        consumer = asyncio.create_task(collect(self.engine(scene).run(request())))
        await eventually(scene.has_started_two)

        consumer.cancel()
        await asyncio.wait({consumer})

        assert consumer.cancelled()
        assert asyncio.all_tasks() == before

    async def test_each_event_may_be_taken_in_another_task(self) -> None:
        """Nothing that the engine sets up is bound to the task or the context of its consumer."""
        events = self.engine(Scene()).run(request())
        taken: list[EngineEvent] = []
        while True:
            try:
                taken.append(await asyncio.create_task(take(events)))
            except StopAsyncIteration:
                break

        assert isinstance(taken[-1], Finished)
        assert len(messages(taken)) == 10

    async def test_the_engine_introduces_itself(self) -> None:
        """A worker announces the agent without starting anything."""
        assert self.engine(Scene()).info.name == "scene"


def request(
    behind: Sequence[Draft] = (),
    *,
    prompt: Draft | None = None,
    history: Sequence[Message] = (),
    limits: EngineLimits = LIMITS,
    stream_text: bool = True,
) -> EngineRequest:
    """A run with its input and what it has stored behind it."""
    return EngineRequest(
        run=RUN,
        history=tuple(history),
        own=stored([prompt or user_draft("go"), *behind]),
        limits=limits,
        stream_text=stream_text,
    )


def stored(drafts: Sequence[Draft], run_id: str = RUN.run_id) -> tuple[Message, ...]:
    """Drafts as a store gives them back."""
    return tuple(
        Message.model_validate_json(
            Message.from_draft(draft, run_id=run_id, position=position).model_dump_json()
        )
        for position, draft in enumerate(drafts)
    )


def messages(events: Sequence[EngineEvent]) -> list[Draft]:
    """The messages among some events."""
    return [event for event in events if isinstance(event, Draft)]


def essence(draft: Draft) -> Any:
    """What has to be equal in two runs of one scene: all but times."""
    return draft.model_dump(exclude={"engine", "usage"})


async def collect(
    events: AsyncGenerator[EngineEvent, None],
    count: int | None = None,
    *,
    into: list[EngineEvent] | None = None,
) -> list[EngineEvent]:
    """All events without text deltas; at most up to the `count`-th message, then it is closed."""
    collected = [] if into is None else into
    try:
        while count is None or len(messages(collected)) < count:
            try:
                event = await anext(events)
            except StopAsyncIteration:
                break
            if not isinstance(event, TextDelta):
                collected.append(event)
    finally:
        await events.aclose()
    return collected


async def next_message(events: AsyncGenerator[EngineEvent, None]) -> Draft:
    """The next message; pieces of its text are skipped."""
    while True:
        event = await anext(events)
        if isinstance(event, Draft):
            return event


async def take(events: AsyncGenerator[EngineEvent, None]) -> EngineEvent:
    """One event, as a coroutine that a task can run."""
    return await anext(events)


async def settle() -> None:
    """Let everything that is ready to run do so."""
    for _ in range(50):
        await asyncio.sleep(0)
