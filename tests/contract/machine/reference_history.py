"""What a conversation store has to answer, in plain Python."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from shared.conversation.protocol import Writer
from shared.errors import FencedError, PositionGapError
from shared.message import Message

Words = tuple[object, ...]


def words(message: Message) -> Words:
    """What was written, to be compared with what is stored; without its cursor."""
    return (message.id, message.role, message.content, message.tool_calls, message.tool_call_id)


@dataclass
class ReferenceHistory:
    """The messages of each conversation. Methods are named, and raise, as the store's."""

    messages: dict[str, list[Message]] = field(default_factory=dict)
    tokens: dict[str, int] = field(default_factory=dict)
    retracted: set[tuple[str, int]] = field(default_factory=set)

    def claim(self, history: str, writer: Writer, *, limit: int) -> tuple[list[Words], list[Words]]:
        """What stands before the run's first message, and what the run wrote."""
        self._admit(history, writer)
        stored = self.messages.get(history, [])
        places = [place for place, one in enumerate(stored) if one.run_id == writer.run_id]
        earlier = stored[: places[0]] if places else list(stored)
        earlier = earlier[max(0, len(earlier) - limit) :]
        return [words(one) for one in earlier], [words(stored[place]) for place in places]

    def append(self, history: str, messages: Sequence[Message], *, writer: Writer) -> int:
        """How many cursors the answer has."""
        self._admit(history, writer)
        if (history, writer.fencing_token) in self.retracted:
            raise FencedError
        stored = self.messages.setdefault(history, [])
        following = sum(one.run_id == writer.run_id for one in stored)
        if messages[0].position > following:
            raise PositionGapError
        stored += [one for one in messages if one.position >= following]
        return len(messages)

    def retract(self, history: str, writer: Writer) -> int:
        """How many messages are removed."""
        self._admit(history, writer)
        stored = self.messages.get(history, [])
        kept = [one for one in stored if one.run_id != writer.run_id]
        self.messages[history] = kept
        self.retracted.add((history, writer.fencing_token))
        return len(stored) - len(kept)

    def expire(self, history: str, ttl_s: float) -> None:
        """Far longer than what the machine lets pass."""

    def _admit(self, history: str, writer: Writer) -> None:
        if writer.fencing_token < self.tokens.get(history, 0):
            raise FencedError
        self.tokens[history] = writer.fencing_token
