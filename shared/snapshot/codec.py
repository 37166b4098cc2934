"""Between a snapshot and its stored form, which may be sealed.

Two pieces, so that lists need not read histories. The *info* is JSON. The *body* is JSON lines: the
agent's prompts and tools, then a line for each message. What is sealed (`shared.byte_seal`) is
bound to the snapshot's id and to which of the two pieces it is.
"""

from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from shared.byte_seal import Seal, closed, opened
from shared.card.value import PromptCard, ToolCard
from shared.codec import decode, decode_message, encode
from shared.errors import CorruptEntryError, NewerVersionError
from shared.message import Message
from shared.snapshot.value import Snapshot, SnapshotInfo
from shared.transfer.digest import digest_of
from shared.version import FORMAT_VERSION


@dataclass(frozen=True, slots=True)
class Packed:
    """The stored form of a snapshot."""

    info: bytes
    body: bytes


class _Agent(BaseModel):
    """The first line of a body."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    prompts: tuple[PromptCard, ...] = ()
    tools: tuple[ToolCard, ...] = ()
    has_other_tools: bool = False


class SnapshotCodec:
    """Packs and unpacks snapshots; sealed, if there is a `seal`."""

    def __init__(self, seal: Seal | None = None) -> None:
        self._seal = seal

    def pack(self, snapshot: Snapshot) -> Packed:
        """The stored form.

        Raises:
            UnstorableError: It could not be read again.
        """
        agent = _Agent(
            prompts=snapshot.prompts,
            tools=snapshot.tools,
            has_other_tools=snapshot.has_other_tools,
        )
        lines = [encode(agent), *(encode(message) for message in snapshot.history)]
        name = snapshot.info.id
        return Packed(
            info=closed(encode(snapshot.info).encode(), self._seal, f"snapshot:{name}:info"),
            body=closed("\n".join(lines).encode(), self._seal, f"snapshot:{name}:body"),
        )

    def unpack_info(self, snapshot_id: str, stored: bytes) -> SnapshotInfo:
        """Read what lists say.

        Raises:
            CorruptEntryError: It is not the info of this snapshot.
            NewerVersionError: It is for newer readers.
            SealError: It cannot be opened, or is not sealed as it has to be.
        """
        where = f"The snapshot {snapshot_id}"
        body = opened(stored, self._seal, f"snapshot:{snapshot_id}:info", where=where)
        info = decode(SnapshotInfo, body, where=where)
        if info.id != snapshot_id:
            raise CorruptEntryError(f"{where} says that it is another one.")
        if info.version > FORMAT_VERSION:
            raise NewerVersionError(
                f"{where} has version {info.version}, this process reads up to {FORMAT_VERSION}; "
                "update it.",
                info.version,
            )
        return info

    def unpack(self, snapshot_id: str, packed: Packed) -> Snapshot:
        """Read all of a snapshot, and check its messages against their digest.

        Raises:
            CorruptEntryError: It is damaged.
            NewerVersionError: It, or a message in it, is for newer readers.
            SealError: It cannot be opened, or is not sealed as it has to be.
        """
        info = self.unpack_info(snapshot_id, packed.info)
        where = f"The snapshot {snapshot_id}"
        body = opened(packed.body, self._seal, f"snapshot:{snapshot_id}:body", where=where)
        first, *lines = body.split(b"\n")
        agent = decode(_Agent, first, where=where)
        history = tuple(_message(where, number, line) for number, line in enumerate(lines))
        if len(history) != info.messages or digest_of(history) != info.digest:
            raise CorruptEntryError(
                f"{where} does not hold the {info.messages} messages that it was saved with."
            )
        return Snapshot(info=info, history=history, **dict(agent))


def _message(where: str, number: int, line: bytes) -> Message:
    try:
        return decode_message(line, cursor="").model_copy(update={"cursor": None})
    except NewerVersionError:
        raise
    except CorruptEntryError as error:
        raise CorruptEntryError(f"{where}: message {number} cannot be read.") from error
