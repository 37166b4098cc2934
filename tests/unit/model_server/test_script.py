import json
from typing import Any

import pytest

from tests.model_server import (
    Answer,
    Message,
    ModelServer,
    Script,
    create_app,
    script_model,
    tool_call,
)
from tests.unit.model_server.sample import ask, assistant, refusal, said, tool, user

ANSWERS = (
    Answer("Looking.", (tool_call("look", {"at": "it"}), tool_call("wait"))),
    Answer("Done."),
)

FIRST_ROUND = [
    assistant("Looking.", ("call_0_0", "look", '{"at": "it"}'), ("call_0_1", "wait", "{}")),
    tool("call_0_0", "look", "seen"),
    tool("call_0_1", "wait", "waited"),
]


def _played(server: ModelServer, model: str, *messages: Message) -> Message:
    return said(ask(server.base_url, model, messages))


def test_a_script_is_played_round_by_round(server: ModelServer) -> None:
    """The round is counted from the last user message on, so each run plays it from its start."""
    model = script_model(*ANSWERS)
    asked = user("look")
    first = _played(server, model, asked)
    assert first == FIRST_ROUND[0]
    last = _played(server, model, asked, *FIRST_ROUND)
    assert last == assistant("Done.")
    assert _played(server, model, asked, *FIRST_ROUND, last, asked) == first


def test_a_call_keeps_the_id_that_it_was_given(server: ModelServer) -> None:
    """So a test can reuse one on purpose."""
    model = script_model(Answer(calls=(tool_call("look", call_id="mine"),)))
    assert _played(server, model, user("look")) == assistant(None, ("mine", "look", "{}"))


def test_a_registered_script_has_a_short_name() -> None:
    """Name and JSON play the same."""
    script = Script("look", ANSWERS)
    with ModelServer(create_app(scripts=[script])) as server:
        assert script.model == "script:look"
        assert _played(server, script.model, user("look")) == FIRST_ROUND[0]


def test_a_script_that_has_ended_says_so(server: ModelServer) -> None:
    """An agent loop that asks once too often is found out."""
    model = script_model(Answer("Done."))
    response = ask(server.base_url, model, [user("a"), assistant("Done.")])
    assert refusal(response) == (
        400,
        "script_ended",
        "the script ends after 1 rounds, round 1 was asked for",
    )


@pytest.mark.parametrize("argument", ["absent", "[", "[1]", json.dumps([{"calls": [{}]}])])
def test_a_script_that_cannot_be_read_is_not_found(server: ModelServer, argument: Any) -> None:
    """Neither an unknown name nor broken JSON is taken for an empty script."""
    status, code, _ = refusal(ask(server.base_url, f"script:{argument}", [user("a")]))
    assert (status, code) == (404, "model_not_found")
