"""Model `replay:<recording>[:<run>]`: says what the recorded assistant said, and nothing else.

Which answer is next follows from the request alone, so any number of conversations, retries and
restarts may go on at once. There are two forms of the model's name.

* `replay:<recording>` holds all messages of the request against the recording. They must be a
  stretch of it that ends where an assistant message follows. A window of the history will do; how
  long it must be is not for a model to say.
* `replay:<recording>:<run>` holds only the last user message and what follows it against that run,
  for callers that send something else in front, such as a summary of what fell out of a window.

System messages are the caller's own and never compared. A request that deviates gets status 400
and the code `replay_mismatch`, so that a replay that ends well has been honest throughout. A window
so short that several runs fit it gets the code `replay_ambiguous`.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias
from urllib.parse import quote, unquote

from tests.model_server.chat import (
    Answer,
    ChatRequest,
    Message,
    ModelError,
    canonical_json,
    last_user_index,
    text_of,
)
from tests.model_server.recording import Recording, RecordingError, validate

MISMATCH = "replay_mismatch"
AMBIGUOUS = "replay_ambiguous"

_SHOWN_CHARACTERS = 120

_Compared: TypeAlias = tuple[tuple[str, object], ...]
"""The fields of a message that must agree, each with its name."""


def replay_model(recording_id: str, run_index: int | None = None) -> str:
    """Return the model name that replays a recording, or one run of it, counted from 0.

    The id is percent-encoded: what is left is safe in JSON, in a URL's path and between colons.
    """
    name = f"replay:{quote(recording_id, safe='')}"
    return name if run_index is None else f"{name}:{run_index}"


class Replay:
    """Answers from recordings; every recording must be free of faults, else RecordingError."""

    def __init__(self, recordings: Iterable[Recording]) -> None:
        self._dialogues: dict[str, _Dialogue] = {}
        for recording in recordings:
            if faults := validate(recording):
                raise RecordingError(f"{recording.id} cannot be replayed: {'; '.join(faults)}")
            self._dialogues[recording.id] = _Dialogue(recording)

    def __call__(self, request: ChatRequest) -> Answer:
        """Return the recorded answer; raises ModelError where the request deviates."""
        encoded_id, _, run = request.argument.partition(":")
        dialogue = self._dialogues.get(unquote(encoded_id))
        if dialogue is None:
            detail = f"no recording {unquote(encoded_id)!r} was loaded"
            raise ModelError(detail, code="model_not_found", status=404)
        sent = tuple(message for message in request.messages if not _is_system(message))
        if not run:
            return dialogue.answer(sent)
        if not run.isdecimal() or int(run) >= dialogue.run_count:
            detail = f"{unquote(encoded_id)!r} has {dialogue.run_count} runs, none is {run!r}"
            raise ModelError(detail, code="model_not_found", status=404)
        return dialogue.answer_in_run(int(run), sent)


class _Dialogue:
    """The replayable messages of a recording without the system prompt, ready to be compared."""

    def __init__(self, recording: Recording) -> None:
        self._id = recording.id
        kept = [(i, each) for i, each in enumerate(recording.replayable) if not _is_system(each)]
        self._places = [place for place, _ in kept]
        self._messages = [message for _, message in kept]
        self._compared = [_compare(message) for message in self._messages]
        self._run_starts = [
            index for index, message in enumerate(self._messages) if message["role"] == "user"
        ]

    @property
    def run_count(self) -> int:
        return len(self._run_starts)

    def answer(self, sent: Sequence[Message]) -> Answer:
        """Find the run that the whole request leads up to.

        The same user text may occur in several runs, so each of them is a candidate. Of several
        that agree with the request any will do as long as they go on alike.
        """
        user_index = _last_user(sent)
        users = _compare(sent[user_index])
        ends = [
            start + len(sent) - user_index
            for start in self._run_starts
            if self._compared[start] == users
        ]
        if not ends:
            text = _shorten(text_of(sent[user_index]))
            raise self._mismatch(f"no run starts with the user message {text}")
        compared = [_compare(message) for message in sent]
        found = {end: self._find_difference(compared, end) for end in ends}
        answers = {self._next(end) for end, difference in found.items() if difference is None}
        if len(answers) > 1:
            detail = (
                f"several runs of {self._id!r} go on differently from these messages: send more"
            )
            raise ModelError(f"{detail}, or name the run in the model's name", code=AMBIGUOUS)
        if not answers:
            raise self._mismatch("; or: ".join(str(difference) for difference in found.values()))
        return answers.pop()

    def answer_in_run(self, run_index: int, sent: Sequence[Message]) -> Answer:
        """Go on with this run; what the request holds before its user message is not looked at."""
        tail = [_compare(message) for message in sent[_last_user(sent) :]]
        end = self._run_starts[run_index] + len(tail)
        difference = self._find_difference(tail, end)
        if difference is not None:
            raise self._mismatch(difference)
        return self._next(end)

    def _find_difference(self, sent: Sequence[_Compared], end: int) -> str | None:
        """Say where messages that should end just before the recording's `end` differ from it."""
        start = end - len(sent)
        if start < 0 or end > len(self._messages):
            return f"{len(sent)} messages were sent, which the recording cannot hold there"
        for place, compared in enumerate(sent, start):
            if compared != self._compared[place]:
                differences = _describe(dict(self._compared[place]), dict(compared))
                return f"message {self._places[place]} of the recording: {'; '.join(differences)}"
        if end == len(self._messages):
            return "the recording ends here"
        if self._messages[end]["role"] != "assistant":
            return f"the recording goes on with a {self._messages[end]['role']} message"
        return None

    def _next(self, end: int) -> Answer:
        return Answer.from_message(self._messages[end])

    def _mismatch(self, detail: str) -> ModelError:
        return ModelError(f"not as recorded in {self._id!r}: {detail}", code=MISMATCH)


def _last_user(sent: Sequence[Message]) -> int:
    index = last_user_index(sent)
    if index is None:
        raise ModelError("the request holds no user message", code=MISMATCH)
    return index


def _is_system(message: Message) -> bool:
    return message["role"] in ("system", "developer")


def _compare(message: Message) -> _Compared:
    """Reduce a message to what must agree. A tool's name is left out: clients need not send it."""
    fields: list[tuple[str, object]] = [("role", message["role"]), ("content", text_of(message))]
    for index, call in enumerate(message.get("tool_calls") or ()):
        function = call["function"]
        fields.append((f"id of call {index}", call.get("id")))
        fields.append((f"name of call {index}", function["name"]))
        fields.append((f"arguments of call {index}", canonical_json(function["arguments"])))
    if message["role"] == "tool":
        fields.append(("tool_call_id", message.get("tool_call_id")))
    return tuple(fields)


def _describe(recorded: dict[str, object], sent: dict[str, object]) -> Iterator[str]:
    for name in recorded | sent:
        if recorded.get(name) != sent.get(name):
            expected, actual = _shorten(recorded.get(name)), _shorten(sent.get(name))
            yield f"{name} is {actual}, recorded is {expected}"


def _shorten(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"
