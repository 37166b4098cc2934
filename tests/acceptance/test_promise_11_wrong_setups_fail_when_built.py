"""Promise 11: a wrong set-up is a named error when something is built, and says what to change."""

from pathlib import Path

import pytest

from agent_client import (
    AsyncAgentClient,
    ConfigurationError,
    ConversationConfig,
    InvalidIdError,
    NotDistributedError,
    Settings,
    UnknownAgentError,
)
from agent_worker import serve
from agent_worker.registry import load_agents
from shared.conversation.sqlite import SqliteConversationStore
from shared.errors import AgentDefinitionError
from shared.memory_backend import build_memory_backend
from shared.redis_backend import build_redis_backend
from tests.acceptance.conftest import play

pytestmark = pytest.mark.acceptance


def test_an_in_memory_conversation_with_remote_workers_is_refused() -> None:
    """Workers in other processes would never see it, so the client is not even built."""
    with pytest.raises(NotDistributedError, match="local"):
        AsyncAgentClient(Settings(), conversation=ConversationConfig(backend="memory"))


def test_a_backend_in_memory_with_remote_workers_is_refused() -> None:
    """The same for runs: what is kept in this process is for workers of this process."""
    with pytest.raises(NotDistributedError, match="local"):
        AsyncAgentClient(Settings(), backend=build_memory_backend(Settings()))


@pytest.mark.parametrize("backend", ["file:chats", "sqlite:///chat.db", "memory://"])
def test_conversations_on_one_machine_with_remote_workers_are_refused(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers on other machines would never see them; nothing was made on this one either."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NotDistributedError, match="local"):
        AsyncAgentClient(Settings(), conversation=ConversationConfig(backend=backend))
    assert list(tmp_path.iterdir()) == []


async def test_a_backend_with_histories_on_disk_and_remote_workers_is_refused(
    tmp_path: Path,
) -> None:
    """Also where runs are led from Redis."""
    store = SqliteConversationStore(tmp_path / "chat.db")
    backend = build_redis_backend(Settings()).with_conversations(store)
    with pytest.raises(NotDistributedError, match="disk"):
        AsyncAgentClient(Settings(), backend=backend)
    await backend.aclose()


@pytest.mark.parametrize("backend", ["mysql://host/db", "chat.db", "Redis", ""])
def test_a_place_for_conversations_that_nobody_knows_is_refused(backend: str) -> None:
    """Where it is said, before anything is built with it."""
    with pytest.raises(ConfigurationError, match="sqlite"):
        ConversationConfig(backend=backend)


def test_a_place_for_conversations_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    """When the client is built, and not with the first message."""
    config = ConversationConfig(backend=f"sqlite:///{tmp_path}/missing/chat.db")
    with pytest.raises(ConfigurationError, match="There is no folder"):
        AsyncAgentClient.local("tests.chat_agents", conversation=config)


def test_something_that_is_no_url_of_redis_is_refused() -> None:
    """The error names the variable, and nothing has tried to connect."""
    with pytest.raises(ConfigurationError, match="AGENTS_REDIS_URL"):
        AsyncAgentClient(Settings.model_validate({"redis_url": "http://localhost"}))


@pytest.mark.integration
async def test_an_unknown_agent_is_refused_with_the_names_that_are_served(
    client: AsyncAgentClient,
) -> None:
    """The caller reads which agents live workers serve, and nothing was stored."""
    with pytest.raises(UnknownAgentError, match="script"):
        await client.submit("scirpt", play(), conversation_id="refused")
    assert await client.runs(conversation_id="refused") == []


@pytest.mark.parametrize("what", ["agent", "conversation_id", "idempotency_key"])
@pytest.mark.parametrize(
    "bad", ["", "../etc/passwd", "a..b", "a b", "a\x00b", "x" * 201, "a{b}c", "a/b", "-a", "a\n"]
)
async def test_an_id_that_could_mean_something_else_is_refused(what: str, bad: str) -> None:
    """No id reaches a key, a channel or a file name unless it is plain."""
    ids = {"agent": "agent", "conversation_id": "web:ada", "idempotency_key": "order-17", what: bad}
    client = AsyncAgentClient(Settings.model_validate({"redis_url": "redis://127.0.0.1:1"}))
    with pytest.raises(InvalidIdError):
        await client.submit(
            ids["agent"],
            "hello",
            conversation_id=ids["conversation_id"],
            idempotency_key=ids["idempotency_key"],
        )
    await client.aclose()


def test_a_heartbeat_that_is_too_slow_for_its_lease_is_refused() -> None:
    """One late beat would cost a worker its runs."""
    with pytest.raises(ValueError, match="AGENTS_HEARTBEAT_S"):
        Settings(lease_s=2, heartbeat_s=1)


def test_a_module_without_agents_is_refused() -> None:
    """A worker that would serve nothing does not start."""
    with pytest.raises(AgentDefinitionError, match="json"):
        load_agents(["json"])


def test_something_that_is_no_agent_is_refused() -> None:
    """What cannot be run is refused where it is registered."""
    with pytest.raises(AgentDefinitionError):
        serve(42)
