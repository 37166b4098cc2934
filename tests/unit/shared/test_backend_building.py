"""Where runs and conversations are kept, by the settings."""

import subprocess
import sys
from typing import Any

import pytest
from pydantic import SecretStr

from agent_client import AsyncAgentClient
from shared import backend_building
from shared.backend import Backend
from shared.backend_building import build_backend
from shared.conversation.memory import MemoryConversationStore
from shared.conversation.postgres import PostgresConversationStore
from shared.conversation.redis import RedisConversationStore
from shared.conversation.shown_url import shown_url
from shared.errors import ConfigurationError, NotDistributedError
from shared.notification.memory import MemoryNotifications
from shared.risk import Risk
from shared.settings import Settings

URL = "postgresql://ada:sesame@db:5432/app?sslmode=require"
SETTINGS = Settings(conversation_url=SecretStr(URL))


class Elsewhere(MemoryConversationStore):
    """A store that other processes see, and that has to be prepared."""

    @property
    def is_distributed(self) -> bool:
        return True

    def __init__(self) -> None:
        super().__init__(MemoryNotifications())
        self.done: list[str] = []

    async def prepare(self) -> None:
        self.done.append("prepared")

    async def find_risks(self) -> list[Risk]:
        return [Risk("elsewhere", "set something.")]

    async def aclose(self) -> None:
        self.done.append("closed")


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """A URL leads to conversations of this process only."""
    monkeypatch.setattr(
        backend_building,
        "conversation_from_url",
        lambda *_: MemoryConversationStore(MemoryNotifications()),
    )


def bottom(backend: Backend) -> Any:
    """The store below all that is wrapped around it."""
    store: Any = backend.conversations
    while hasattr(store, "inner"):
        store = store.inner
    return store


async def test_conversations_are_beside_the_runs_unless_a_url_says_where() -> None:
    """The URL of a caller goes before that of the settings."""
    beside, elsewhere = build_backend(Settings()), build_backend(SETTINGS)
    assert isinstance(bottom(beside), RedisConversationStore)
    assert beside.conversations_at is None
    for backend in (elsewhere, build_backend(Settings(), URL)):
        assert isinstance(bottom(backend), PostgresConversationStore)
        assert backend.conversations_at == "postgresql://db:5432/app"
        assert "sesame" not in repr(backend)
        assert backend.ledger.is_distributed
        await backend.aclose()
    await beside.aclose()


@pytest.mark.usefixtures("here")
def test_conversations_that_remote_workers_cannot_see_are_refused() -> None:
    """By whoever builds: the client, and what a worker opens. Nothing is submitted before."""
    with pytest.raises(NotDistributedError, match="AGENTS_CONVERSATION_URL"):
        AsyncAgentClient(SETTINGS)
    with pytest.raises(NotDistributedError):
        build_backend(SETTINGS)
    for url in ("memory://", "sqlite:///chat.db", "file:chats"):
        with pytest.raises(NotDistributedError):
            build_backend(Settings(), url)


@pytest.mark.parametrize("url", ["mysql://ada:sesame@db/app", "sesame", "postgresql", "://sesame"])
def test_a_url_that_leads_nowhere_is_refused_when_built(url: str) -> None:
    """Without quoting it."""
    with pytest.raises(ConfigurationError) as caught:
        AsyncAgentClient(Settings(conversation_url=SecretStr(url)))
    assert "sesame" not in str(caught.value)


async def test_what_is_wrapped_around_a_store_hides_nothing_of_its_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A worker prepares PostgreSQL though its messages are compressed."""
    store = Elsewhere()
    monkeypatch.setattr(backend_building, "conversation_from_url", lambda *_: store)
    backend = build_backend(SETTINGS)
    assert backend.conversations is not store
    await backend.prepare()
    assert store.done == ["prepared"]
    await backend.aclose()


async def test_a_store_elsewhere_is_prepared_looked_at_and_closed() -> None:
    """With the backend that it is part of."""
    store = Elsewhere()
    backend = build_backend(Settings()).with_conversations(store).inspecting(store)
    await backend.prepare()
    assert "elsewhere" in [risk.name for risk in await backend.find_risks()]
    await backend.aclose()
    assert store.done == ["prepared", "closed"]


async def test_a_store_that_needs_nothing_is_asked_nothing() -> None:
    """Most stores have neither tables nor a server's settings."""
    store: Any = MemoryConversationStore(MemoryNotifications())
    backend: Backend = build_backend(Settings()).with_conversations(store).inspecting(store)
    await backend.prepare()
    await backend.aclose()


def test_without_psycopg_the_extra_is_named() -> None:
    """And without a URL of PostgreSQL nobody misses it."""
    program = """
import sys
sys.modules["psycopg"] = None
from pydantic import SecretStr
from shared.backend_building import build_backend
from shared.errors import ConfigurationError
from shared.settings import Settings
build_backend(Settings())
try:
    build_backend(Settings(conversation_url=SecretStr("postgresql://db/app")))
except ConfigurationError as error:
    print(error)
"""
    said = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert "celery-agents[postgres]" in said.stdout


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (URL, "postgresql://db:5432/app"),
        ("postgresql://a,b:5433/app", "postgresql://a,b:5433/app"),
        ("postgresql://ada:ses/me@db/app", "postgresql://db/app"),
        ("postgresql://ada:s@same@db/app", "postgresql://db/app"),
        ("postgresql://ada:sesa?me@db/app", "postgresql://..."),
        ("postgresql://db/app?password=se@same", "postgresql://..."),
        ("postgresql://db/app?password=sesame", "postgresql://db/app"),
    ],
)
def test_a_shown_url_holds_no_secret(url: str, shown: str) -> None:
    """However badly it is quoted."""
    assert shown_url(url) == shown


def test_settings_do_not_show_the_url() -> None:
    """It may hold a password."""
    assert "sesame" not in repr(SETTINGS) + str(SETTINGS.model_dump())
