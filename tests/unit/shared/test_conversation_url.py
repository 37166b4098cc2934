"""Conversations by URL: which scheme leads where, and what a wrong one is told."""

from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from shared.backend_building import build_backend, build_local_backend
from shared.conversation import url as url_module
from shared.conversation.config import ConversationConfig
from shared.conversation.file import FileConversationStore
from shared.conversation.memory import MemoryConversationStore
from shared.conversation.protocol import ConversationStore
from shared.conversation.redis import RedisConversationStore
from shared.conversation.sqlite import SqliteConversationStore
from shared.conversation.url import (
    ENTRY_POINTS,
    SCHEMES,
    Scheme,
    check_distributed,
    conversation_from_url,
)
from shared.errors import ConfigurationError, NotDistributedError
from shared.sealing.wrapper import innermost
from shared.settings import Settings
from shared.testing.conversation.value import imported, texts

PASSWORD = "hunter2-and-more"


@pytest.fixture(autouse=True)
def _working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


async def is_kept_in(url: str, path: Path) -> bool:
    """Whether what is stored under the URL makes this path."""
    assert not path.exists()
    store = conversation_from_url(url)
    await store.append("a", [imported("x")])
    assert texts(await store.list_messages("a")) == ["x"]
    await store.aclose()
    return path.exists()


async def test_a_path_is_absolute_or_below_the_working_directory(tmp_path: Path) -> None:
    """SQLite by the number of slashes, as elsewhere; files as in every file: URL."""
    (tmp_path / "data").mkdir()
    assert await is_kept_in("sqlite:///chat.db", tmp_path / "chat.db")
    assert await is_kept_in("sqlite:///data/chat.db", tmp_path / "data" / "chat.db")
    assert await is_kept_in(f"sqlite:///{tmp_path}/other.db", tmp_path / "other.db")
    assert await is_kept_in("file:chats", tmp_path / "chats")
    assert await is_kept_in("file:data/chats", tmp_path / "data" / "chats")
    assert await is_kept_in(f"file://{tmp_path}/more", tmp_path / "more")
    assert await is_kept_in(f"file://localhost{tmp_path}/local", tmp_path / "local")
    assert await is_kept_in("SQLITE:///with%20space%3F.db", tmp_path / "with space?.db")


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("sqlite://chat.db", "three slashes"),
        ("sqlite:chat.db", "three slashes"),
        ("sqlite:///", "names no file"),
        ("sqlite:///data/", "names no file"),
        ("sqlite:///:memory:", "memory://"),
        ("sqlite:///chat.db?mode=ro", "%3F"),
        ("sqlite:///a%00b", "NUL"),
        ("sqlite:///etc/chat.db", r"sqlite:////etc/chat\.db"),
        ("sqlite:///missing/chat.db", "There is no folder .*/missing"),
        ("sqlite:////missing/chat.db", "There is no folder /missing"),
        ("file://chats", "file:chats"),
        ("file://host/chats", "name of a host"),
        ("file:///", "names no folder"),
        ("file:", "names no folder"),
        ("file:..", "names no folder"),
        ("file:///missing/chats", "There is no folder /missing"),
        ("file:chats#x", "%23"),
        ("memory://chats", "nothing behind it"),
        ("redis://host:port/0", "none of Redis"),
        ("redis+sentinel://host", "name of the primary"),
        ("chat.db", "begins with no scheme"),
        ("", "begins with no scheme"),
        ("mysql://host/db", "Nobody keeps conversations under mysql:.*sqlite"),
        ("file://[", "cannot be read"),
    ],
)
def test_a_url_that_cannot_be_meant_is_a_named_error(tmp_path: Path, url: str, told: str) -> None:
    """It says what to write instead, and nothing was made."""
    with pytest.raises(ConfigurationError, match=told):
        conversation_from_url(url)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "url",
    [
        f"mysql://ada:{PASSWORD}@host/db",
        f"ada:{PASSWORD}@host",
        f"redis://ada:{PASSWORD}@host:{PASSWORD}/0",
        f"redis://ada:{PASSWORD}/x@host:6379/0",
        f"redis+sentinel://:{PASSWORD}@host",
        f"rediss://ada:{PASSWORD}@host/0?ssl_cert_reqs=none",
        f"sqlite://ada:{PASSWORD}@host/chat.db",
        f"file://ada:{PASSWORD}@host/chats",
        f"memory://ada:{PASSWORD}@host",
    ],
)
def test_no_error_quotes_a_password(url: str) -> None:
    """Not in its message, and not in those of what led to it."""
    with pytest.raises(ConfigurationError) as caught:
        conversation_from_url(url)
    error: BaseException | None = caught.value
    while error is not None:
        assert PASSWORD not in str(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def test_a_config_shows_no_password() -> None:
    """It may stand in a log, or in the error about another of its fields."""
    url = f"redis://ada:{PASSWORD}@host/0"
    assert PASSWORD not in repr(ConversationConfig(backend=url))
    with pytest.raises(ValueError, match="size") as caught:
        ConversationConfig(backend=url, size=0)
    assert PASSWORD not in str(caught.value)


async def test_each_scheme_leads_to_its_store() -> None:
    """Those of Redis connect later, so they can be opened without one."""
    expected: dict[str, type[object]] = {
        "memory://": MemoryConversationStore,
        "file:chats": FileConversationStore,
        "sqlite:///chat.db": SqliteConversationStore,
        "redis://localhost/0": RedisConversationStore,
        "rediss://localhost/0": RedisConversationStore,
        "redis+sentinel://localhost/primary": RedisConversationStore,
        "rediss+sentinel://localhost/primary": RedisConversationStore,
        "redis+cluster://localhost": RedisConversationStore,
        "rediss+cluster://localhost": RedisConversationStore,
        "unix:///tmp/redis.sock": RedisConversationStore,
    }
    assert {url.partition(":")[0] for url in expected} <= set(SCHEMES)
    for url, kind in expected.items():
        store = conversation_from_url(url, Settings())
        assert type(store) is kind
        assert store.is_distributed is SCHEMES[url.partition(":")[0]].is_distributed
        await store.aclose()


def passwords_of(store: ConversationStore) -> dict[str, Any]:
    store = innermost(store)
    assert isinstance(store, RedisConversationStore)
    return dict(store._client.connection_pool.connection_kwargs)


async def test_a_password_of_the_settings_is_for_their_redis_alone() -> None:
    """Another server does not get to see it."""
    settings = Settings.model_validate(
        {"redis_url": "redis://runs:6379/0", "redis_username": "ada", "redis_password": PASSWORD}
    )
    here = conversation_from_url("redis://runs:6379/3", settings)
    elsewhere = conversation_from_url("redis://histories:6379/0", settings)
    assert passwords_of(here)["password"] == PASSWORD
    assert passwords_of(here)["db"] == 3
    assert passwords_of(elsewhere).get("password") is None
    assert passwords_of(elsewhere).get("username") is None
    for store in (here, elsewhere):
        await store.aclose()


@pytest.fixture
def offer(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let other distributions be installed that offer schemes."""

    def offer(*values: str) -> None:
        points = [EntryPoint("mine", value, ENTRY_POINTS) for value in values]
        monkeypatch.setattr(url_module, "entry_points", lambda *, group: points)

    return offer


def open_mine(url: str, settings: Settings) -> ConversationStore:
    """What another distribution has."""
    assert (url, settings.key_prefix) == ("mine://place", "mine")
    return conversation_from_url("memory://", settings)


async def test_another_distribution_may_add_a_scheme(offer: Callable[..., None]) -> None:
    """Its entry point names a function that takes the URL and the settings."""
    offer(f"{__name__}:open_mine")
    store = conversation_from_url("mine://place", Settings(key_prefix="mine"))
    assert isinstance(store, MemoryConversationStore)
    check_distributed("mine://place")  # only the store itself can tell
    with pytest.raises(NotDistributedError):
        build_backend(Settings(key_prefix="mine"), "mine://place")


def test_a_scheme_of_somebody_else_that_cannot_be_used_is_a_named_error(
    offer: Callable[..., None],
) -> None:
    """Two that offer it, one that cannot be loaded."""
    offer("one:open", "two:open")
    with pytest.raises(ConfigurationError, match=r"one:open, two:open"):
        conversation_from_url("mine://place")
    offer("no_such_module:open")
    with pytest.raises(ConfigurationError, match="no_such_module"):
        conversation_from_url("mine://place")


def test_an_extra_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the command that installs it."""
    scheme = Scheme("no_such_library:open_url", is_distributed=True, extra="postgres")
    monkeypatch.setattr(url_module, "SCHEMES", {"postgresql": scheme})
    with pytest.raises(ConfigurationError, match=r"pip install 'celery-agents\[postgres\]'"):
        conversation_from_url("postgresql://localhost/chats")


@pytest.mark.parametrize("url", ["memory://", "file:chats", "sqlite:///chat.db"])
def test_what_others_cannot_see_is_refused_before_it_is_made(tmp_path: Path, url: str) -> None:
    """No file is left behind by a set-up that is refused."""
    with pytest.raises(NotDistributedError, match="local"):
        build_backend(Settings(), url)
    assert list(tmp_path.iterdir()) == []


async def test_runs_and_conversations_may_be_kept_in_different_places() -> None:
    """A backend closes both."""
    backend = build_backend(Settings(), "redis://histories/0")
    assert passwords_of(backend.conversations)["host"] == "histories"
    await backend.aclose()
    local = build_local_backend(Settings(), "sqlite:///chat.db")
    assert isinstance(innermost(local.conversations), SqliteConversationStore)
    assert not local.ledger.is_distributed
    await local.aclose()
