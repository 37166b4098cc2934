"""Messages of Pydantic AI as stored messages, and back."""

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from pydantic_ai.messages import (
    BinaryContent,
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    RetryFeedbackPart,
    RetryInfo,
    SystemPromptPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)

from agent_worker.engine.pydantic_ai.answers import response_draft
from agent_worker.engine.pydantic_ai.calls import unique_ids
from agent_worker.engine.pydantic_ai.history import message_drafts, model_messages
from agent_worker.engine.pydantic_ai.parts import result_draft
from shared.codec import decode_message, encode
from shared.message import (
    DataPart,
    Draft,
    EngineData,
    MediaPart,
    Message,
    MessageKind,
    Role,
    ToolCall,
    ToolOutcome,
    tool_result_draft,
    user_draft,
)
from shared.message import TextPart as SharedTextPart
from shared.message import ThinkingPart as SharedThinkingPart
from tests.unit.engine.native import histories


def stored(drafts: Iterable[Draft]) -> list[Message]:
    """What a reader gets of drafts that a run wrote."""
    return [
        decode_message(
            encode(Message.from_draft(draft, run_id="run", position=position)), cursor="1"
        )
        for position, draft in enumerate(drafts)
    ]


def dump(messages: Sequence[ModelMessage]) -> Any:
    return ModelMessagesTypeAdapter.dump_python(list(messages), mode="json")


@settings(deadline=None)  # the first example builds the library's serializers
@given(history=histories)
def test_every_history_survives_being_stored(history: list[ModelMessage]) -> None:
    """Draft, stored JSON and back give the messages that went in, whatever they hold."""
    assert dump(model_messages(stored(message_drafts(history)))) == dump(history)


@pytest.mark.parametrize("said", ["", "Let me see."])
@pytest.mark.parametrize("arguments", ['{"a": 1}', '{"a":1}', "", '{"cut'])
def test_an_answer_with_text_and_a_call_is_portable(said: str, arguments: str) -> None:
    """Text and raw arguments stand in the portable fields exactly as the model wrote them."""
    response = ModelResponse([TextPart(said), ToolCallPart("look_up", arguments, "call-1")])

    [draft] = message_drafts([response])

    assert (draft.role, draft.kind) == (Role.ASSISTANT, MessageKind.TOOL_CALL)
    assert draft.content == said
    assert draft.tool_calls == (ToolCall(id="call-1", name="look_up", arguments=arguments),)


def test_an_answer_that_only_calls_tools_has_no_content() -> None:
    """None and an empty text are different things to whoever replays a recording."""
    [draft] = message_drafts([ModelResponse([ToolCallPart("look_up", "{}", "call-1")])])

    assert draft.content is None


@pytest.mark.parametrize("result", ["", "done", ' {"a": 1}'])
def test_a_text_result_is_stored_as_it_is(result: str) -> None:
    """A tool's text is the message's content, an empty one included."""
    [draft] = message_drafts([ModelRequest([ToolReturnPart("look_up", result, "call-1")])])

    assert (draft.role, draft.kind, draft.outcome) == (
        Role.TOOL,
        MessageKind.TOOL_RESULT,
        ToolOutcome.SUCCESS,
    )
    assert draft.content == result
    assert (draft.tool_name, draft.tool_call_id) == ("look_up", "call-1")


@pytest.mark.parametrize(
    ("native", "outcome"),
    [
        ("success", ToolOutcome.SUCCESS),
        ("failed", ToolOutcome.FAILED),
        ("denied", ToolOutcome.FAILED),
        ("retried", ToolOutcome.RETRY),
        ("interrupted", ToolOutcome.CANCELLED),
    ],
)
def test_outcomes_are_translated(native: Any, outcome: ToolOutcome) -> None:
    """Each outcome of Pydantic AI has its word in the portable form."""
    part = ToolReturnPart("look_up", "text", "call-1", outcome=native)

    [draft] = message_drafts([ModelRequest([part])])

    assert draft.outcome is outcome


def test_structured_results_are_data() -> None:
    """A result that is not text stands in the message as the value that it is."""
    [draft] = message_drafts([ModelRequest([ToolReturnPart("look_up", {"a": [1, None]}, "c")])])

    assert draft.content == (DataPart(value={"a": [1, None]}),)


def test_inline_media_are_readable_without_the_library() -> None:
    """Bytes are base64 in the standard alphabet, and thinking is told apart from text."""
    data = bytes(range(240, 256))
    prompt = UserPromptPart(["look", BinaryContent(data, media_type="image/png")])
    response = ModelResponse([ThinkingPart("hm", signature="s"), TextPart("A cat.")])

    asked, answered = message_drafts([ModelRequest([prompt]), response])

    assert asked.content == (
        SharedTextPart(text="look"),
        MediaPart(media_type="image/png", data="8PHy8/T19vf4+fr7/P3+/w=="),
    )
    assert answered.content == (SharedThinkingPart(text="hm"), SharedTextPart(text="A cat."))


def test_large_text_is_not_stored_twice() -> None:
    """What the portable form holds does not appear in the engine's data once more."""
    text, data = "x" * 5000, b"y" * 5000
    history: list[ModelMessage] = [
        ModelRequest(
            [SystemPromptPart(text), UserPromptPart([text, BinaryContent(data, media_type="a/b")])]
        ),
        ModelResponse(
            [ThinkingPart(text, signature="s"), TextPart(text), ToolCallPart("t", {"a": text}, "c")]
        ),
        ModelRequest(
            [
                ToolReturnPart("t", {"a": text}, "c"),
                ToolReturnPart("t", [text, BinaryContent(data, media_type="a/b")], "c"),
                RetryFeedbackPart(text, retry=RetryInfo("model_retry")),
            ]
        ),
    ]

    for draft in message_drafts(history):
        assert draft.engine is None or len(draft.engine.model_dump_json()) < 500


def test_results_and_prompts_between_two_answers_are_one_request() -> None:
    """Providers want all results of an answer in one turn."""
    calls = (ToolCall(id="a", name="t", arguments="{}"), ToolCall(id="b", name="t", arguments="{}"))
    messages = stored(
        [
            user_draft("go"),
            Draft(role=Role.ASSISTANT, kind=MessageKind.TOOL_CALL, tool_calls=calls),
            tool_result_draft(calls[0], "1"),
            tool_result_draft(calls[1], "2", outcome=ToolOutcome.FAILED),
            user_draft("and?"),
        ]
    )

    history = model_messages(messages)

    assert [type(message) for message in history] == [ModelRequest, ModelResponse, ModelRequest]
    assert [part.part_kind for part in history[2].parts] == [
        "tool-return",
        "tool-return",
        "user-prompt",
    ]


def test_results_are_read_in_the_order_of_their_calls() -> None:
    """They are stored as the tools ended, and note which call of the answer was theirs."""
    calls = [ToolCallPart("t", "{}", f"c{index}") for index in range(3)]
    answer = response_draft(ModelResponse(calls))
    results = [
        result_draft(ToolReturnPart("t", str(index), f"c{index}"), index=index)
        for index in (2, 0, 1)
    ]

    [_, read] = model_messages(stored([answer, *results]))

    texts = [part.content for part in read.parts if isinstance(part, ToolReturnPart)]
    assert texts == ["0", "1", "2"]


def test_messages_of_other_engines_are_understood() -> None:
    """The portable form alone makes a history that Pydantic AI accepts."""
    call = ToolCall(id="a", name="t", arguments='{"q": 1}')
    foreign = EngineData(name="another", version=9, data=["?"])
    messages = stored(
        [
            Draft(role=Role.SYSTEM, content="Be brief."),
            user_draft(
                (
                    SharedTextPart(text="see"),
                    MediaPart(media_type="image/png", url="https://e.org/a"),
                )
            ),
            Draft(role=Role.ASSISTANT, kind=MessageKind.TOOL_CALL, content="", tool_calls=(call,)),
            tool_result_draft(call, (DataPart(value={"n": 1}),)),
            tool_result_draft(call, (SharedTextPart(text="tw"), SharedTextPart(text="o"))),
            Draft(
                role=Role.ASSISTANT,
                content=(SharedTextPart(text="One."), DataPart(value=1)),
                engine=foreign,
            ),
        ]
    )

    asked, called, answered, said = model_messages(messages)

    assert [part.part_kind for part in asked.parts] == ["system-prompt", "user-prompt"]
    assert [part.part_kind for part in called.parts] == ["tool-call"]
    results = [part.content for part in answered.parts if isinstance(part, ToolReturnPart)]
    assert results == [{"n": 1}, "two"]
    assert isinstance(said, ModelResponse)
    assert said.text == "One.1"


def test_notes_about_failures_are_not_shown_to_the_model() -> None:
    """An error entry is for people."""
    note = Draft(role=Role.SYSTEM, kind=MessageKind.ERROR, content="The run failed.")

    assert model_messages(stored([note])) == []


def test_unreadable_engine_data_costs_only_what_it_says() -> None:
    """A message whose engine data is damaged is taken by its portable form; the rest is exact."""
    history: list[ModelMessage] = [
        ModelRequest([UserPromptPart("go")]),
        ModelResponse([ThinkingPart("hm", signature="kept")]),
    ]
    asked, answered = message_drafts(history)
    broken = EngineData(name="pydantic-ai", version=1, data={"part": {"part_kind": "?"}})

    read = model_messages(stored([asked.model_copy(update={"engine": broken}), answered]))

    assert [part.part_kind for part in read[0].parts] == ["user-prompt"]
    assert dump(read[1:]) == dump(history[1:])


def test_calls_with_one_id_in_one_answer_are_told_apart() -> None:
    """Pydantic AI pairs by id, so repeated and empty ids become different, with their results."""
    calls = tuple(ToolCall(id=own, name="t", arguments="{}") for own in ("a", "a", ""))
    messages = stored(
        [
            Draft(role=Role.ASSISTANT, kind=MessageKind.TOOL_CALL, tool_calls=calls),
            *(tool_result_draft(call, text) for call, text in zip(calls, "123", strict=True)),
        ]
    )

    answer, results = model_messages(messages)

    ids = [part.tool_call_id for part in answer.parts if isinstance(part, ToolCallPart)]
    assert ids == ["a", "a~1", "call"]
    assert [
        (part.tool_call_id, part.content)
        for part in results.parts
        if isinstance(part, ToolReturnPart)
    ] == [("a", "1"), ("a~1", "2"), ("call", "3")]


def test_unique_ids_never_meet_one_that_is_there() -> None:
    """A made-up id gives way to one that the model wrote before."""
    assert unique_ids(["a~1", "a", "a"]) == ["a~1", "a", "a~2"]


def test_stored_names_are_as_documented() -> None:
    """The layout of engine data is compatibility data: this is what stores hold."""
    part = ToolReturnPart(
        "t", None, "c", metadata={"k": 1}, timestamp=datetime(2026, 1, 1, tzinfo=UTC)
    )

    [draft] = message_drafts([ModelRequest([part], instructions="Be brief.")])

    assert draft.engine is not None
    assert json.loads(draft.engine.model_dump_json()) == {
        "name": "pydantic-ai",
        "version": 1,
        "data": {
            "part": {"content": None, "metadata": {"k": 1}, "timestamp": "2026-01-01T00:00:00Z"},
            "request": {"instructions": "Be brief."},
        },
    }
