"""The archive of the settings."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from shared.archive import archive_name, open_archive
from shared.conversation.file import FileConversationStore
from shared.errors import ConfigurationError
from shared.retention import RetentionRule
from shared.sealing.wrapper import innermost
from shared.settings import Settings, read_settings
from shared.testing.conversation.value import imported, texts


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("redis://ada:sesame@host:6379/3", "redis://host:6379/3"),
        ("rediss://:sesame@host/0?x=sesame", "rediss://host/0"),
        ("file:///var/lib/chats", "file:///var/lib/chats"),
        ("sqlite:////var/lib/chat.db", "sqlite:////var/lib/chat.db"),
        ("postgresql://ada:sesame@host/chats?sslmode=require", "postgresql://host/chats"),
    ],
)
def test_an_archive_is_named_without_secrets(url: str, name: str) -> None:
    """Its name stands in records, which everybody reads."""
    assert archive_name(url) == name


async def test_an_archive_is_opened_by_its_url(tmp_path: Path) -> None:
    """None where the settings name none."""
    assert open_archive(Settings()) is None
    url = f"file://{tmp_path}/attic"
    archive = open_archive(Settings(archive_url=SecretStr(url)))
    assert archive is not None
    assert archive.name == url
    assert isinstance(innermost(archive.conversations), FileConversationStore)
    await archive.conversations.append("old", [imported("a")])
    assert texts(await archive.conversations.list_messages("old")) == ["a"]
    await archive.conversations.aclose()


def test_a_rule_that_archives_needs_an_archive() -> None:
    """Found when the settings are read, and not when the first conversation is old enough."""
    rules = (RetentionRule(action="archive", after_days=30),)
    with pytest.raises(ConfigurationError, match="AGENTS_ARCHIVE_URL"):
        read_settings(retention=rules)
    assert read_settings(retention=rules, archive_url="file:///attic").retention == rules


def test_a_rule_that_is_none_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With its place in the list."""
    monkeypatch.setenv("AGENTS_RETENTION", '[{"action": "burn", "after_days": 1}]')
    with pytest.raises(ConfigurationError, match=r"AGENTS_RETENTION\.0\.ACTION: .*'purge'"):
        read_settings()
