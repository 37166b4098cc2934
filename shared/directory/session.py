"""Session ids: who talks to which agent over which channel, and the conversations that come of it.

    web:ada:support                       the user ada
    web:@shared:support                   all users of the channel together
    web:@trigger.invoice-17:support       one trigger (a webhook, a timer, a ticket) by itself
    web:ada:support:2                     the second conversation of the first session

A component is an id as `shared.identifier` has it, without ':'. It starts with a letter or a digit,
so no user can be called ``@shared`` and none gets into a conversation that is not theirs.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Self

from shared.errors import InvalidIdError
from shared.identifier import MAX_ID_LENGTH, check_id

_SEPARATOR: Final = ":"
_SHARED: Final = "@shared"
_TRIGGER: Final = "@trigger."
_GENERATION: Final = re.compile(r"[2-9]|[1-9][0-9]{1,8}")
_ROOM: Final = 10
"""Characters that a session's id leaves for the number of a generation."""
_PARTS: Final = 3


class Mode(StrEnum):
    """Whose inputs go into one conversation."""

    PER_USER = "per_user"
    """Those of one user."""
    SHARED = "shared"
    """Those of all users of the channel, together."""
    PER_TRIGGER = "per_trigger"
    """Those of one trigger; each trigger has a conversation of its own."""


@dataclass(frozen=True, slots=True)
class SessionId:
    """Who talks to which agent over which channel. ``str()`` gives the id, `parse` reads it.

    Attributes:
        channel: Where inputs come from, such as ``web``.
        agent: The agent that answers.
        mode: Whose inputs they are.
        name: The user's id, or the trigger's; empty where all users share the session.

    Raises:
        InvalidIdError: A component that is no id, or holds a ':', or all together are too long.
    """

    channel: str
    agent: str
    mode: Mode
    name: str = ""

    def __post_init__(self) -> None:
        _check_component(self.channel, "channel")
        if self.mode is Mode.SHARED:
            if self.name:
                raise InvalidIdError("A shared session belongs to no user; leave the name out.")
        else:
            _check_component(self.name, "user" if self.mode is Mode.PER_USER else "trigger")
        _check_component(self.agent, "agent name")
        length = len(str(self))
        if length > MAX_ID_LENGTH - _ROOM:
            raise InvalidIdError(
                f"The session id {str(self)[:60]!r}... has {length} characters; shorten channel, "
                f"user or agent, so that it has {MAX_ID_LENGTH - _ROOM} or fewer."
            )

    @classmethod
    def of_user(cls, channel: str, user: str, agent: str) -> Self:
        """The session of one user; raises as the class."""
        return cls(channel, agent, Mode.PER_USER, user)

    @classmethod
    def of_all(cls, channel: str, agent: str) -> Self:
        """The session that all users of a channel share; raises as the class."""
        return cls(channel, agent, Mode.SHARED)

    @classmethod
    def of_trigger(cls, channel: str, trigger: str, agent: str) -> Self:
        """The session of one trigger; raises as the class."""
        return cls(channel, agent, Mode.PER_TRIGGER, trigger)

    @classmethod
    def parse(cls, text: object) -> Self:
        """Read what ``str()`` gave.

        Raises:
            InvalidIdError: It is no session id.
        """
        parts = text.split(_SEPARATOR) if isinstance(text, str) else []
        if len(parts) != _PARTS:
            raise InvalidIdError(
                f"{str(text)[:60]!r} is no session id; it has to be channel:user:agent."
            )
        channel, party, agent = parts
        if party == _SHARED:
            return cls.of_all(channel, agent)
        if party.startswith(_TRIGGER):
            return cls.of_trigger(channel, party.removeprefix(_TRIGGER), agent)
        return cls.of_user(channel, party, agent)

    @property
    def user(self) -> str | None:
        """The user's id, where the session is one user's."""
        return self.name if self.mode is Mode.PER_USER else None

    def __str__(self) -> str:
        marks = {Mode.PER_USER: "", Mode.SHARED: _SHARED, Mode.PER_TRIGGER: _TRIGGER}
        return f"{self.channel}:{marks[self.mode]}{self.name}:{self.agent}"


@dataclass(frozen=True, slots=True)
class ConversationId:
    """One conversation of a session: its generation, counted from 1, which is not written.

    Raises:
        InvalidIdError: A generation out of 1 to 999,999,999.
    """

    session: SessionId
    generation: int = 1

    def __post_init__(self) -> None:
        if self.generation != 1 and not _GENERATION.fullmatch(str(self.generation)):
            raise InvalidIdError(
                f"{self.generation} is no generation of a session; they count from 1 to 999999999."
            )

    @classmethod
    def parse(cls, text: object) -> Self:
        """Read what ``str()`` gave. A conversation has one id: ``...:1`` and ``...:02`` are none.

        Raises:
            InvalidIdError: It is not the id of a managed conversation.
        """
        parts = text.split(_SEPARATOR) if isinstance(text, str) else []
        if len(parts) == _PARTS:
            return cls(SessionId.parse(text))
        if len(parts) != _PARTS + 1 or not _GENERATION.fullmatch(parts[-1]):
            raise InvalidIdError(
                f"{str(text)[:60]!r} is not the id of a managed conversation; that is "
                "channel:user:agent, with :2, :3, ... behind it from the second one on."
            )
        return cls(SessionId.parse(_SEPARATOR.join(parts[:-1])), int(parts[-1]))

    def __str__(self) -> str:
        return str(self.session) + (f":{self.generation}" if self.generation > 1 else "")


def session_of(value: "SessionId | str") -> SessionId:
    """The session id, parsed if it is text. Raises as `SessionId.parse`."""
    return value if isinstance(value, SessionId) else SessionId.parse(value)


def is_managed_id(value: object) -> bool:
    """Whether this has the form of a managed conversation's id."""
    try:
        ConversationId.parse(value)
    except InvalidIdError:
        return False
    return True


def _check_component(value: object, what: str) -> None:
    checked = check_id(value, what)
    if _SEPARATOR in checked:
        raise InvalidIdError(
            f"The {what} {checked[:60]!r} holds a ':', which separates the parts of a session id; "
            "replace it, by '.' or '-' say."
        )
