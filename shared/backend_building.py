"""Building a backend: runs where the settings say, conversations where a URL says."""

from dataclasses import replace

from shared.backend import Backend
from shared.conversation.protocol import ConversationStore
from shared.conversation.shown_url import shown_url
from shared.conversation.url import check_distributed, conversation_from_url
from shared.sealing.wrapper import innermost
from shared.settings import Settings


def build_backend(settings: Settings, conversation_url: str | None = None) -> Backend:
    """Runs in the Redis of the settings, and conversations too, unless a URL says where.

    What clients and remote workers use. The URL is this one, or else AGENTS_CONVERSATION_URL.
    Connects on first use.

    Raises:
        ConfigurationError: A URL that cannot be used.
        NotDistributedError: Workers in other processes could not see the conversations.
    """
    if conversation_url is None and settings.conversation_url is not None:
        conversation_url = settings.conversation_url.get_secret_value()
    if conversation_url is not None:
        check_distributed(conversation_url)  # before anything is made where it does not belong
    # Loaded here, since redis-py takes longer to import than all else of the client together.
    from shared.redis_backend import build_redis_backend

    backend = build_redis_backend(settings)
    if conversation_url is not None:
        backend = _with_conversations(backend, conversation_url, settings)
        backend.check_distributed()  # a scheme of somebody else's, of which only the store tells
    return backend


def build_local_backend(settings: Settings, conversation_url: str | None = None) -> Backend:
    """Runs in the memory of this process, and conversations too, unless a URL says where.

    Raises:
        ConfigurationError: A URL that cannot be used.
    """
    from shared.memory_backend import build_memory_backend

    backend = build_memory_backend(settings)
    if conversation_url is None:
        return backend
    return _with_conversations(backend, conversation_url, settings)


def open_conversations(url: str, settings: Settings | None = None) -> ConversationStore:
    """What a URL names, sealed as the settings say; see `conversation_from_url`.

    The settings come from the environment (AGENTS_...) unless given. `aclose` gives back what it
    opens.

    Raises:
        ConfigurationError: A URL or keys that cannot be used.
    """
    from shared.sealing.backend import seal_conversations

    settings = settings if settings is not None else Settings()
    return seal_conversations(conversation_from_url(url, settings), settings)


def _with_conversations(backend: Backend, url: str, settings: Settings) -> Backend:
    store = open_conversations(url, settings)
    elsewhere = backend.with_conversations(store).inspecting(innermost(store))
    return replace(elsewhere, conversations_at=shown_url(url))
