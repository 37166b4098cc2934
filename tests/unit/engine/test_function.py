"""Plain functions as engines."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest
from pydantic import JsonValue

from agent_worker import run_info
from agent_worker.engine.function import FunctionEngine
from agent_worker.engine.protocol import (
    Engine,
    EngineError,
    EngineEvent,
    EngineRequest,
    Finished,
    TextDelta,
)
from shared.message import DataPart, Draft, Role, Usage
from tests.contract.engine import EngineContract, Scene, collect, messages, request
from tests.unit.engine.loop import play


class TestGeneratorFunction(EngineContract):
    """An async generator function that heeds `request.own` keeps every guarantee."""

    def engine(self, scene: Scene) -> Engine:
        async def loop(asked: EngineRequest) -> AsyncGenerator[EngineEvent, None]:
            async with aclosing(play(scene, asked)) as events:
                async for event in events:
                    yield event

        return FunctionEngine(loop, name="scene")


async def shout(asked: EngineRequest) -> str:
    """Answer loudly.

    More about it.
    """
    return asked.own[0].text.upper() + run_info().run_id


async def test_what_a_function_returns_is_the_answer() -> None:
    """One message and the output, in the context of the run."""
    events = await collect(FunctionEngine(shout).run(request()))

    answer, finished = events
    assert isinstance(answer, Draft)
    assert (answer.role, answer.content) == (Role.ASSISTANT, "GOrun-1")
    assert finished == Finished("GOrun-1", usage=Usage(requests=1), rounds=1)


@pytest.mark.parametrize("output", [{"a": [1]}, None, 3, ["x"], ""])
async def test_a_function_is_not_called_again_for_a_stored_answer(output: JsonValue) -> None:
    """Whatever it returned comes back from the stored message."""
    calls: list[str] = []

    async def answer(asked: EngineRequest) -> JsonValue:
        calls.append(asked.run.run_id)
        return output

    engine = FunctionEngine(answer)
    whole = await collect(engine.run(request()))

    again = await collect(engine.run(request(messages(whole))))

    assert again == [whole[-1]]
    assert isinstance(again[0], Finished)
    assert again[0].output == output
    assert calls == ["run-1"]


async def test_structured_output_is_readable_in_the_history() -> None:
    """A value that is not text is stored as data."""

    async def answer(asked: EngineRequest) -> JsonValue:
        return {"n": 1}

    events = await collect(FunctionEngine(answer).run(request()))

    assert messages(events)[0].content == (DataPart(value={"n": 1}),)


async def test_pieces_of_text_and_the_own_end_are_passed_on() -> None:
    """A generator function may say everything that an engine may say."""
    told: list[EngineEvent] = [
        TextDelta("do"),
        Draft(role=Role.ASSISTANT, content="done"),
        Finished({"is": "done"}, usage=Usage(output_tokens=2), rounds=7),
    ]

    async def tell(asked: EngineRequest) -> AsyncGenerator[EngineEvent, None]:
        for event in told:
            yield event

    assert [event async for event in FunctionEngine(tell).run(request())] == told


async def test_an_exception_ends_the_run_with_its_words() -> None:
    """Whoever looks at the run reads what was raised."""

    async def fail(asked: EngineRequest) -> str:
        raise ValueError("no luck")

    with pytest.raises(EngineError, match="ValueError: no luck") as caught:
        await collect(FunctionEngine(fail).run(request()))

    assert caught.value.code == "agent_error"


async def test_an_engine_error_keeps_its_code() -> None:
    """A function can name the reason itself."""

    async def fail(asked: EngineRequest) -> AsyncGenerator[EngineEvent, None]:
        yield TextDelta("a")
        raise EngineError("model_error", "The model is down.")

    with pytest.raises(EngineError) as caught:
        await collect(FunctionEngine(fail).run(request()))

    assert caught.value.code == "model_error"


async def test_a_generator_that_says_nothing_fails_the_run() -> None:
    """A run without an answer has no output to end with."""

    async def silent(asked: EngineRequest) -> AsyncGenerator[EngineEvent, None]:
        if asked.own == ():
            yield TextDelta("never")

    with pytest.raises(EngineError, match="without an answer"):
        await collect(FunctionEngine(silent).run(request()))


def test_other_things_are_refused_when_built() -> None:
    """A sync function would block every run of the worker."""
    with pytest.raises(TypeError, match="async def"):
        FunctionEngine(lambda asked: "no")  # type: ignore[arg-type]


def test_the_first_line_of_the_docstring_describes_it() -> None:
    """Workers announce what an agent does."""
    info = FunctionEngine(shout).info

    assert (info.name, info.description) == ("shout", "Answer loudly.")
