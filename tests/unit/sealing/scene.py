"""Keys, and stores of which a test sees what is below the wrappers."""

import base64
from collections.abc import Callable
from typing import Final

from pydantic import JsonValue

from shared.conversation.memory import MemoryConversationStore
from shared.conversation.protocol import ConversationStore
from shared.encryption_key import EncryptionKey, Plaintext
from shared.notification.memory import MemoryNotifications
from shared.sealing.compressed import CompressedConversations
from shared.sealing.encrypted import EncryptedConversations
from shared.sealing.guard import GuardedConversations
from shared.sealing.key_ring import KeyRing

MAX_BYTES: Final = 1_000_000


def key(name: str, fill: int = 0) -> EncryptionKey:
    """A key of this name; other names and other fills are other keys."""
    secret = bytes((fill + place * 7 + len(name)) % 256 for place in range(32))
    return EncryptionKey(name, secret[:-1] + name.encode()[-1:])


def ring(*names: str) -> KeyRing:
    """A ring of these keys, the first of which writes."""
    return KeyRing([key(name) for name in names])


def text_of(secret: bytes) -> str:
    """A key as it stands in settings."""
    return base64.b64encode(secret).decode()


def memory_store() -> MemoryConversationStore:
    """A store of its own."""
    return MemoryConversationStore(MemoryNotifications())


def encrypted(
    store: ConversationStore, keys: KeyRing, *, plaintext: Plaintext = "refuse"
) -> ConversationStore:
    """The stack that settings make: guard over compression over encryption."""
    below = EncryptedConversations(store, keys, plaintext=plaintext)
    return GuardedConversations(CompressedConversations(below, max_bytes=MAX_BYTES))


def alter(
    store: MemoryConversationStore, conversation_id: str, place: int, change: Callable[[str], str]
) -> None:
    """Write to an entry past all wrappers, as somebody with access to the store could."""
    from dataclasses import replace

    entries = store._logs[conversation_id].entries
    entries[place] = replace(entries[place], stored=change(entries[place].stored))


def stored(store: MemoryConversationStore, conversation_id: str) -> list[str]:
    """The entries as they lie in the store."""
    return [entry.stored for entry in store._logs[conversation_id].entries]


Json = dict[str, JsonValue]
