"""The digest of a conversation: equal wherever the same messages stand, in the same order.

It is SHA-256 over, first, ``agents-conversation-1`` and a line feed, then, for each message from
the oldest to the newest, the length of its canonical form in bytes (8 bytes, big-endian) and that
form.

The canonical form of a message is its stored form as JSON with sorted keys, no white space, ASCII
only, and its time in UTC with microseconds. Cursors, which each store makes for itself, are no part
of it. So it does not depend on the backend, and not on wrappers: what is compressed or encrypted is
read through them, as it was before.
"""

import hashlib
import json
from collections.abc import Sequence
from datetime import UTC
from typing import Any, Final

from shared.codec import encode
from shared.message import Message

_DOMAIN: Final = b"agents-conversation-1\n"


def canonical(message: Message) -> bytes:
    """The canonical form of a message; see the top of this module.

    Raises:
        UnstorableError: A message that no store could keep.
    """
    body: dict[str, Any] = json.loads(encode(message))
    created_at = message.created_at
    if created_at.tzinfo is not None:
        created_at = created_at.astimezone(UTC)
    body["created_at"] = created_at.isoformat(timespec="microseconds")
    return json.dumps(body, sort_keys=True, separators=(",", ":")).encode()


class ConversationDigest:
    """The digest of messages that come one after the other.

    Attributes:
        messages: How many were added.
        size: Bytes of their canonical forms.
    """

    def __init__(self) -> None:
        self._hash = hashlib.sha256(_DOMAIN)
        self.messages = 0
        self.size = 0

    def add(self, form: bytes) -> None:
        """Add the canonical form of the next message."""
        self._hash.update(len(form).to_bytes(8, "big"))
        self._hash.update(form)
        self.messages += 1
        self.size += len(form)

    def hex(self) -> str:
        """The digest of what was added so far: 64 hexadecimal digits."""
        return self._hash.hexdigest()


def digest_of(messages: Sequence[Message]) -> str:
    """The digest of a conversation that is at hand as a whole."""
    digest = ConversationDigest()
    for message in messages:
        digest.add(canonical(message))
    return digest.hex()


class StoreDigest:
    """The digest of many conversations, in whatever order they come.

    It is the sum, modulo 2**256, of SHA-256 over each conversation's id, a NUL byte and its digest.
    """

    def __init__(self) -> None:
        self._sum = 0

    def add(self, conversation_id: str, digest: str) -> None:
        """Add a conversation and its digest."""
        mixed = hashlib.sha256(f"{conversation_id}\0{digest}".encode()).digest()
        self._sum = (self._sum + int.from_bytes(mixed, "big")) % 2**256

    def hex(self) -> str:
        """64 hexadecimal digits."""
        return f"{self._sum:064x}"
