"""Stores that look right and are not, each with one mistake that authors make.

They are the example's store with a line or two changed, so that the contract has to find just that.
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from examples.custom_store.record import Entry, Record
from examples.custom_store.store import DbmConversationStore
from shared.conversation.protocol import Writer
from shared.errors import CorruptEntryError, InvalidCursorError
from shared.message import Message, Role


class TornBatches(DbmConversationStore):
    """Appends the messages of a batch one after the other."""

    async def append(
        self, conversation_id: str, messages: Sequence[Message], *, writer: Writer | None = None
    ) -> list[str]:
        cursors: list[str] = []
        for message in messages:
            cursors += await super().append(conversation_id, [message], writer=writer)
            await asyncio.sleep(0)
        return cursors


class _Unfenced(Record):
    def _admit(self, writer: Writer) -> None:
        if self.writer != writer.run_id:
            self.writer = writer.run_id
            self._count()


class NoFencing(DbmConversationStore):
    """Takes every token for good."""

    record_type = _Unfenced


class _ById(Record):
    def _known(self, messages: Sequence[Message], writer: Writer) -> list[str]:
        known = {entry.run_id: entry.cursor for entry in self.entries}
        return [known[message.run_id] for message in messages if message.run_id in known][:0] + [
            entry.cursor
            for message in messages
            for entry in self.entries
            if f'"id":"{message.id}"' in entry.stored
        ]


class DedupeById(DbmConversationStore):
    """Knows a message by its id alone, and looks at no position."""

    record_type = _ById


class _Renumbered(Record):
    def remove(self, cursor: str) -> bool:
        removed = super().remove(cursor)
        self._renumber()
        return removed

    def retract(self, writer: Writer) -> int:
        removed = super().retract(writer)
        self._renumber()
        return removed

    def clear(self) -> int:
        removed = super().clear()
        self._renumber()
        return removed

    def _renumber(self) -> None:
        for number, entry in enumerate(self.entries, start=1):
            entry.number = number
        self.last_number = len(self.entries)


class CursorsAreIndexes(DbmConversationStore):
    """A cursor is the place in the list of now."""

    record_type = _Renumbered


class _ForgetfulClear(Record):
    def clear(self) -> int:
        removed = super().clear()
        self.token = 0
        return removed


class ClearForgetsTokens(DbmConversationStore):
    """After a clear, everybody may write again."""

    record_type = _ForgetfulClear


class _Reusable(Record):
    def retract(self, writer: Writer) -> int:
        removed = super().retract(writer)
        self.used_up_token = 0
        return removed


class RetractLeavesTheToken(DbmConversationStore):
    """A late append brings back what was rolled back."""

    record_type = _Reusable


class _GoneForGood(Record):
    def delete(self) -> int:
        removed = super().delete()
        self.token = self.used_up_token = 0
        return removed


class DeleteForgetsTokens(DbmConversationStore):
    """Whoever wrote to a deleted conversation brings it back."""

    record_type = _GoneForGood


class SilentRemovals(DbmConversationStore):
    """Hints at appends and at nothing else."""

    async def clear(self, conversation_id: str) -> int:
        _, removed = await self._change(conversation_id, lambda record: record.clear())
        return removed


class LimitBeforeFilters(DbmConversationStore):
    """Takes the newest messages, and then those of them that were asked for."""

    async def list_messages(
        self,
        conversation_id: str,
        *,
        limit: int | None = None,
        before: str | None = None,
        after: str | None = None,
        roles: Collection[Role] | None = None,
        run_id: str | None = None,
    ) -> list[Message]:
        found = await super().list_messages(
            conversation_id, limit=limit, before=before, after=after
        )
        return [
            message
            for message in found
            if (roles is None or message.role in roles)
            and (run_id is None or message.run_id == run_id)
        ]


class LeavesNewerOut(DbmConversationStore):
    """Takes what a newer version wrote for damage."""

    def _decoded(self, conversation_id: str, entries: Any, limit: int | None = None) -> Any:
        readable: list[Entry] = []
        for entry in entries:
            try:
                super()._decoded(conversation_id, [entry])
            except CorruptEntryError:
                continue
            readable.append(entry)
        return super()._decoded(conversation_id, readable, limit)


class GuessesAtCursors(DbmConversationStore):
    """Takes a cursor that it cannot read for the beginning."""

    async def list_messages(self, conversation_id: str, **asked: Any) -> list[Message]:
        try:
            return await super().list_messages(conversation_id, **asked)
        except InvalidCursorError:
            return await super().list_messages(conversation_id, limit=asked.get("limit"))


class _Brief(Record):
    def append(self, messages: Sequence[Message], writer: Writer | None) -> list[str]:
        brief = [message.model_copy(update={"engine": None, "usage": None}) for message in messages]
        return super().append(brief, writer)


class LosesFields(DbmConversationStore):
    """Keeps the columns that its author knew of."""

    record_type = _Brief


class _Unchecked(Record):
    def _known(self, messages: Sequence[Message], writer: Writer) -> list[str]:
        cursors = {entry.position: entry.cursor for entry in self.own(writer.run_id)}
        return [cursors[each.position] for each in messages if each.position in cursors]


class AcceptsGaps(DbmConversationStore):
    """Skips what it has, and takes everything else."""

    record_type = _Unchecked


@dataclass(frozen=True, slots=True)
class Wrong:
    """A wrong store, and cases that have to notice."""

    store: type[DbmConversationStore]
    cases: tuple[str, ...]


WRONG: Final[Mapping[str, Wrong]] = MappingProxyType(
    {
        wrong.store.__name__: wrong
        for wrong in (
            Wrong(TornBatches, ("test_a_reader_sees_a_batch_whole_or_not_at_all",)),
            Wrong(NoFencing, ("test_an_older_token_is_refused",)),
            Wrong(DedupeById, ("test_a_gap_behind_stored_messages_is_refused",)),
            Wrong(
                CursorsAreIndexes,
                (
                    "test_one_message_is_removed_by_its_cursor",
                    "test_cursors_stay_valid_over_a_clear",
                ),
            ),
            Wrong(ClearForgetsTokens, ("test_a_clear_does_not_reset_the_token",)),
            Wrong(
                RetractLeavesTheToken,
                ("test_a_late_append_does_not_bring_a_retracted_run_back",),
            ),
            Wrong(
                DeleteForgetsTokens,
                ("test_who_wrote_to_a_deleted_conversation_writes_no_more",),
            ),
            Wrong(SilentRemovals, ("test_a_watcher_hears_of_every_kind_of_change",)),
            Wrong(LimitBeforeFilters, ("test_every_combination_of_bounds_and_filters",)),
            Wrong(LeavesNewerOut, ("test_a_message_for_newer_readers_is_never_left_out",)),
            Wrong(GuessesAtCursors, ("test_a_cursor_of_somebody_else_is_refused",)),
            Wrong(LosesFields, ("test_a_message_comes_back_as_it_was_given",)),
            Wrong(AcceptsGaps, ("test_positions_that_do_not_continue_the_run_are_refused",)),
        )
    }
)


def open_wrong(name: str, folder: Path) -> DbmConversationStore:
    """A wrong store over a new file."""
    return WRONG[name].store(folder / "chat")
