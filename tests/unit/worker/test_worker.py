"""What a worker process checks before it starts, and what its Celery app can be told to do."""

import logging
from typing import Any

import pytest
from celery.worker import state as celery_state
from kombu import compression
from kombu.transport.virtual import base as virtual

from agent_worker.announcement import new_worker_id, queues_of
from agent_worker.definition import AgentDefinition
from agent_worker.worker import Worker, _is_news
from shared.celery_app import WAKE_TASK
from shared.errors import ConfigurationError
from shared.identifier import check_id
from shared.settings import Settings
from tests.unit.worker.scripted import ScriptedEngine

CLERK = AgentDefinition("clerk", ScriptedEngine([]))


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


def test_rings_that_are_put_back_while_a_worker_leaves_are_no_news(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Kombu warns of each, at any time; then, it is what shall happen."""
    warning = logging.LogRecord(
        "kombu", logging.WARNING, __file__, 1, virtual.W_NO_CONSUMERS, ("agents",), None
    )
    other = logging.LogRecord("kombu", logging.WARNING, __file__, 1, "Something else", (), None)
    monkeypatch.setattr(celery_state, "should_stop", None)
    assert _is_news(warning)
    monkeypatch.setattr(celery_state, "should_stop", 0)
    assert not _is_news(warning)
    assert _is_news(other)


def test_worker_ids_are_ids_and_differ() -> None:
    """They end up in keys and channel names."""
    ids = {new_worker_id() for _ in range(100)}
    assert len(ids) == 100
    for worker_id in ids:
        check_id(worker_id, "worker id")


def test_only_our_task_can_be_called_and_only_json_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """No built-in task, no result backend, no pickle; an environment made for another app of
    Celery changes none of that."""
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://somebody.else:1/0")
    monkeypatch.setenv("CELERY_RESULT_BACKEND", "redis://somebody.else:2/0")
    app: Any = Worker(Settings(), [CLERK])._app
    assert set(app.tasks) == {WAKE_TASK}
    assert type(app.backend).__name__ == "DisabledBackend"
    for connection in (app.connection_for_read(), app.connection_for_write()):
        assert connection.as_uri() == "shared.redis_transport:Transport://:**@localhost:6379/0"
    with pytest.raises(KeyError):
        compression.get_decoder("gzip")
    assert app.conf.accept_content == ["json"]
    assert app.control.mailbox.accept == ["json"]
    assert not app.conf.worker_enable_remote_control
    said = {name: value for name, value in app.conf.items() if "pickle" in repr(value).lower()}
    said |= {name: value for name, value in app.conf.items() if "yaml" in repr(value).lower()}
    assert said == {}
