"""Conversations that are compressed: a wrapper over any store."""

from typing import Final

from shared.conversation.protocol import ConversationStore
from shared.errors import UnstorableError
from shared.message import Message
from shared.sealing.compression import READ, ZSTD, compress, decompress, load_zstd
from shared.sealing.message_body import body_of, shell_of, with_body, with_seal
from shared.sealing.repack import as_sealed, bytes_of
from shared.sealing.wrapper import WrappedConversations

_OVERHEAD: Final = len('"sealed":{"layers":["zstd"],"data":""},')


class CompressedConversations(WrappedConversations):
    """What a message says is compressed with zstd, where that makes it smaller.

    A message stays as it is if it would not become smaller by it, base64 included, or is larger
    than `max_bytes`. Whatever is there is read: compressed or not, by zstd or by gzip, up to
    `max_bytes` unpacked. So everything that this writes can be read again with the same setting.
    Without `writes` nothing is compressed, and the rest stays the same.

    Raises:
        ConfigurationError: As `WrappedConversations`; the library is not installed, and `writes`.
    """

    layer = 2
    what = "compression"

    def __init__(self, store: ConversationStore, *, max_bytes: int, writes: bool = True) -> None:
        super().__init__(store)
        if writes:
            load_zstd()
        self._max_bytes = max_bytes
        self._writes = writes

    def _seal(self, _conversation_id: str, message: Message, /) -> Message:
        if message.sealed is not None:
            raise UnstorableError(
                f"Message {message.id} is sealed already, as it was stored elsewhere; open it by "
                "reading it through a store with the same wrappers."
            )
        if not self._writes:
            return message
        body = body_of(message)
        if len(body) > self._max_bytes:
            return message
        sealed = as_sealed([ZSTD], compress(body))
        if len(sealed.data) + _OVERHEAD >= len(body):
            return message
        return with_seal(shell_of(message), sealed)

    def _open(self, _conversation_id: str, message: Message, where: str, /) -> Message:
        sealed = message.sealed
        if sealed is None or len(sealed.layers) != 1 or sealed.layers[0] not in READ:
            return message
        packed = bytes_of(sealed, where)
        body = decompress(sealed.layers[0], packed, limit=self._max_bytes, where=where)
        return with_body(message, body, where=where)
