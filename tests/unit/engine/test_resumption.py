"""Runs of many kinds of agents, cut behind each of their messages."""

import pytest

from agent_worker.engine.protocol import EngineEvent
from agent_worker.engine.pydantic_ai.engine import PydanticAIEngine
from shared.message import Role
from tests.contract.engine import collect, essence, messages, request
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
        executed = notes.executed.copy()
        after = await collect(engine.run(request(messages(before))))

        _check_history(before, after, whole)
        assert notes.seen == uncut.seen, f"cut behind message {cut}"
        _check_repetition(before, notes, executed, uncut)


def _check_history(
    before: list[EngineEvent], after: list[EngineEvent], whole: list[EngineEvent]
) -> None:
    resumed = [*messages(before), *messages(after)]
    assert [essence(draft) for draft in resumed] == [essence(draft) for draft in messages(whole)]
    assert after[-1] == whole[-1]


def _check_repetition(
    before: list[EngineEvent], notes: Notes, executed: object, uncut: Notes
) -> None:
    answered = sum(draft.role is Role.ASSISTANT for draft in messages(before))
    assert all(notes.asked[number] == 1 for number in range(answered))
