"""The agents of the throughput benchmark: they do the work, and nothing but it."""

import pytest

from agent_worker.context import RunInfo
from agent_worker.engine.protocol import EngineLimits, EngineRequest
from benchmarks.rounds import bare
from benchmarks.rounds.agents import tell
from benchmarks.rounds.work import ANSWER, QUESTION, Work, look_up
from shared.message import Draft, Message, Role, user_draft

WORK = Work(runs=3, rounds=4, latency_s=0.0)
LIMITS = EngineLimits(max_rounds=50, model_timeout_s=1, tool_timeout_s=1, model_retries=0)


async def told_behind(own: list[Message]) -> list[Draft]:
    """What the plain function yields behind these messages."""
    run = RunInfo("run", "plain", metadata=WORK.as_metadata())
    request = EngineRequest(run, history=(), own=tuple(own), limits=LIMITS)
    return [event async for event in tell(request) if isinstance(event, Draft)]


def stored(drafts: list[Draft]) -> list[Message]:
    """As a worker stores them."""
    return [
        Message.from_draft(draft, run_id="run", position=place)
        for place, draft in enumerate(drafts)
    ]


async def test_a_run_has_two_messages_for_each_round() -> None:
    drafts = [user_draft(QUESTION), *await told_behind(stored([user_draft(QUESTION)]))]
    assert len(drafts) == WORK.messages == 8
    assert [draft.role for draft in drafts] == [
        Role.USER,
        *[Role.ASSISTANT, Role.TOOL] * 3,
        Role.ASSISTANT,
    ]
    assert drafts[-1].text == ANSWER
    for call, result in zip(drafts[1:-1:2], drafts[2:-1:2], strict=True):
        assert call.tool_calls[0].id == result.tool_call_id
        assert len(result.text) == len(look_up(0)) == len(ANSWER) == 100


async def test_a_run_that_is_taken_over_goes_on_where_it_was() -> None:
    whole = [user_draft(QUESTION), *await told_behind(stored([user_draft(QUESTION)]))]
    for place in range(1, len(whole) + 1):
        assert await told_behind(stored(whole[:place])) == whole[place:]


@pytest.mark.parametrize("engine", ["plain", "stub"])
async def test_the_bare_loop_does_the_same_work(engine: str) -> None:
    await bare.run_all(engine, WORK)
