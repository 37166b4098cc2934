from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.model_server import (
    Message,
    ModelServer,
    RecordingError,
    create_app,
    load_recordings,
    replay_model,
)
from tests.unit.model_server.sample import (
    MESSAGES,
    RECORDING,
    SYSTEM,
    ask,
    assistant,
    refusal,
    said,
    tool,
    user,
)

WHOLE = replay_model(RECORDING.id)
ANSWERED = [place for place, message in enumerate(MESSAGES) if message["role"] == "assistant"]
"""The places in the sample that a request can lead up to."""

FIRST_RUN = MESSAGES[1:6]


def _edited(place: int, **changes: Any) -> list[Message]:
    """Return the messages up to the last answer of the first run, one of them changed."""
    messages = list(MESSAGES[:5])
    messages[place] = {**messages[place], **changes}
    return messages


def test_the_name_of_a_recording_is_safe_everywhere() -> None:
    """No slash, blank or further colon is left of the id."""
    assert replay_model("a/b c:d", 3) == "replay:a%2Fb%20c%3Ad:3"
    assert WHOLE == "replay:made-up%2Fweather%3A1"


@pytest.mark.parametrize("place", ANSWERED)
@pytest.mark.parametrize("sent_from", [0, 1])
def test_each_recorded_answer_is_given_after_its_history(
    server: ModelServer, place: int, sent_from: int
) -> None:
    """With or without the system message, which is the caller's own."""
    response = ask(server.base_url, WHOLE, MESSAGES[sent_from:place])
    assert said(response) == MESSAGES[place]
    assert server.stats().mismatches == 0


@pytest.mark.parametrize("place", ANSWERED)
def test_a_run_in_the_name_needs_nothing_before_its_user_message(
    server: ModelServer, place: int
) -> None:
    """The window may begin there, or hold something that was never recorded."""
    run = next(run for run in reversed(RECORDING.runs()) if run.first_message < place)
    model = replay_model(RECORDING.id, run.index)
    tail = MESSAGES[run.first_message : place]
    for before in ([], [SYSTEM, user("In short: it is sunny."), assistant("Good.")]):
        assert said(ask(server.base_url, model, [*before, *tail])) == MESSAGES[place]


def test_a_window_is_enough_where_it_fits_one_run_only(server: ModelServer) -> None:
    """'Thanks' opens two runs; what was said before tells them apart."""
    assert said(ask(server.base_url, WHOLE, MESSAGES[5:7])) == MESSAGES[7]
    assert said(ask(server.base_url, WHOLE, MESSAGES[9:11])) == MESSAGES[11]
    status, code, message = refusal(ask(server.base_url, WHOLE, [user("Thanks")]))
    assert (status, code) == (400, "replay_ambiguous")
    assert "name the run" in message
    assert server.stats().mismatches == 0


def test_arguments_may_be_spelled_otherwise(server: ModelServer) -> None:
    """Clients write a call's arguments again, without the blanks."""
    asked = assistant(
        None, ("a", "weather", '{"city":"Rome"}'), ("b", "weather", '{ "city" : "Rome" }')
    )
    sent = [MESSAGES[1], asked, *MESSAGES[3:5]]
    assert said(ask(server.base_url, WHOLE, sent)) == MESSAGES[5]


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (_edited(1, content="How is Oslo?"), "no run starts with the user message 'How is Oslo?'"),
        (_edited(2, content=""), "message 2 of the recording: content is '', recorded is None"),
        (_edited(3, content="rainy"), "content is 'rainy', recorded is 'sunny'"),
        (_edited(4, content=None), "content is None, recorded is ''"),
        ([*MESSAGES[:3], MESSAGES[4], MESSAGES[3]], "tool_call_id is 'b', recorded is 'a'"),
        ([*MESSAGES[:2], assistant("Hm.")], "message 2 of the recording: content is 'Hm.'"),
        ([*MESSAGES[:6], MESSAGES[5]], "message 6 of the recording: role is 'assistant'"),
        (MESSAGES[:6], "the recording goes on with a user message"),
        (MESSAGES[:12], "the recording ends here"),
        ([*MESSAGES[:12], assistant("More.")], "cannot hold there"),
        ([assistant("Hi."), *MESSAGES[1:5]], "cannot hold there"),
        ([SYSTEM], "no user message"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_deviation_is_refused_and_counted(
    server: ModelServer, sent: Sequence[Message], words: str, stream: bool
) -> None:
    """The refusal says which message differs and how; no answer hides it."""
    status, code, message = refusal(ask(server.base_url, WHOLE, sent, stream=stream))
    assert (status, code) == (400, "replay_mismatch")
    assert words in message
    assert server.stats().mismatches == server.stats().errors == 1


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (("z", "weather", '{"city": "Rome"}'), "id of call 0 is 'z', recorded is 'a'"),
        (("a", "clock", '{"city": "Rome"}'), "name of call 0 is 'clock'"),
        (("a", "weather", '{"city": "Oslo"}'), "arguments of call 0 is"),
        (("a", "weather", "Rome"), "arguments of call 0 is 'Rome'"),
    ],
)
@pytest.mark.parametrize("model", [WHOLE, replay_model(RECORDING.id, 0)])
def test_a_call_that_the_model_did_not_make_is_refused(
    server: ModelServer, model: str, call: tuple[str, str, str], words: str
) -> None:
    """Id, name and arguments of each call must be those of the recording, in both forms."""
    asked = assistant(None, call, ("b", "weather", '{"city": "Rome"}'))
    results = (tool(call[0], "weather", "sunny"), MESSAGES[4])
    _, code, message = refusal(ask(server.base_url, model, [MESSAGES[1], asked, *results]))
    assert code == "replay_mismatch"
    assert words in message


def test_a_named_run_holds_its_own_user_message_against_the_request(server: ModelServer) -> None:
    """A caller that counts runs wrongly is told."""
    response = ask(server.base_url, replay_model(RECORDING.id, 1), FIRST_RUN[:1])
    _, code, message = refusal(response)
    assert code == "replay_mismatch"
    assert message.endswith(
        "message 6 of the recording: content is 'How is Rome?', recorded is 'Thanks'"
    )


@pytest.mark.parametrize(
    "sent",
    [
        [*MESSAGES[:4], *MESSAGES[5:7]],
        [*MESSAGES[3:7]],
        [*MESSAGES[:3], *MESSAGES[5:7]],
    ],
    ids=["a result is missing", "the window begins inside a pair", "no result at all"],
)
def test_a_broken_pair_is_refused_before_anything_else(
    server: ModelServer, sent: Sequence[Message]
) -> None:
    """As providers do, and for every model, so that no broken history goes unseen."""
    for model in (WHOLE, replay_model(RECORDING.id, 1), "echo"):
        status, code, _ = refusal(ask(server.base_url, model, sent))
        assert (status, code) == (400, "broken_history")
    assert server.stats().broken_histories == 3


def test_equal_requests_get_equal_answers(server: ModelServer) -> None:
    """A retry is answered as if the first request had never been: nothing is remembered."""
    replies = [ask(server.base_url, WHOLE, MESSAGES[:5]).json() for _ in range(3)]
    assert len({reply["id"] for reply in replies}) == 1
    assert all(reply["choices"] == replies[0]["choices"] for reply in replies)


@pytest.mark.parametrize("model", ["replay:absent", f"{WHOLE}:3", f"{WHOLE}:x", f"{WHOLE}:-1"])
def test_an_unknown_recording_or_run_is_not_found(server: ModelServer, model: str) -> None:
    """A wrong name is not a deviation."""
    status, code, _ = refusal(ask(server.base_url, model, FIRST_RUN[:1]))
    assert (status, code) == (404, "model_not_found")
    assert server.stats().mismatches == 0


def test_a_recording_with_a_fault_is_not_served() -> None:
    """The app is not even built, and the error names recording and fault."""
    messages = (user("a"), assistant(None, ("i", "look", "{}")), assistant("b"))
    broken = replace(RECORDING, messages=messages, replay_len=3)
    with pytest.raises(RecordingError, match="weather:1 cannot be replayed: unanswered call"):
        create_app([broken])


def test_no_malformed_recording_is_served(recordings_folder: Path) -> None:
    """Each of the sixty is refused by itself."""
    for recording in load_recordings(recordings_folder / "malformed.jsonl"):
        with pytest.raises(RecordingError, match="cannot be replayed: "):
            create_app([recording])


@pytest.mark.parametrize("name", ["conversations", "parallel_calls"])
def test_a_window_of_twenty_messages_finds_every_recorded_answer(
    recordings_folder: Path, name: str
) -> None:
    """In real conversations no window of that size that begins at a user message fits two runs."""
    recordings = list(load_recordings(recordings_folder / f"{name}.jsonl", limit=10))
    with ModelServer(create_app(recordings)) as server:
        asked = 0
        for recording in recordings:
            for place in range(2, recording.replay_len, 3):
                if recording.messages[place]["role"] != "assistant":
                    continue
                window = _window(recording.messages[:place], 20)
                reply = said(ask(server.base_url, replay_model(recording.id), window))
                assert reply == recording.messages[place]
                asked += 1
        assert server.stats().requests == asked > 10


def _window(messages: Sequence[Message], size: int) -> Sequence[Message]:
    """Return the last messages from a user message on, at most `size` where a run is that short."""
    starts = [place for place, message in enumerate(messages) if message["role"] == "user"]
    fitting = [start for start in starts if len(messages) - start <= size]
    return messages[fitting[0] if fitting else starts[-1] :]
