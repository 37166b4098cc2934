"""Building a backend: runs where the settings say, conversations where a URL says."""

from shared.backend import Backend
from shared.conversation.protocol import ConversationStore
from shared.conversation.url import check_distributed, conversation_from_url
from shared.settings import Settings


def build_backend(settings: Settings, conversation_url: str | None = None) -> Backend:
    """Runs in the Redis of the settings, and conversations too, unless a URL says where.

    Connects on first use.

    Raises:
        ConfigurationError: A URL that cannot be used.
        NotDistributedError: Workers in other processes could not see the conversations.
    """
    if conversation_url is not None:
        check_distributed(conversation_url)  # before anything is made where it does not belong
    # Loaded here, since redis-py takes longer to import than all else of the client together.
    from shared.redis_backend import build_redis_backend

    backend = build_redis_backend(settings)
    if conversation_url is not None:
        backend = backend.with_conversations(open_conversations(conversation_url, settings))
        backend.check_distributed()  # a scheme of somebody else's, of which only the store tells
    return backend


def open_conversations(url: str, settings: Settings) -> ConversationStore:
    """What a URL names, sealed as the settings say; see `conversation_from_url`.

    Raises:
        ConfigurationError: A URL or keys that cannot be used.
    """
    from shared.sealing.backend import seal_conversations

    return seal_conversations(conversation_from_url(url, settings), settings)


def build_local_backend(settings: Settings, conversation_url: str | None = None) -> Backend:
    """Runs in the memory of this process, and conversations too, unless a URL says where.

    Raises:
        ConfigurationError: A URL that cannot be used.
    """
    from shared.memory_backend import build_memory_backend

    backend = build_memory_backend(settings)
    if conversation_url is None:
        return backend
    return backend.with_conversations(open_conversations(conversation_url, settings))
