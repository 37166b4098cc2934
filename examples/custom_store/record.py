"""One conversation as a value that can be changed and written as a whole.

Everything that the protocol promises about order, positions and fencing is decided here, on plain
data. The store around it only has to read a record, change it and write it back in one step.
"""

import time
from collections.abc import Sequence

from pydantic import BaseModel

from shared.codec import encode
from shared.conversation.protocol import DELETED_FENCE_S, Writer
from shared.errors import FencedError, PositionGapError
from shared.message import Message


class Entry(BaseModel):
    """A stored message. What filters go by stands beside it, so that only hits are decoded."""

    number: int
    run_id: str | None
    position: int
    role: str
    stored: str

    @property
    def cursor(self) -> str:
        """Names the entry for ever: it is no index, which would move when others are removed."""
        return f"n{self.number}"


class Record(BaseModel):
    """A conversation: its entries, oldest first, and who may write."""

    entries: list[Entry] = []
    last_number: int = 0
    """Never goes back, or a cursor of before would name something else."""
    token: int = 0
    used_up_token: int = 0
    """Under which a run was retracted, or the conversation deleted: no append under it any more."""
    writer: str | None = None
    next_position: int = 0
    is_deleted: bool = False
    expires_at: float | None = None

    @property
    def is_expired(self) -> bool:
        """Whether it is to be forgotten, tokens included."""
        return self.expires_at is not None and self.expires_at <= time.time()

    def own(self, run_id: str) -> list[Entry]:
        """The entries of a run."""
        return [entry for entry in self.entries if entry.run_id == run_id]

    def claim(self, writer: Writer) -> None:
        """Let nobody with a smaller token write from now on, and count positions anew."""
        self._admit(writer)
        self._count()

    def append(self, messages: Sequence[Message], writer: Writer | None) -> list[str]:
        """Append all messages or none of them; return their cursors."""
        known: list[str] = []
        if writer is not None:
            self._admit(writer)
            if writer.fencing_token == self.used_up_token:
                raise FencedError(f"Token {writer.fencing_token} was used up; lease the run anew.")
            known = self._known(messages, writer)
        new = messages[len(known) :]
        # All of them before the first is kept: what cannot be encoded leaves nothing behind.
        stored = [encode(message) for message in new]
        for message, text in zip(new, stored, strict=True):
            self._add(message, text)
        if self.is_deleted and new:
            self.is_deleted, self.expires_at = False, None
        if writer is not None:
            self.next_position += len(new)
        return known + [entry.cursor for entry in self.entries[len(self.entries) - len(new) :]]

    def retract(self, writer: Writer) -> int:
        """Remove what the run wrote, and use the token up."""
        self._admit(writer)
        before = len(self.entries)
        self.entries = [entry for entry in self.entries if entry.run_id != writer.run_id]
        self.next_position, self.used_up_token = 0, writer.fencing_token
        return before - len(self.entries)

    def clear(self) -> int:
        """Remove all entries. Tokens, positions and the last number stay."""
        before = len(self.entries)
        self.entries = []
        return before

    def remove(self, cursor: str) -> bool:
        """Remove one entry."""
        before = len(self.entries)
        self.entries = [entry for entry in self.entries if entry.cursor != cursor]
        return len(self.entries) < before

    def delete(self) -> int:
        """Forget all but the token, which refuses those who come late."""
        removed = self.clear()
        self.writer, self.next_position = None, 0
        self.used_up_token = self.token
        self.is_deleted, self.expires_at = True, time.time() + DELETED_FENCE_S
        return removed

    def _admit(self, writer: Writer) -> None:
        if writer.fencing_token < self.token:
            raise FencedError(
                f"Run {writer.run_id} writes with token {writer.fencing_token}, but {self.token} "
                "was given out since; drop the run, another worker has it."
            )
        self.token = writer.fencing_token
        if self.writer != writer.run_id:
            self.writer = writer.run_id
            self._count()

    def _count(self) -> None:
        """Positions go on behind what is stored of the run, whatever was cleared before."""
        own = self.own(self.writer) if self.writer is not None else []
        self.next_position = own[-1].position + 1 if own else 0

    def _known(self, messages: Sequence[Message], writer: Writer) -> list[str]:
        """Cursors of the messages that are stored already: the first so many of them."""
        cursors = {entry.position: entry.cursor for entry in self.own(writer.run_id)}
        known: list[str] = []
        expected = self.next_position
        for message in messages:
            is_own = message.run_id == writer.run_id
            if is_own and message.position < self.next_position == expected:
                known.append(cursors.get(message.position, ""))
            elif is_own and message.position == expected:
                expected += 1
            else:
                raise PositionGapError(
                    f"Run {writer.run_id} appends position {message.position} of run "
                    f"{message.run_id}, but its own position {expected} comes next."
                )
        return known

    def _add(self, message: Message, stored: str) -> None:
        self.last_number += 1
        self.entries.append(
            Entry(
                number=self.last_number,
                run_id=message.run_id,
                position=message.position,
                role=message.role,
                stored=stored,
            )
        )
