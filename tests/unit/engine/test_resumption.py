"""Runs of many kinds of agents, cut behind each of their messages."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import pytest

from agent_worker.context import idempotency_key
from agent_worker.engine.pydantic_ai.calls import OpenCalls
from agent_worker.engine.pydantic_ai.engine import PydanticAIEngine
from agent_worker.engine.pydantic_ai.engine_data import engine_data
from shared.message import Draft, Role
from tests.contract.engine import RUN, collect, essence, messages, request
from tests.unit.engine.zoo import ANIMALS, Animal, Notes


@pytest.mark.parametrize("animal", ANIMALS, ids=lambda animal: animal.__name__)
async def test_a_run_cut_anywhere_is_the_run_that_was_not_cut(animal: Animal) -> None:
    """Same messages, same outcome, and the model sees the same; nothing stored is done again."""
    uncut = Notes()
    whole = await collect(PydanticAIEngine(animal(uncut)).run(request()))

    for cut in range(len(messages(whole)) + 1):
        notes = Notes()
        engine = PydanticAIEngine(animal(notes))
        before = await collect(engine.run(request()), count=cut)
        after = await collect(engine.run(request(messages(before))))

        resumed = [*messages(before), *messages(after)]
        assert in_rounds(resumed) == in_rounds(messages(whole))
        assert after[-1] == whole[-1]
        assert notes.seen == uncut.seen, f"cut behind message {cut}"
        answered = sum(draft.role is Role.ASSISTANT for draft in messages(before))
        assert all(notes.asked[number] == 1 for number in range(answered))
        assert set(notes.executed) == set(uncut.executed)
        assert all(notes.executed[key] <= 1 for key in keys_of_results(messages(before)))


def in_rounds(drafts: Sequence[Draft]) -> list[Any]:
    """What matters of the messages; results of one round in any order, as threads end in any."""
    return [
        one
        for is_result, group in groupby(drafts, lambda draft: draft.role is Role.TOOL)
        for one in (sorted(map(essence, group), key=str) if is_result else map(essence, group))
    ]


def keys_of_results(drafts: Sequence[Draft]) -> set[str]:
    """The idempotency keys of the calls whose results are stored behind the run's input."""
    keys: set[str] = set()
    position, calls = 0, OpenCalls()
    for place, draft in enumerate(drafts, start=1):
        if draft.role is Role.ASSISTANT:
            ids = [call.id for call in draft.tool_calls]
            position, calls = place, OpenCalls(ids, ids)
        elif draft.role is Role.TOOL:
            index = calls.close(draft.tool_call_id or "", engine_data(draft).get("index"))
            assert index is not None
            keys.add(idempotency_key(RUN.run_id, position, index))
    return keys
