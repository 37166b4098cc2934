from dataclasses import replace
from pathlib import Path

import pytest

from tests.model_server import RecordedTools, ToolMismatchError, load_recordings
from tests.unit.model_server.sample import RECORDING, assistant, tool, user

ROME = {"city": "Rome"}


def test_a_call_is_answered_as_recorded() -> None:
    """By position or by id, arguments as text or as an object; an empty result stays one."""
    tools = RecordedTools(RECORDING)
    assert tools.result(0, 0, 0, "weather", ROME) == "sunny"
    assert tools.result(0, 0, "b", "weather", '{"city":"Rome"}') == ""
    assert tools.result(1, 0, "c", "clock", {}) == "12:00"


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ((0, 0, 0, "clock", ROME), "'clock' was called, recorded is 'weather'"),
        ((0, 0, 0, "weather", {"city": "Oslo"}), "Oslo.*recorded is.*Rome"),
        ((0, 0, 2, "weather", ROME), "no call 2, the round has 2"),
        ((0, 0, -1, "weather", ROME), "no call -1"),
        ((0, 0, "c", "weather", ROME), "0 calls have the id 'c'"),
        ((0, 2, 0, "weather", ROME), "the run has 2 rounds"),
        ((3, 0, 0, "weather", ROME), "the recording has 3 runs"),
    ],
)
def test_a_call_that_was_not_recorded_is_refused(
    call: tuple[int, int, int | str, str, dict[str, str]], words: str
) -> None:
    """The error names the place and what differs."""
    with pytest.raises(ToolMismatchError, match=f"^made-up/weather:1, run .*{words}"):
        RecordedTools(RECORDING).result(*call)


def test_calls_with_one_id_are_told_apart_by_position() -> None:
    """The id alone is refused, since it would name either."""
    call = ("i", "look", "{}")
    messages = (
        user("a"),
        assistant(None, call, call),
        tool("i", "look", "first"),
        tool("i", "look", "second"),
        assistant("b"),
    )
    tools = RecordedTools(replace(RECORDING, messages=messages, replay_len=5))
    assert [tools.result(0, 0, place, "look", {}) for place in (0, 1)] == ["first", "second"]
    with pytest.raises(ToolMismatchError, match="2 calls have the id 'i'; name it by its position"):
        tools.result(0, 0, "i", "look", {})


@pytest.mark.parametrize("name", ["conversations", "parallel_calls"])
def test_every_recorded_call_finds_its_result(recordings_folder: Path, name: str) -> None:
    """Asked for by id and by position, each call gets the content of its own tool message."""
    calls = 0
    for recording in load_recordings(recordings_folder / f"{name}.jsonl"):
        tools = RecordedTools(recording)
        for run in recording.runs():
            for index, each in enumerate(run.rounds):
                by_id = {result["tool_call_id"]: result["content"] for result in each.results}
                for position, call in enumerate(each.assistant.get("tool_calls") or ()):
                    function = call["function"]
                    for key in (position, call["id"]):
                        found = tools.result(
                            run.index, index, key, function["name"], function["arguments"]
                        )
                        assert found == by_id[call["id"]]
                    calls += 1
    assert calls == {"conversations": 616, "parallel_calls": 353}[name]
