"""Which layer a stack belongs to."""

import pytest

from benchmarks.measures.layers import ENOUGH, REST, shares_of

THREAD = "agent_worker/runtime_thread.py"
LOOP = f"RuntimeThread._run ({THREAD}:140);_run_to_its_end ({THREAD}:172)"
TAKE = "Drive._take (agent_worker/execution/drive.py:230)"
APPEND = f"{TAKE};append (shared/conversation/redis.py:9)"


@pytest.mark.parametrize(
    ("stack", "layer"),
    [
        (LOOP, REST),
        (f"{LOOP};{APPEND}", "messages and records, JSON"),
        (f"{LOOP};{APPEND};dump (pydantic/main.py:5)", "messages and records, JSON"),
        (f"{LOOP};{APPEND};ask (shared/redis_sharing.py:5)", "the wire: commands and answers"),
        (f"{LOOP};{TAKE}", "leading runs"),
        (f"{LOOP};ask (agent_worker/engine/pydantic_ai/guard.py:2)", "Pydantic AI as an engine"),
        (f"{LOOP};call (pydantic_ai/_agent_graph.py:2);copy (copy.py:9)", "the agent itself"),
        (
            "asynloop (celery/worker/loops.py:97);execute (redis/client.py:4)",
            "rings: Celery and kombu",
        ),
        ("run (threading.py:9)", REST),
    ],
)
def test_the_innermost_frame_that_is_known_decides(stack: str, layer: str) -> None:
    assert shares_of([f"{stack} {ENOUGH}"]) == {layer: 1.0}


def test_shares_add_up() -> None:
    shares = shares_of([f"{LOOP} {ENOUGH}", f"{LOOP};{APPEND} {3 * ENOUGH}"])
    assert shares == {"messages and records, JSON": 0.75, REST: 0.25}


def test_a_few_stacks_are_no_measurement() -> None:
    with pytest.raises(RuntimeError, match="only"):
        shares_of([f"{LOOP} {ENOUGH - 1}"])
