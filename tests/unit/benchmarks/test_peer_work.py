import json
from dataclasses import replace

import pytest

from benchmarks.peers import _work

WORK = _work.Work(runs=2, rounds=3, latency_s=0.0, workers=1, variant="")


def stored_lists() -> dict[str, list[str]]:
    return {
        _work.conversation_of(run): [json.dumps(each) for each in _work.transcript(run, 3)]
        for run in range(WORK.runs)
    }


async def test_the_agent_says_the_transcript() -> None:
    said = [message async for message in _work.agent(1, 3, 0.0)]
    assert said == _work.transcript(1, 3)
    assert len(said) * WORK.runs == WORK.messages == 12


@pytest.mark.parametrize("harm", ["one is missing", "one is there twice", "two changed places"])
def test_messages_of_a_run_that_was_stored_wrongly_do_not_count(harm: str) -> None:
    lists = stored_lists()
    assert _work.count_stored(WORK, lists.__getitem__) == WORK.messages
    first = lists[_work.conversation_of(0)]
    if harm == "one is missing":
        first.pop(2)
    elif harm == "one is there twice":
        first.insert(2, first[2])
    else:
        first[2], first[3] = first[3], first[2]
    assert _work.count_stored(WORK, lists.__getitem__) == WORK.messages // 2


@pytest.mark.parametrize(
    ("completed", "seen", "stored", "code"),
    [(2, None, None, 0), (2, 12, 12, 0), (1, 12, 12, 1), (2, 11, 12, 1), (2, None, 0, 1)],
)
def test_only_what_is_whole_ends_with_code_0(
    completed: int, seen: int | None, stored: int | None, code: int
) -> None:
    assert code == _work.report(
        WORK,
        wall_s=1.0,
        startup_s=1.0,
        version="1",
        completed=completed,
        seen=seen,
        stored=stored,
    )


def test_runs_of_the_warm_up_are_none_of_those_that_count() -> None:
    many = replace(WORK, runs=10_000, workers=4)
    assert not set(many.warm_up) & set(range(many.runs))
