"""Model `script:<name>` or `script:<JSON>`: says what a test wrote down, round by round.

The round is the number of assistant messages after the last user message, so every run of a
conversation plays the script from its start. A script that is spelled out in the model's name needs
no registration and works with a server in another process.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tests.model_server.chat import Answer, ChatRequest, ModelError, ToolCall


@dataclass(frozen=True, slots=True)
class Script:
    """The answers of one run in order, under a name that may not begin with a bracket."""

    name: str
    answers: tuple[Answer, ...]

    @property
    def model(self) -> str:
        """The model name that plays it on a server where it is registered."""
        return f"script:{self.name}"


def tool_call(
    name: str, arguments: Mapping[str, Any] | None = None, *, call_id: str = ""
) -> ToolCall:
    """Write down a tool call; without an id it gets one from its place when the script is played.

    Such ids begin anew with each run, as real ones may: nothing may be keyed by them alone.
    """
    return ToolCall(call_id, name, json.dumps(arguments or {}))


def script_model(*answers: Answer) -> str:
    """Return a model name that holds the whole script as JSON."""
    rows = [
        {
            "text": answer.text,
            "delay_s": answer.delay_s,
            "calls": [
                {"id": call.id, "name": call.name, "arguments": call.arguments}
                for call in answer.calls
            ],
        }
        for answer in answers
    ]
    return f"script:{json.dumps(rows)}"


class Scripts:
    """Plays the registered scripts, and those that a model's name holds."""

    def __init__(self, scripts: Iterable[Script] = ()) -> None:
        self._answers = {script.name: script.answers for script in scripts}

    def __call__(self, request: ChatRequest) -> Answer:
        """Return the answer of this round; raises ModelError where the script has none."""
        answers = self._find(request.argument)
        if request.round_index >= len(answers):
            detail = f"the script ends after {len(answers)} rounds, round {request.round_index}"
            raise ModelError(f"{detail} was asked for", code="script_ended")
        answer = answers[request.round_index]
        calls = (
            ToolCall(each.id or f"call_{request.round_index}_{place}", each.name, each.arguments)
            for place, each in enumerate(answer.calls)
        )
        return Answer(answer.text, tuple(calls), answer.delay_s)

    def _find(self, argument: str) -> tuple[Answer, ...]:
        if argument.startswith("["):
            return _parse(argument)
        if argument not in self._answers:
            detail = f"no script {argument!r} is registered"
            raise ModelError(detail, code="model_not_found", status=404)
        return self._answers[argument]


def _parse(text: str) -> tuple[Answer, ...]:
    try:
        return tuple(
            Answer(
                text=row.get("text"),
                calls=tuple(
                    ToolCall(call.get("id", ""), call["name"], call["arguments"])
                    for call in row.get("calls", ())
                ),
                delay_s=row.get("delay_s", 0.0),
            )
            for row in json.loads(text)
        )
    except (ValueError, KeyError, TypeError, AttributeError) as failure:
        detail = f"the model's name holds no script: {failure!r}"
        raise ModelError(detail, code="model_not_found", status=404) from failure
