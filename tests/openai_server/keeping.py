"""What the stand-in keeps: conversations, and items that outlive them as the API says they do."""

from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final

_PREFIXES: Final = {"message": "msg", "function_call": "fc", "function_call_output": "fco"}


class MissingError(Exception):
    """There is no such conversation or item."""


@dataclass(slots=True)
class Kept:
    """A conversation."""

    id: str
    metadata: dict[str, str]
    created_at: int
    items: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By id, oldest first."""

    @property
    def body(self) -> dict[str, Any]:
        """As the API answers."""
        return {
            "id": self.id,
            "object": "conversation",
            "created_at": self.created_at,
            "metadata": self.metadata,
        }


class Keeping:
    """All conversations, and the items of deleted ones, which the API does not delete with them."""

    def __init__(self) -> None:
        self.conversations: dict[str, Kept] = {}
        self.orphans: list[dict[str, Any]] = []
        self._numbers = count(1)

    def create(self, metadata: dict[str, str]) -> Kept:
        """A new conversation."""
        number = next(self._numbers)
        made = Kept(f"conv_{number:032x}", metadata, 1_700_000_000 + number)
        self.conversations[made.id] = made
        return made

    def get(self, place: str) -> Kept:
        """A conversation, or MissingError."""
        if place not in self.conversations:
            raise MissingError(f"Conversation with id '{place}' not found.")
        return self.conversations[place]

    def delete(self, place: str) -> None:
        """Delete a conversation, but not its items."""
        self.orphans += self.get(place).items.values()
        del self.conversations[place]

    def add(self, place: str, items: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Add items; all or none of them."""
        kept = self.get(place)
        made = [
            item | {"id": f"{_PREFIXES[item['type']]}_{next(self._numbers):032x}"} for item in items
        ]
        kept.items.update({item["id"]: item for item in made})
        return made

    def item(self, place: str, item_id: str) -> dict[str, Any]:
        """An item, or MissingError."""
        items = self.get(place).items
        if item_id not in items:
            raise MissingError(f"Item with id '{item_id}' not found.")
        return items[item_id]

    def page(
        self, place: str, *, after: str | None, limit: int, order: str
    ) -> tuple[list[dict[str, Any]], bool]:
        """Items in the given order behind `after`, and whether there are more."""
        items = list(self.get(place).items.values())
        if order == "desc":
            items.reverse()
        start = 0
        if after is not None:
            ids = [item["id"] for item in items]
            if after not in ids:
                raise MissingError(f"Item with id '{after}' not found.")
            start = ids.index(after) + 1
        return items[start : start + limit], len(items) > start + limit

    def items_of(self, conversation_id: str) -> list[dict[str, Any]]:
        """All items in conversations that were made for one of ours; for tests."""
        return [
            item
            for kept in list(self.conversations.values())
            if conversation_id in kept.metadata.values()
            for item in list(kept.items.values())
        ]
