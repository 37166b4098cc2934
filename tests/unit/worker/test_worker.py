"""What a worker process checks before it starts, and what it does with what is on a queue."""

import pytest
import structlog

from agent_worker.announcement import new_worker_id, queues_of
from agent_worker.definition import AgentDefinition
from agent_worker.worker import Worker
from shared.celery_app import WAKE_TASK
from shared.errors import ConfigurationError
from shared.identifier import check_id
from shared.settings import Settings
from tests.unit.worker.scripted import ScriptedEngine

CLERK = AgentDefinition("clerk", ScriptedEngine([]))


@pytest.mark.parametrize("payload", [None, 7, {"run": 1}, "", "nonsense", "run-0-xyz", ["a"]])
def test_a_ring_that_names_no_run_is_logged_and_dropped(payload: object) -> None:
    """Anybody can put anything on a queue; its content is not written to the log."""
    worker = Worker(Settings(), [CLERK])
    wake = worker._app.tasks[WAKE_TASK]
    with structlog.testing.capture_logs() as entries:
        wake(payload)
        wake()
        wake(payload, "more", even="more")
    assert [entry["event"] for entry in entries] == ["ring.malformed"] * 3
    assert "nonsense" not in str(entries)


def test_a_worker_without_agents_is_a_mistake() -> None:
    """It would listen to nothing and look alive."""
    with pytest.raises(ConfigurationError, match="no agent"):
        Worker(Settings(), [])


def test_two_agents_of_one_name_are_a_mistake() -> None:
    """Which of them a run means could not be told."""
    with pytest.raises(ConfigurationError, match="one name"):
        Worker(Settings(), [CLERK, CLERK])


def test_a_worker_consumes_what_clients_ring() -> None:
    """One queue for all, or one for each agent."""
    slow = AgentDefinition("slow", ScriptedEngine([]))
    assert queues_of([CLERK, slow], Settings()) == ["agents"]
    per_agent = Settings(queue_per_agent=True, key_prefix="team")
    assert queues_of([CLERK, slow], per_agent) == ["team.clerk", "team.slow"]


def test_worker_ids_are_ids_and_differ() -> None:
    """They end up in keys and channel names."""
    ids = {new_worker_id() for _ in range(100)}
    assert len(ids) == 100
    for worker_id in ids:
        check_id(worker_id, "worker id")
