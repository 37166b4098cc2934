"""The stores on disk. Elsewhere is another store over the same files."""

import sqlite3
from abc import ABC, abstractmethod
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from shared.conversation.file import FileConversationStore
from shared.conversation.local.file_format import commit_line
from shared.conversation.local.file_storage import FileStorage, file_name
from shared.conversation.protocol import ConversationStore
from shared.conversation.sqlite import SqliteConversationStore
from tests.contract.stores.harness import StoreHarness

GARBAGE = b"\xff\xfe{"
"""Neither JSON nor UTF-8."""


class LocalStores(ABC):
    """Stores over one place in a folder of the test's own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._opened: list[ConversationStore] = []

    async def open(self) -> ConversationStore:
        store = self._new()
        self._opened.append(store)
        return store

    async def open_elsewhere(self, store: ConversationStore) -> ConversationStore:
        return await self.open()

    async def aclose(self) -> None:
        for store in self._opened:
            await store.aclose()

    @abstractmethod
    def _new(self) -> ConversationStore: ...

    @abstractmethod
    async def damage(self, store: ConversationStore, conversation_id: str) -> None: ...


class FileStores(LocalStores):
    """Damage is a line of garbage that somebody committed."""

    def _new(self) -> ConversationStore:
        return FileConversationStore(self._folder)

    async def damage(self, store: ConversationStore, conversation_id: str) -> None:
        with FileStorage(self._folder).reading(conversation_id) as conversation:
            state = conversation.state
        lines = GARBAGE + b"\n"
        commit = commit_line(replace(state, count=state.count + 1), lines)
        with (self._folder / "conversations" / file_name(conversation_id)).open("ab") as file:
            file.write(lines + commit)


class SqliteStores(LocalStores):
    """Damage is a row with garbage in each field."""

    def _new(self) -> ConversationStore:
        return SqliteConversationStore(self._folder / "chat.db")

    async def damage(self, store: ConversationStore, conversation_id: str) -> None:
        with closing(sqlite3.connect(self._folder / "chat.db")) as connection, connection:
            connection.execute(
                "INSERT INTO message SELECT conversation, max(number) + 1, :garbage, :garbage, "
                ":garbage, :garbage, :garbage FROM message WHERE conversation = "
                "(SELECT key FROM conversation WHERE id = :id)",
                {"garbage": GARBAGE, "id": conversation_id},
            )


def open_file(request: pytest.FixtureRequest) -> StoreHarness:
    return FileStores(request.getfixturevalue("tmp_path") / "chats")


def open_sqlite(request: pytest.FixtureRequest) -> StoreHarness:
    return SqliteStores(request.getfixturevalue("tmp_path"))
