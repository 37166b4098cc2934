"""The log of a conversation as Pydantic AI's store sees it: entries, each behind another one."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final
from uuid import uuid4

from pydantic_ai.conversation_store import ConversationEntry
from pydantic_ai.messages import ModelMessage

from agent_worker.engine.pydantic_ai.history import message_drafts, model_messages
from shared.message import Message

MARK: Final = "pydantic_ai_entry"
"""The metadata field that says which entry a message belongs to. Stored, so never renamed."""


def entry_messages(entry: ConversationEntry) -> list[Message]:
    """An entry as messages: one for an answer, one for each part of a request."""
    mark = {"id": entry.id, "parent": entry.parent_id}
    return [
        Message(
            **dict(draft.model_copy(update={"metadata": draft.metadata | {MARK: mark}})),
            id=uuid4().hex,
        )
        for draft in message_drafts([entry.message])
    ]


@dataclass(slots=True)
class _Group:
    """Messages that stand together: those of one entry, or what others wrote in one go."""

    id: str
    parent: str | None
    is_ours: bool
    messages: list[Message] = field(default_factory=list)
    length: int = 1

    def entry_id(self, number: int) -> str:
        return self.id if self.is_ours else f"{self.id}/{number}"

    @property
    def last_id(self) -> str:
        return self.entry_id(self.length - 1)


class Log:
    """All entries of a conversation.

    What others wrote, runs of workers and imports, has no entries of its own: its messages make up
    entries behind what stood there before them, with ids of their first message and a number.
    """

    def __init__(self, messages: Iterable[Message]) -> None:
        self._places: dict[str, tuple[_Group, int]] = {}
        self.last_id: str | None = None
        for group in _groups(messages):
            if not group.is_ours:
                group.parent = self.last_id
                group.length = len(model_messages(group.messages))
            for number in range(group.length):
                self._places[group.entry_id(number)] = (group, number)
            if group.length:
                self.last_id = group.last_id

    def __contains__(self, entry_id: str) -> bool:
        return entry_id in self._places

    def history(self, head_id: str) -> list[ConversationEntry]:
        """The entries from the first one to this one.

        Raises:
            KeyError: One of them is not there.
        """
        path = list(self._path(head_id))[::-1]
        natives = model_messages([each for group, _ in path for each in group.messages])
        if len(natives) != sum(group.length for group, _ in path):
            # Damage made two of them one; each by itself is what it says.
            natives = [each for group, _ in path for each in _alone(group)]
        ids: list[str] = []
        kept: list[ModelMessage] = []
        place = 0
        for group, number in path:
            ids += [group.entry_id(each) for each in range(number + 1)]
            kept += natives[place : place + number + 1]
            place += group.length
        parents = [None, *ids]
        return [
            ConversationEntry(id=own, parent_id=parent, message=message)
            for own, parent, message in zip(ids, parents, kept, strict=False)
        ]

    def _path(self, head_id: str | None) -> Iterator[tuple[_Group, int]]:
        while head_id is not None:
            group, number = self._places[head_id]
            yield group, number
            head_id = group.parent


def _alone(group: _Group) -> Sequence[ModelMessage]:
    natives = model_messages(group.messages)
    if len(natives) < group.length:
        raise KeyError(group.id)
    return natives[: group.length]


def _groups(messages: Iterable[Message]) -> Iterator[_Group]:
    group: _Group | None = None
    for message in messages:
        match message.metadata.get(MARK):
            case {"id": str(own), "parent": (str() | None) as parent}:
                if group is None or group.id != own:
                    if group is not None:
                        yield group
                    group = _Group(own, parent, is_ours=True)
            case _:
                if group is None or group.is_ours:
                    if group is not None:
                        yield group
                    group = _Group(message.id, None, is_ours=False)
        group.messages.append(message)
    if group is not None:
        yield group
