"""Tools that do what no tool should: their calls get a result, their run goes on, and so does the
worker with all its other runs."""

import asyncio
import re
import sys
from collections.abc import Callable
from typing import Any, NoReturn

import pytest
from pydantic_ai import Agent, ModelRetry, ToolReturn
from pydantic_ai.exceptions import ToolFailed
from pydantic_ai.messages import BinaryContent, TextPart

from agent_worker.cutting import cut
from agent_worker.definition import AgentOptions
from agent_worker.engine.function import FunctionEngine
from agent_worker.engine.protocol import Engine, EngineRequest
from agent_worker.engine.pydantic_ai.engine import PydanticAIEngine
from shared.message import DataPart, Message, MessageKind, Role, ToolOutcome
from shared.run import Run, RunStatus
from shared.testing.waiting import eventually
from shared.window import pair_safe
from tests.unit.engine.zoo import Notes, call, scripted
from tests.unit.worker.stage import Pause, Stage

LIMIT = 2_000


@pytest.fixture
def small() -> Stage:
    return Stage(max_result_bytes=LIMIT, max_message_bytes=50_000)


def agent_of(*tools: Callable[..., Any]) -> tuple[Agent[Any, Any], Notes]:
    """An agent whose model calls each of the tools once and then says `done`."""
    notes = Notes()
    calls = [call(tool.__name__, call_id=f"c{index}") for index, tool in enumerate(tools)]
    return Agent(scripted([calls, [TextPart("done")]], notes), tools=tools), notes


async def result_of(stage: Stage, tool: Callable[..., Any], **options: Any) -> Message:
    """What a run stores as the result of a tool, and the run completes."""
    agent, _ = agent_of(tool)
    run_id = await stage.submit("room")
    worker = stage.worker(PydanticAIEngine(agent), options=AgentOptions(**options))
    assert await worker.wake(run_id)
    run = await stage.ended(run_id)
    assert (run.status, run.output) == (RunStatus.COMPLETED, "done"), run.error
    history = await stage.history(run_id)
    assert pair_safe(history) == history
    await stage.aclose()
    return next(message for message in history if message.role is Role.TOOL)


class Speechless(Exception):  # noqa: N818  an exception's name is not the point
    """Whoever asks for its text gets another exception."""

    def __str__(self) -> str:
        raise KeyboardInterrupt

    __repr__ = __str__


class Hostile:
    """No method of it does what it should."""

    def _refuse(self, *_: Any) -> NoReturn:
        raise SystemExit("no")

    __repr__ = __str__ = __len__ = __iter__ = __getstate__ = _refuse


class Odd(BaseException):
    """Neither an error nor one of those that Python itself raises."""


class Grumpy(dict[str, Any]):
    """A mapping that cannot be read."""

    def items(self) -> NoReturn:
        raise RuntimeError("not today")


def raising(error: BaseException) -> list[Callable[..., Any]]:
    """An async and a sync tool that raise it."""

    async def act() -> str:
        raise error

    def act_in_thread() -> str:
        raise error

    return [act, act_in_thread]


@pytest.mark.parametrize("place", [0, 1], ids=["async", "sync"])
@pytest.mark.parametrize(
    "error",
    [
        SystemExit(3),
        KeyboardInterrupt(),
        Odd("odd"),
        StopIteration(1),
        StopAsyncIteration(),
        RecursionError("deep"),
        MemoryError(),
        Speechless(),
        ValueError("x" * 10_000_000),
        ValueError("half \ud83d of it, and \0"),
        BaseExceptionGroup("several", [SystemExit(1), ValueError("a")]),
        asyncio.CancelledError(),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_whatever_a_tool_raises_is_a_result(
    stage: Stage, error: BaseException, place: int
) -> None:
    """And neither the end of the run nor of the worker."""
    result = await result_of(stage, raising(error)[place])
    assert result.outcome is ToolOutcome.FAILED
    assert len(result.text) < 5_000
    assert "Traceback" not in result.text


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [
        object(),
        Hostile(),
        Grumpy(a=1),
        (number for number in range(3)),
        lambda: 1,
        sys,
        "half \ud83d",
        {"half": "\ud83d"},
        {"\ud83d": 1},
        10**6_000,
        [10**6_000],
        {1j: 2},
        nested(100),
        nested(200),
        nested(5_000),
    ],
    ids=range(15),
)
async def test_what_is_no_json_is_a_result_that_says_so(stage: Stage, value: Any) -> None:
    """Or its JSON, where there is one after all: a generator has."""

    async def act() -> Any:
        return value

    result = await result_of(stage, act)
    if result.outcome is ToolOutcome.FAILED:
        assert "cannot be written as JSON" in result.text
    else:
        assert isinstance(result.content, tuple)


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (float("nan"), ""),
        ({"a": float("inf")}, (DataPart(value={"a": None}),)),
        (b"\x00bytes", None),
        (None, ""),
        ("nul \0", "nul \0"),
        ({"a": {1, 2}}, (DataPart(value={"a": [1, 2]}),)),
    ],
    ids=["nan", "infinity", "bytes", "none", "nul", "set"],
)
async def test_odd_values_are_stored_as_they_are_sent(
    stage: Stage, value: Any, stored: Any
) -> None:
    """What JSON has no number for is null, for the model and in the history alike."""

    async def act() -> Any:
        return value

    result = await result_of(stage, act)
    assert result.outcome is ToolOutcome.SUCCESS
    assert stored is None or result.content == stored


class TestSizes:
    @pytest.mark.parametrize("character", ["x", "é", "\N{SNOWMAN}", "\N{GRINNING FACE}"])
    @pytest.mark.parametrize("length", [LIMIT + 1, 10_007, 1_000_003])
    async def test_a_large_text_is_cut(self, small: Stage, character: str, length: int) -> None:
        """Beginning and end are kept, and what is missing is told, to the byte."""
        text = "BEGIN" + character * length + "END"

        async def act() -> str:
            return text

        result = await result_of(small, act)
        size, kept = len(text.encode()), len(result.text.encode())
        assert result.outcome is ToolOutcome.SUCCESS
        assert kept <= LIMIT
        assert result.text.startswith("BEGIN" + character)
        assert result.text.endswith(character + "END")
        head, note, tail = result.text.split("\n\n")
        assert f"of {size} bytes are missing" in note
        missing = size - len(head.encode()) - len(tail.encode())
        assert f"Cut: {missing} of" in note

    async def test_what_fits_is_left_alone(self, small: Stage) -> None:
        """To the last byte."""

        async def act() -> str:
            return "x" * LIMIT

        assert (await result_of(small, act)).text == "x" * LIMIT

    async def test_a_large_value_becomes_the_beginning_and_the_end_of_its_json(
        self, small: Stage
    ) -> None:
        """It is no JSON any more, which the note in it says."""

        async def act() -> dict[str, list[int]]:
            return {"numbers": list(range(10_000))}

        result = await result_of(small, act)
        assert result.text.startswith('{"numbers":[0,1,2')
        assert result.text.endswith("9999]}")
        assert len(result.text) <= LIMIT

    @pytest.mark.parametrize(
        "value",
        [
            "x" * (LIMIT + 1),
            ["x" * LIMIT],
            ToolReturn("fine", content="x" * (LIMIT + 1)),
            ToolReturn("x" * (LIMIT + 1)),
        ],
        ids=["text", "list", "follow-up", "tool return"],
    )
    async def test_an_agent_may_want_failure_instead(self, small: Stage, value: Any) -> None:
        """Then the model is told how large the result was, and how large it may be."""

        async def act() -> Any:
            return value

        result = await result_of(small, act, oversize_result="fail")
        assert result.outcome is ToolOutcome.FAILED
        assert f"at most {LIMIT} are allowed" in result.text

    async def test_an_agent_may_have_a_size_of_its_own(self, small: Stage) -> None:
        """It goes before the settings."""

        async def act() -> str:
            return "x" * 3_000

        assert (await result_of(small, act, max_result_bytes=3_000)).text == "x" * 3_000

    async def test_files_are_not_cut(self, small: Stage) -> None:
        """Half a picture is none. Its limit is that of messages."""

        async def act() -> BinaryContent:
            return BinaryContent(b"\0" * 20_000, media_type="image/png")

        assert (await result_of(small, act)).outcome is ToolOutcome.SUCCESS

        async def large() -> BinaryContent:
            return BinaryContent(b"\0" * 40_000, media_type="image/png")

        failed = await result_of(Stage(**small.settings.model_dump()), large)
        assert failed.outcome is ToolOutcome.FAILED
        assert "bytes" in failed.text

    @pytest.mark.parametrize(
        "error", [ToolFailed("x" * 10_000), ModelRetry("x" * 10_000)], ids=["failed", "retry"]
    )
    async def test_what_a_tool_says_of_a_failure_is_cut_too(
        self, small: Stage, error: Exception
    ) -> None:
        """It goes into the history like any result."""
        result = await result_of(small, raising(error)[0])
        assert "are missing here" in result.text
        assert len(result.text) <= LIMIT + 200, "with what Pydantic AI says around it"

    async def test_a_run_taken_over_sends_the_same_bytes(self, small: Stage) -> None:
        """The result is cut before the first worker's model sees it, and is not cut again."""

        async def act() -> str:
            return "x" * 100_000

        live, seen = agent_of(act)
        run_id = await small.submit("room")
        await small.worker(PydanticAIEngine(live)).wake(run_id)
        await small.ended(run_id)

        pause = Pause(1)

        async def stop_here() -> str:
            await pause(1)
            return ""

        again, _ = agent_of(act, stop_here)
        run_id = await small.submit("other")
        worker = small.worker(PydanticAIEngine(again))
        await worker.wake(run_id)
        await pause.reached.wait()

        async def has_result() -> bool:
            return len(await small.history(run_id)) == 3

        await eventually(has_result)
        small.clock.advance(small.settings.lease_s + 1)
        taken, seen_later = agent_of(act, stop_here)
        await small.worker(PydanticAIEngine(taken)).start()
        await small.ended(run_id)
        [told] = told_results(seen)
        assert told_results(seen_later) == [told]
        await small.aclose()

    @pytest.mark.parametrize("limit", range(1_000, 1_050, 7))
    def test_no_character_is_cut_in_two(self, limit: int) -> None:
        """Wherever the two cuts fall."""
        for shift in range(4):
            text = "x" * shift + "\N{GRINNING FACE}" * 1_000
            shortened = cut(text, limit)
            assert len(shortened.encode()) <= limit
            assert "\ufffd" not in shortened
            head, _, tail = shortened.split("\n\n")
            assert text.startswith(head)
            assert text.endswith(tail)


def told_results(notes: Notes) -> list[str]:
    """What the model was told as results in its last call, as far as it has x's in it."""
    return [part for part in re.findall(r"'(x[^']*x)'", str(notes.seen[1])) if "Cut: " in part]


def _raise(error: BaseException) -> list[None]:
    raise error


@pytest.mark.parametrize(
    "error",
    [SystemExit(1), KeyboardInterrupt(), Odd(), Speechless()],
    ids=lambda e: type(e).__name__,
)
async def test_an_engine_that_raises_fails_its_run_only(stage: Stage, error: BaseException) -> None:
    """Functions, agents, and engines of somebody's own."""

    async def answer(_: EngineRequest) -> str:
        raise error

    async def tell(_: EngineRequest) -> Any:
        for _never in _raise(error):
            yield

    class Own(FunctionEngine):
        async def run(self, request: EngineRequest) -> Any:
            for _never in _raise(error):
                yield

    def instructions() -> str:
        raise error

    agent = Agent(scripted([[TextPart("done")]], Notes()), instructions=instructions)
    engines: dict[Engine, str] = {
        FunctionEngine(answer): "agent_error",
        FunctionEngine(tell): "agent_error",
        PydanticAIEngine(agent): "agent_error",
        Own(answer): "internal_error",
    }
    for engine, code in engines.items():
        run_id = await stage.submit()
        assert await stage.worker(engine).wake(run_id)
        run = await stage.ended(run_id)
        assert run.status is RunStatus.FAILED
        assert run.error is not None
        assert run.error.code == code
        assert (await stage.history(run_id))[-1].kind is MessageKind.ERROR


async def test_a_message_that_is_too_large_fails_its_run(small: Stage) -> None:
    """Also one of an engine that heeds no limits; what was stored before it stays in order."""

    async def answer(_: EngineRequest) -> str:
        return "x" * 50_001

    run_id = await small.submit("room")
    await small.worker(FunctionEngine(answer)).wake(run_id)
    run = await small.ended(run_id)
    assert run.error is not None
    assert run.error.code == "message_too_large"
    assert "AGENTS_MAX_MESSAGE_BYTES is 50000" in run.error.message
    assert [message.kind.value for message in await small.history(run_id)] == ["message", "error"]
    await small.aclose()


@pytest.mark.parametrize("depth", [64, 190, *range(195, 203), 230, 3_000])
async def test_what_is_stored_can_be_read_again(stage: Stage, depth: int) -> None:
    """However deep an output is nested: it is kept, or the run fails with an error that says so."""

    async def answer(_: EngineRequest) -> Any:
        return nested(depth)

    run_id = await stage.submit("room")
    await stage.worker(FunctionEngine(answer)).wake(run_id)
    run = await stage.ended(run_id)
    history = await stage.history(run_id)
    assert [message.position for message in history] == [0, 1]
    assert Run.model_validate_json(run.model_dump_json()) == run
    if depth == 64:
        assert run.output == nested(depth)
    if depth >= 230:
        assert run.error is not None
        assert run.error.code in {"message_unstorable", "output_invalid"}
