"""Conversations at OpenAI by URL: the key and the address of the environment, any index."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.conversation.url import conversation_from_url
from shared.errors import ConfigurationError, NotDistributedError
from shared.settings import Settings
from shared.testing.conversation.value import conversation_name, imported, texts
from tests.openai_server.app import KEY
from tests.openai_server.server import OpenAIServer


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenAIServer]:
    with OpenAIServer() as server:
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        yield server


async def test_what_one_process_stores_another_one_reads(
    server: OpenAIServer, tmp_path: Path
) -> None:
    """The contents are at the provider and not in the index's file."""
    name, url = conversation_name(), f"openai+sqlite:///{tmp_path}/index.db"
    store = conversation_from_url(url, Settings())
    await store.append(name, [imported("the secret is seven")])
    await store.aclose()
    await store.aclose()

    again = conversation_from_url(url, Settings())
    assert texts(await again.list_messages(name)) == ["the secret is seven"]
    assert not again.is_distributed
    await again.aclose()
    assert len(server.keeping.items_of(name)) == 1
    assert all(b"seven" not in file.read_bytes() for file in tmp_path.iterdir())


def test_without_a_key_it_says_which_setting_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """When the store is opened, before anything is sent."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ConfigurationError, match="OPENAI_API_KEY"):
        conversation_from_url("openai+memory://", Settings())


@pytest.mark.parametrize("setting", ["conversation_ttl_s", "conversation_max_messages"])
def test_an_index_may_not_forget_what_the_provider_keeps(
    server: OpenAIServer, setting: str
) -> None:
    """A time to live or a maximum would leave contents there that nobody knows of."""
    with pytest.raises(ConfigurationError, match="delete"):
        conversation_from_url("openai+memory://", Settings.model_validate({setting: 86_400}))


@pytest.mark.parametrize(
    "asked",
    [{"compression": "zstd"}, {"encryption_keys": f"a:{os.urandom(32).hex()}"}],
    ids=["compression", "encryption"],
)
def test_what_nobody_could_read_there_is_not_kept_there(
    server: OpenAIServer, asked: dict[str, str]
) -> None:
    """It would all be in the index, and the provider's models would see an empty conversation."""
    with pytest.raises(ConfigurationError, match="AGENTS_ENCRYPTION_KEYS"):
        conversation_from_url("openai+memory://", Settings.model_validate(asked))


def test_workers_elsewhere_need_an_index_that_they_can_reach() -> None:
    """The contents alone are not enough."""
    from shared.conversation.url import check_distributed

    check_distributed("openai+redis://localhost")
    with pytest.raises(NotDistributedError):
        check_distributed("openai+sqlite:///index.db")
