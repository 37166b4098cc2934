"""Tools that answer as recorded, for any agent loop: a call's place is what finds its result.

A call is known by its run, its round within the run and its position within the round; that is what
stays unique where ids repeat and where one round calls the same tool twice with equal arguments.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tests.model_server.chat import Message, canonical_json
from tests.model_server.recording import RecordedRun, Recording


class ToolMismatchError(Exception):
    """A tool was called otherwise than recorded; the message says what differs."""


class RecordedTools:
    """The tools of one recording. Its answers depend on nothing but the arguments of `result`."""

    def __init__(self, recording: Recording) -> None:
        self.specs = recording.tools
        """OpenAI's `tools` array, to declare the tools with."""
        self._id = recording.id
        self._runs: Sequence[RecordedRun] = recording.runs()

    def result(
        self,
        run_index: int,
        round_index: int,
        call: int | str,
        name: str,
        arguments: str | Mapping[str, Any],
    ) -> str:
        """Return what the tool answered in the recording.

        `round_index` counts the run's assistant messages from 0. `call` is the position within the
        round, or the call's id where only one call of the round has it. Arguments are JSON text or
        the object read from it. Raises ToolMismatchError if there is no such call, or it differs.
        """
        place = f"{self._id}, run {run_index}, round {round_index}"
        assistant, results = self._find_round(run_index, round_index, place)
        calls = assistant.get("tool_calls") or ()
        position = _find_position(calls, call, place)
        recorded = calls[position]["function"]
        given = arguments if isinstance(arguments, str) else json.dumps(arguments)
        if name != recorded["name"]:
            detail = f"{name!r} was called, recorded is {recorded['name']!r}"
            raise ToolMismatchError(f"{place}, call {call!r}: {detail}")
        if canonical_json(given) != canonical_json(recorded["arguments"]):
            detail = f"{name!r} got {given}, recorded is {recorded['arguments']}"
            raise ToolMismatchError(f"{place}, call {call!r}: {detail}")
        return str(_pair(calls, results)[position]["content"])

    def _find_round(
        self, run_index: int, round_index: int, place: str
    ) -> tuple[Message, Sequence[Message]]:
        if not 0 <= run_index < len(self._runs):
            raise ToolMismatchError(f"{place}: the recording has {len(self._runs)} runs")
        rounds = self._runs[run_index].rounds
        if not 0 <= round_index < len(rounds):
            raise ToolMismatchError(f"{place}: the run has {len(rounds)} rounds")
        return rounds[round_index].assistant, rounds[round_index].results


def _find_position(calls: Sequence[Mapping[str, Any]], call: int | str, place: str) -> int:
    if isinstance(call, int):
        if not 0 <= call < len(calls):
            raise ToolMismatchError(f"{place}: there is no call {call}, the round has {len(calls)}")
        return call
    positions = [index for index, each in enumerate(calls) if each["id"] == call]
    if len(positions) != 1:
        detail = f"{len(positions)} calls have the id {call!r}; name it by its position"
        raise ToolMismatchError(f"{place}: {detail}")
    return positions[0]


def _pair(calls: Sequence[Mapping[str, Any]], results: Sequence[Message]) -> list[Message]:
    """Return the results in the order of their calls; equal ids are answered first come first."""
    left = list(results)
    ordered = []
    for call in calls:
        found = next(result for result in left if result["tool_call_id"] == call["id"])
        left.remove(found)
        ordered.append(found)
    return ordered
