import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.model_server import Recording, RecordingError, load_recordings, validate
from tests.model_server.recording import FOLDER_VARIABLE, find_folder
from tests.model_server.requirement import require_recordings
from tests.unit.model_server.sample import MESSAGES, RECORDING, SYSTEM, assistant, tool, user

ROW: dict[str, Any] = {
    "id": "x/1",
    "source": "made-up",
    "model": "nobody",
    "tools": None,
    "tools_ref": None,
    "meta": {"replay_len": 2},
    "messages": [user("a\u2028b"), assistant("c")],
}

WORDS = {
    "call_id_reused_in_conversation": "call id reused",
    "call_without_id": "call without id",
    "empty_conversation": "empty conversation",
    "run_aborted_with_error": "no complete run",
    "tool_message_without_id": "tool message without id",
    "unanswered_call": "unanswered call",
}


def _file(folder: Path, *rows: object) -> Path:
    path = folder / "some.jsonl"
    lines = (row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")
    return path


def _recording(*messages: Any, replay_len: int | None = None) -> Recording:
    length = len(messages) if replay_len is None else replay_len
    return replace(RECORDING, messages=messages, replay_len=length)


def test_a_line_ends_at_a_line_feed_and_nowhere_else(tmp_path: Path) -> None:
    """A line separator inside a text does not cut the line in two."""
    loaded = list(load_recordings(_file(tmp_path, ROW, ROW)))
    assert [recording.messages[0]["content"] for recording in loaded] == ["a\u2028b"] * 2


def test_a_limit_ends_the_reading_before_a_later_bad_line(tmp_path: Path) -> None:
    """With a limit of one, the second line is not even parsed."""
    assert len(list(load_recordings(_file(tmp_path, ROW, "{"), limit=1))) == 1


def test_tools_come_from_the_line_or_from_the_file_that_it_names(tmp_path: Path) -> None:
    """Inline tools are taken as they are; a reference is looked up beside the file."""
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "some_ref.json").write_text(json.dumps([{"type": "from file"}]))
    inline = ROW | {"tools": [{"type": "inline"}], "tools_ref": "some_ref"}
    path = _file(tmp_path, inline, ROW | {"tools_ref": "some_ref"}, ROW)
    tools = [recording.tools for recording in load_recordings(path)]
    assert tools == [({"type": "inline"},), ({"type": "from file"},), ()]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "line 2: Expecting"),
        ("[]", "line 2: the line is not a JSON object"),
        (ROW | {"messages": None}, "line 2: field 'messages'"),
        (ROW | {"meta": {}}, "line 2: field 'meta.replay_len'"),
        (ROW | {"meta": {"replay_len": 3}}, "line 2: field 'meta.replay_len'"),
        (ROW | {"tools_ref": "absent"}, "line 2: the tool specs absent.json"),
        (ROW | {"messages": [user("a"), {"role": "robot"}]}, "line 2: message 1 has the role"),
        (ROW | {"messages": [user("a"), "b"]}, "line 2: message 1 is not an object"),
        (
            ROW | {"messages": [user("a"), {"role": "assistant", "tool_calls": [{"id": "a"}]}]},
            "line 2: message 1 has tool_calls that are not",
        ),
    ],
)
def test_a_bad_line_is_named_with_its_number(tmp_path: Path, line: object, words: str) -> None:
    """The error tells file, line and what is wrong; what came before was read."""
    loading = load_recordings(_file(tmp_path, ROW, line))
    assert next(loading).id == "x/1"
    with pytest.raises(RecordingError, match=f"some.jsonl, {words}"):
        next(loading)


def test_bytes_that_are_no_utf_8_are_a_bad_line(tmp_path: Path) -> None:
    """A decoding error is translated like every other."""
    path = tmp_path / "some.jsonl"
    path.write_bytes(b'{"id": "\xff"}\n')
    with pytest.raises(RecordingError, match="line 1"):
        next(load_recordings(path))


def test_a_run_is_a_user_text_and_what_follows_it() -> None:
    """Runs together are the replayable messages; what comes after the last complete run is not."""
    runs = RECORDING.runs()
    assert [run.user_text for run in runs] == ["How is Rome?", "Thanks", "Thanks"]
    assert [run.first_message for run in runs] == [1, 6, 10]
    rebuilt = [SYSTEM]
    for run in runs:
        rebuilt += [user(run.user_text), *run.expected]
    assert rebuilt == list(MESSAGES[:-1])


def test_a_round_is_an_assistant_message_with_its_results() -> None:
    """Rounds together are the messages of the run, each result with the call before it."""
    rounds = RECORDING.runs()[0].rounds
    assert [len(each.results) for each in rounds] == [2, 0]
    assert rounds[0].assistant == MESSAGES[2]
    assert rounds[0].results == MESSAGES[3:5]


def test_the_system_prompt_is_the_leading_system_message() -> None:
    """Without one there is none."""
    assert RECORDING.system_prompt == "You know the weather."
    assert _recording(user("a"), assistant("b")).system_prompt is None


def test_a_sound_recording_has_no_fault() -> None:
    """Neither parallel calls, an empty result, nor an open last run is one."""
    assert validate(RECORDING) == []


@pytest.mark.parametrize(
    ("recording", "words"),
    [
        (_recording(), "empty conversation"),
        (_recording(user("a"), assistant("b"), replay_len=0), "no complete run"),
        (_recording(user("a"), user("b"), assistant("c")), "run of message 0 does not end"),
        (
            _recording(user("a"), assistant("b", ("i", "t", "{}")), tool("i", "t", "c")),
            "run of message 0 does not end",
        ),
        (
            _recording(user("a"), assistant("b"), user("c"), tool("i", "t", "d"), replay_len=2),
            "tool result without a call: message 3",
        ),
    ],
)
def test_a_fault_is_told_in_words(recording: Recording, words: str) -> None:
    """Each way to be unfit for a replay is named, also behind the last complete run."""
    assert any(words in fault for fault in validate(recording))


@pytest.mark.parametrize(
    ("name", "count", "runs"), [("conversations", 100, 636), ("parallel_calls", 60, 60)]
)
def test_good_recordings_have_no_fault(
    recordings_folder: Path, name: str, count: int, runs: int
) -> None:
    """Every line of the two good files can be replayed."""
    recordings = list(load_recordings(recordings_folder / f"{name}.jsonl"))
    assert len(recordings) == count
    assert {
        recording.id: validate(recording) for recording in recordings if validate(recording)
    } == {}
    assert sum(len(recording.runs()) for recording in recordings) == runs
    assert all(recording.tools and recording.system_prompt for recording in recordings)


def test_malformed_recordings_have_the_faults_that_they_are_known_for(
    recordings_folder: Path,
) -> None:
    """Every line of the bad file has a fault, as often as noted where it is one of pairing."""
    recordings = list(load_recordings(recordings_folder / "malformed.jsonl"))
    assert len(recordings) == 60
    for recording in recordings:
        faults = validate(recording)
        assert faults, recording.id
        if "empty_conversation" in recording.anomalies:  # nothing else can be said of it
            assert faults == ["empty conversation: there is no message"]
            continue
        for anomaly, times in recording.anomalies.items():
            found = sum(fault.startswith(WORDS[anomaly]) for fault in faults)
            assert found == times, (recording.id, anomaly, faults)


def test_the_folder_is_where_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A named folder is found, a missing one is not replaced by another."""
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    assert find_folder() == tmp_path
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "absent"))
    assert find_folder() is None


@pytest.mark.parametrize(("ci", "outcome"), [("", pytest.skip), ("true", pytest.fail)])
def test_without_recordings_a_test_is_skipped_but_fails_in_ci(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ci: str, outcome: Any
) -> None:
    """Where nobody reads the output a skip would hide that nothing was tested."""
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "absent"))
    monkeypatch.setenv("CI", ci)
    # Both are caught: a skip that got out would skip this test instead of failing it.
    endings = (pytest.skip.Exception, pytest.fail.Exception)
    with pytest.raises(endings, match=FOLDER_VARIABLE) as ended:
        require_recordings()
    assert ended.type is outcome.Exception
