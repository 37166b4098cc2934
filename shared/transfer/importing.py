"""Importing a file of chat lines: all that is wrong with it is found before anything is stored."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import BinaryIO, Final

from shared.conversation.protocol import ConversationStore
from shared.errors import MalformedConversationError
from shared.transfer.chat_lines import ChatConversation, read_line

_MOST_FAULTS: Final = 1000
"""A file with more of them is read no further."""
_TOLD: Final = 10
"""Faults that the text of the error names; the error has them all."""


@dataclass(slots=True)
class ImportReport:
    """What became of a file.

    Attributes:
        conversations: How many were stored now.
        messages: How many messages these have.
        present: How many were there already, the same.
        repairs: Each fault that was mended, with its line.
    """

    conversations: int = 0
    messages: int = 0
    present: int = 0
    repairs: list[str] = field(default_factory=list)


async def import_chat(
    store: ConversationStore,
    file: BinaryIO,
    *,
    repair: bool = False,
    check_only: bool = False,
    on_line: Callable[[int], None] | None = None,
) -> ImportReport:
    """Store the conversations of a file that can be read twice (it is: first to check all of it).

    Each conversation is stored in one atomic step; one that stands in two lines, once. Killed in
    between and started again, those that are there are recognised by the ids of their messages, and
    not stored again. `on_line` is called with the number of each line that is done. Empty lines are
    passed over.

    Raises:
        MalformedConversationError: Faults, each with the number of its line; a conversation of the
            store that holds something else is one. Nothing was stored.
        StoreUnavailableError: No answer. Importing again is safe.
    """
    start = file.tell()
    await _check(store, file, repair=repair)
    report = ImportReport()
    file.seek(start)
    for conversation in _conversations(file, repair=repair):
        report.repairs += [f"line {conversation.number}: {each}" for each in conversation.repairs]
        if await _is_present(store, conversation):
            report.present += 1
        else:
            if not check_only:
                await store.append(conversation.conversation_id, conversation.messages)
            report.conversations += 1
            report.messages += len(conversation.messages)
        if on_line is not None:
            on_line(conversation.number)
    return report


def _lines(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    return ((number, line) for number, line in enumerate(file, start=1) if line.strip())


def _conversations(file: BinaryIO, *, repair: bool) -> Iterator[ChatConversation]:
    return (read_line(number, line, repair=repair) for number, line in _lines(file))


async def _check(store: ConversationStore, file: BinaryIO, *, repair: bool) -> None:
    faults: list[str] = []
    places: dict[str, ChatConversation] = {}
    for number, line in _lines(file):
        if len(faults) > _MOST_FAULTS:
            break
        try:
            conversation = read_line(number, line, repair=repair)
        except MalformedConversationError as error:
            faults += error.faults
            continue
        name = conversation.conversation_id
        first = places.setdefault(name, replace(conversation, messages=conversation.messages[:1]))
        if first.messages[0].id != conversation.messages[0].id:
            faults.append(f"line {number}: conversation {name} is in line {first.number}, too")
        elif await _is_other(store, conversation):
            faults.append(
                f"line {number}: conversation {name} exists and holds something else; delete it, "
                "or leave the line's conversation_id out"
            )
    if faults:
        raise MalformedConversationError(
            f"Nothing was imported: {'; '.join(faults[:_TOLD])}"
            + (f"; and {len(faults) - _TOLD} more." if len(faults) > _TOLD else "."),
            tuple(faults),
        )


async def _is_other(store: ConversationStore, conversation: ChatConversation) -> bool:
    if not await store.count(conversation.conversation_id):
        return False
    return not await _is_present(store, conversation)


async def _is_present(store: ConversationStore, conversation: ChatConversation) -> bool:
    """Whether the conversation was imported: begins with its messages, whatever was said since."""
    if await store.count(conversation.conversation_id) < len(conversation.messages):
        return False
    stored = await store.list_messages(conversation.conversation_id)
    first = stored[: len(conversation.messages)]
    return [each.id for each in first] == [each.id for each in conversation.messages]
