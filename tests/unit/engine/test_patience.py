"""Model calls that fail: over the real client of OpenAI, against a provider on a local port."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
import stamina
import structlog
from pydantic_ai import Agent
from pydantic_ai.exceptions import FallbackExceptionGroup, ModelHTTPError, UserError
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart
from pydantic_ai.models.fallback import FallbackModel
from pydantic_ai.models.function import AgentInfo, FunctionModel

from agent_worker.engine.protocol import EngineError, EngineEvent, EngineLimits, TextDelta
from agent_worker.engine.pydantic_ai.engine import PydanticAIEngine
from agent_worker.engine.pydantic_ai.failure import (
    MAX_RETRY_AFTER_S,
    engine_error,
    is_transient,
    retry_after_s,
)
from shared.message import Draft, Usage
from tests.contract.engine import messages, request
from tests.unit.engine.provider import Provider, Reply, provider, refuses, says

LIMITS = EngineLimits(max_rounds=3, model_timeout_s=10, tool_timeout_s=1, model_retries=2)
HASTY = EngineLimits(max_rounds=3, model_timeout_s=0.5, tool_timeout_s=1, model_retries=2)


@pytest.fixture(autouse=True)
def no_waiting() -> Iterator[None]:
    """Pauses between tries take no time; how long they would be is tested by itself."""
    with stamina.set_testing(True, attempts=3, cap=True):
        yield


async def events_of(
    one: Provider, *, limits: EngineLimits = LIMITS, stream_text: bool = False
) -> list[EngineEvent]:
    """What the engine yields for an agent with the provider's model."""
    async with one.model() as model:
        engine = PydanticAIEngine(Agent(model, name="a"))
        return [
            event async for event in engine.run(request(limits=limits, stream_text=stream_text))
        ]


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 529])
async def test_a_call_that_may_succeed_is_made_again(status: int) -> None:
    """As often as it takes, within the limit, and by nobody else than the engine."""
    async with provider(refuses(status, "no"), refuses(status, "no"), says("done")) as one:
        events = await events_of(one)

    [answer] = messages(events)
    assert answer.text == "done"
    assert answer.usage == Usage(input_tokens=5, output_tokens=2, requests=1)
    assert len(one.requests) == 3


async def test_the_client_does_not_try_by_itself() -> None:
    """Its own two retries would multiply with ours."""
    limits = EngineLimits(max_rounds=3, model_timeout_s=1, tool_timeout_s=1, model_retries=0)
    async with provider(refuses(503, "no"), says("unseen")) as one:
        with pytest.raises(EngineError):
            await events_of(one, limits=limits)

    assert len(one.requests) == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
async def test_a_call_that_is_wrong_is_not_made_again(status: int) -> None:
    """The error has the status and the provider's words, and no credential."""
    words = "Incorrect API key provided: sk-secret-0123456789. Read the manual."
    async with provider(refuses(status, words), says("unseen")) as one:
        with pytest.raises(EngineError) as caught:
            await events_of(one)

    assert caught.value.code == "model_error"
    assert str(caught.value) == (
        f"The model gpt-4o answered with status {status}: "
        "Incorrect API key provided: [removed]. Read the manual."
    )
    assert len(one.requests) == 1


async def test_tries_come_to_an_end() -> None:
    """Behind the last one the run fails with what the provider said last."""
    async with provider(*(refuses(503, f"busy {n}") for n in range(4))) as one:
        with pytest.raises(EngineError, match="status 503: busy 2") as caught:
            await events_of(one)

    assert caught.value.code == "model_error"
    assert len(one.requests) == 3


async def test_a_model_that_does_not_answer_runs_out_of_time() -> None:
    """Each try has its own time; the error names the setting."""
    async with provider(*[Reply(hangs=True)] * 3) as one:
        with pytest.raises(EngineError, match=r"within 0.5 s.*`model_timeout_s`") as caught:
            await events_of(one, limits=HASTY)

    assert caught.value.code == "model_timeout"
    assert len(one.requests) == 3


async def test_a_model_that_hangs_once_is_asked_again() -> None:
    """A timeout is no reason to give up."""
    async with provider(Reply(hangs=True), says("done")) as one:
        events = await events_of(one, limits=HASTY)

    assert messages(events)[0].text == "done"


async def test_a_refused_connection_is_tried_again() -> None:
    """Nobody listens: that may change, and the error says what it was."""
    async with provider() as one:
        pass

    with pytest.raises(EngineError, match="Connection") as caught:
        await events_of(one)

    assert caught.value.code == "model_error"


async def test_an_answer_that_breaks_off_is_written_again() -> None:
    """Its text is not shown twice: the message that is stored supersedes the first pieces."""
    async with provider(Reply(pieces=["Hel"], breaks=True), Reply(pieces=["Good ", "day"])) as one:
        events = await events_of(one, stream_text=True)

    assert [event.text for event in events if isinstance(event, TextDelta)] == ["Hel"]
    assert [draft.text for draft in messages(events)] == ["Good day"]


async def test_an_answer_that_breaks_off_before_its_text_is_shown_the_next_time() -> None:
    """Nothing was shown, so nothing can be mixed up."""
    async with provider(refuses(503, "no"), Reply(pieces=["Good ", "day"])) as one:
        events = await events_of(one, stream_text=True)

    assert [event.text for event in events if isinstance(event, TextDelta)] == ["Good ", "day"]


async def test_a_retry_is_logged_without_what_the_provider_said() -> None:
    """Its words may quote the conversation."""
    with structlog.testing.capture_logs() as logs:
        async with provider(refuses(503, "you said hunter2"), says("done")) as one:
            await events_of(one)

    [entry] = [entry for entry in logs if entry["event"] == "stamina.retry_scheduled"]
    assert "503" in entry["caused_by"]
    assert "hunter2" not in str(logs)


async def test_exceptions_of_other_models_are_model_errors() -> None:
    """A model of one's own may raise what it likes; a connection's error is tried again."""
    tries: list[int] = []

    async def answer(history: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        tries.append(1)
        if len(tries) < 3:
            raise ConnectionResetError("gone")
        raise ValueError("cannot read it")

    engine = PydanticAIEngine(Agent(FunctionModel(answer)))
    with pytest.raises(EngineError, match="ValueError: cannot read it") as caught:
        async for _ in engine.run(request(limits=LIMITS)):
            pass

    assert caught.value.code == "model_error"
    assert len(tries) == 3


async def test_a_chain_of_models_is_tried_as_a_whole() -> None:
    """When all of them failed for a moment, the chain starts over."""
    tries: list[str] = []

    def failing(name: str) -> FunctionModel:
        async def answer(history: list[ModelMessage], info: AgentInfo) -> ModelResponse:
            tries.append(name)
            if len(tries) < 3:
                raise ModelHTTPError(503, name, body={"message": "busy"})
            return ModelResponse(parts=[TextPart(name)])

        return FunctionModel(answer)

    engine = PydanticAIEngine(Agent(FallbackModel(failing("a"), failing("b"))))
    events = [event async for event in engine.run(request(limits=LIMITS))]

    assert tries == ["a", "b", "a"]
    assert isinstance(events[0], Draft)


# --- what is transient, and how long to wait ------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"Retry-After": "86400"}, MAX_RETRY_AFTER_S),
        ({"Retry-After": "-3"}, 0.0),
        ({"Retry-After": "soon"}, None),
        ({}, None),
    ],
)
def test_the_provider_says_how_long_to_wait(
    headers: dict[str, str], expected: float | None
) -> None:
    """In seconds, and not longer than is reasonable."""
    assert retry_after_s(ModelHTTPError(429, "m", headers=headers)) == expected


def test_the_provider_may_name_a_date() -> None:
    """The other form of the header; a date that is over means now."""
    future = format_datetime(datetime.now(UTC) + timedelta(seconds=20), usegmt=True)
    past = format_datetime(datetime.now(UTC) - timedelta(seconds=20), usegmt=True)

    waits = [
        retry_after_s(ModelHTTPError(503, "m", headers={"retry-after": date}))
        for date in (future, past)
    ]

    assert waits[0] is not None
    assert 15 < waits[0] <= 20
    assert waits[1] == 0


async def test_the_asked_wait_is_kept() -> None:
    """Between two tries lies what the provider asked for, not our own pause."""
    loop = asyncio.get_running_loop()
    with stamina.set_testing(False):
        async with provider(refuses(429, "slow", retry_after="2"), says("done")) as one:
            before = loop.time()
            await events_of(one)

    assert 2 <= loop.time() - before < 8


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ModelHTTPError(503, "m"), True),
        (ModelHTTPError(400, "m"), False),
        (ModelHTTPError(503, "m", headers={"x-should-retry": "false"}), False),
        (FallbackExceptionGroup("all", [ModelHTTPError(400, "m"), ModelHTTPError(503, "m")]), True),
        (FallbackExceptionGroup("all", [ModelHTTPError(400, "m"), UserError("x")]), False),
        (ConnectionResetError(), True),
        (TimeoutError(), True),
        (ValueError(), False),
        (UserError("no model"), False),
    ],
)
def test_what_may_be_gone_at_the_next_try(error: Exception, expected: Any) -> None:
    """Connections, time-outs and the provider's troubles; never the request's own faults."""
    assert is_transient(error) is expected


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("it is sk-proj-abcdef123456.", "it is [removed]."),
        ("Authorization: Bearer abc123def456", "Authorization: [removed]"),
        ("postgres://joe:hunter2@db/x", "postgres://[removed]@db/x"),
        ("maximum context length is 8192 tokens limited", None),
        ("unknown key provided", None),
    ],
)
def test_credentials_are_taken_out(said: str, shown: str | None) -> None:
    """Errors are stored and shown to people; ordinary words stay."""
    message = str(engine_error(ValueError(said)))

    assert message == f"ValueError: {said if shown is None else shown}"


def test_several_errors_are_all_named() -> None:
    """A chain of models failed: each of them says why."""
    group = FallbackExceptionGroup(
        "all", [ModelHTTPError(400, "m", body={"message": "A"}), ModelHTTPError(503, "n", body="B")]
    )

    error = engine_error(group)

    assert error.code == "model_error"
    assert str(error) == (
        "The model m answered with status 400: A | The model n answered with status 503: B"
    )
