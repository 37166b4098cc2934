"""Conversations at OpenAI by URL: ``openai+`` before the URL of the index.

    openai+sqlite:///chat.db
    openai+redis://host:6379/0

The key and the address come from OPENAI_API_KEY and OPENAI_BASE_URL.
"""

from typing import Final

from shared.conversation.openai import OpenAIConversationStore
from shared.conversation.openai_api import open_client
from shared.conversation.url import conversation_from_url
from shared.errors import ConfigurationError
from shared.settings import Settings

PREFIX: Final = "openai+"


def open_url(url: str, settings: Settings) -> OpenAIConversationStore:
    """Open the index that follows the prefix, and a client.

    Raises:
        ConfigurationError: No key, no library, an index that cannot be opened, settings that let
            the index forget what the provider would keep, or that leave nothing to keep there.
    """
    if settings.conversation_ttl_s is not None or settings.conversation_max_messages is not None:
        raise ConfigurationError(
            "OpenAI keeps what an index forgets by itself. Unset AGENTS_CONVERSATION_TTL_S and "
            "AGENTS_CONVERSATION_MAX_MESSAGES, and delete conversations instead."
        )
    if settings.encryption_keys is not None or settings.compression != "none":
        raise ConfigurationError(
            "What is encrypted or compressed cannot be read at OpenAI, so nothing would be kept "
            "there. Unset AGENTS_ENCRYPTION_KEYS and AGENTS_COMPRESSION, or keep conversations "
            "elsewhere."
        )
    client = open_client()
    index = conversation_from_url(url[len(PREFIX) :], settings)
    return OpenAIConversationStore(client, index, close=(index.aclose, client.close))
