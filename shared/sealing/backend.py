"""Puts the wrappers that the settings ask for around a backend, in their order."""

from dataclasses import replace

from shared.backend import Backend
from shared.conversation.protocol import ConversationStore
from shared.sealing.byte_seal import KeyRingSeal
from shared.sealing.compressed import CompressedConversations
from shared.sealing.encrypted import EncryptedConversations
from shared.sealing.guard import GuardedConversations
from shared.sealing.key_ring import KeyRing
from shared.sealing.ledger import SealedRunLedger
from shared.settings import Settings


def seal_backend(backend: Backend, settings: Settings) -> Backend:
    """The same backend, sealed as the settings say and guarded in any case.

    Raises:
        ConfigurationError: Unusable keys, or a library is not installed.
    """
    return replace(
        backend,
        ledger=SealedRunLedger(backend.ledger, key_ring_of(settings), plaintext=settings.plaintext),
        conversations=seal_conversations(backend.conversations, settings),
    )


def seal_conversations(store: ConversationStore, settings: Settings) -> GuardedConversations:
    """A store with what the settings say around it, and the guard outermost.

    Raises:
        ConfigurationError: As `seal_backend`.
    """
    key_ring = key_ring_of(settings)
    if key_ring is not None:
        store = EncryptedConversations(store, key_ring, plaintext=settings.plaintext)
    compressed = CompressedConversations(
        store, max_bytes=settings.max_unpacked_bytes, writes=settings.compression == "zstd"
    )
    return GuardedConversations(compressed)


def seal_of(settings: Settings) -> KeyRingSeal | None:
    """What encrypts snapshots and agents' cards; None where there are no keys.

    Raises:
        ConfigurationError: As `seal_backend`.
    """
    key_ring = key_ring_of(settings)
    return None if key_ring is None else KeyRingSeal(key_ring, plaintext=settings.plaintext)


def key_ring_of(settings: Settings) -> KeyRing | None:
    """The keys of the settings; None where they name none.

    Raises:
        ConfigurationError: They are unusable, or the library is not installed.
    """
    if settings.encryption_keys is None:
        return None
    return KeyRing.parse(settings.encryption_keys.get_secret_value())
