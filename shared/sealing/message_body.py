"""What is sealed of a message: everything but where it stands and what kind of message it is."""

from typing import Any, Final

from pydantic import Field

from shared.codec import decode, encode, storable
from shared.errors import CorruptEntryError, TamperedError
from shared.message import Draft, Message, MessageKind, Role, Sealed
from shared.version import FORMAT_VERSION, MESSAGE_VERSION, SEALED_VERSION


class MessageBody(Draft):
    """The fields of a message that only those may see who can open it, as JSON."""

    role: Role = Field(default=Role.USER, exclude=True)
    kind: MessageKind = Field(default=MessageKind.MESSAGE, exclude=True)
    version: int = Field(default=MESSAGE_VERSION, ge=1, le=FORMAT_VERSION, strict=True)
    """That of the message; the sealed one needs readers that know of seals."""


_HIDDEN: Final = tuple(MessageBody.model_fields.keys() - {"role", "kind"})


def body_of(message: Message) -> bytes:
    """The bytes to seal of a message that is not sealed.

    Raises:
        UnstorableError: They could not be read again.
    """
    fields: dict[str, Any] = {name: getattr(message, name) for name in _HIDDEN}
    return encode(MessageBody.model_construct(**fields)).encode()


def shell_of(message: Message) -> Message:
    """The message without what is sealed of it: what everybody may know.

    Its id and run id are as a store would give them back, so that a seal can be bound to them.
    """
    return Message.model_construct(
        role=message.role,
        kind=message.kind,
        version=max(message.version, SEALED_VERSION),
        id=storable(message.id),
        run_id=storable(message.run_id),
        position=message.position,
        created_at=message.created_at,
    )


def with_seal(shell: Message, sealed: Sealed) -> Message:
    """What everybody may know of a message, with what is sealed of it."""
    return shell.model_copy(update={"sealed": sealed})


def with_body(shell: Message, body: bytes, *, where: str) -> Message:
    """The whole message again. `where` names it in errors.

    Raises:
        TamperedError: The bytes are not those of a message.
    """
    try:
        opened = decode(MessageBody, body, where=where)
    except CorruptEntryError as error:
        raise TamperedError(f"{error} It was altered, and is kept as it is.") from error
    fields: dict[str, Any] = {name: getattr(opened, name) for name in _HIDDEN}
    return shell.model_copy(update={**fields, "sealed": None})
