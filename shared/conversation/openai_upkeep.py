"""Upkeep of conversations at OpenAI: which one is ours, and what an interruption left there.

The provider knows neither transactions nor compare-and-set, so everything is led from the index.
For each conversation it keeps a small hidden history of notes:

- a register, which holds the provider's conversation in use and those that were given up;
- a *note* before each step that makes or removes items, taken away behind it. So where there is no
  note, there is nothing to tidy up, and a claim costs one read.

Whoever takes a note away decides: an append that finds its own note gone makes its items anew, as
somebody may have removed them.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import uuid4

import structlog

from shared.conversation.openai_api import ConversationsApi
from shared.conversation.protocol import ConversationStore
from shared.conversation.register import Held, Register, hidden_history
from shared.errors import CorruptEntryError, StoreUnavailableError
from shared.message import Message, Role

log = structlog.get_logger()

ABANDONED_S: Final = 300.0
"""A note this old belongs to a process that died. One that only slept makes its items anew."""
PATIENCE_S: Final = 5.0
"""How long a deletion waits for appends that are under way."""

_TRIES: Final = 20
_POLL_S: Final = 0.05

Named = Callable[[], Awaitable[Collection[tuple[str, str]] | None]]
"""All (conversation, item) at the provider that the index names; None where it cannot be told."""


@dataclass(frozen=True, slots=True)
class Places:
    """The provider's conversations that belong to one of ours."""

    current: str | None = None
    given_up: tuple[str, ...] = ()

    @property
    def all(self) -> tuple[str, ...]:
        """Those given up, and the one in use."""
        return (*self.given_up, *([self.current] if self.current is not None else []))


@dataclass(frozen=True, slots=True)
class Note:
    """Somebody is about to make items, or to remove some (`removes`)."""

    cursor: str
    token: int | None
    removes: bool
    written_at: datetime

    def is_dead(self, fenced_below: int | None) -> bool:
        """Whether whoever wrote it can commit no more: fenced off, or dead for long."""
        if self.token is not None and fenced_below is not None and self.token < fenced_below:
            return True
        return (datetime.now(UTC) - self.written_at).total_seconds() > ABANDONED_S


class Upkeep:
    """The notes of all conversations of an index. Raises as the two that it works on."""

    def __init__(self, api: ConversationsApi, index: ConversationStore) -> None:
        self._api = api
        self._index = index

    async def note(
        self, conversation_id: str, *, token: int | None = None, removes: bool = False
    ) -> Note:
        """Note what is about to be done."""
        message = Message(
            role=Role.SYSTEM,
            content="",
            id=uuid4().hex,
            metadata={"token": token, "removes": removes},
        )
        [cursor] = await self._index.append(_history(conversation_id), [message])
        return Note(cursor, token, removes, message.created_at)

    async def settle(self, conversation_id: str, note: Note) -> bool:
        """Take the note away; return whether it was still there."""
        return await self._index.remove(_history(conversation_id), note.cursor)

    async def places(self, conversation_id: str) -> Places:
        """The provider's conversations, without making one."""
        return (await self._look(conversation_id))[0]

    async def current(self, conversation_id: str) -> str:
        """The provider's conversation in use; it is made if there is none."""
        made: str | None = None
        for _ in range(_TRIES):
            held = await self._register(conversation_id).read()
            places = _places(held)
            if places.current is not None:
                if made is not None:
                    await self._api.delete(made)
                return places.current
            made = made or await self._api.create(conversation_id)
            if await self._swap(conversation_id, held, Places(made, places.given_up)):
                return made
        raise _contended(conversation_id)

    async def lose(self, conversation_id: str, place: str) -> None:
        """Somebody deleted `place` at the provider: use it no more."""
        log.error("openai.conversation_gone", conversation_id=conversation_id, place=place)
        await self._change(
            conversation_id,
            lambda places: Places(
                None if places.current == place else places.current, places.given_up
            ),
        )

    async def give_up(self, conversation_id: str) -> None:
        """Use another conversation of the provider from now on. `tidy` deletes the present one."""
        await self._change(conversation_id, lambda places: Places(None, places.all))

    async def tidy(
        self,
        conversation_id: str,
        named: Named,
        *,
        fenced_below: int | None = None,
        is_deletion: bool = False,
    ) -> bool:
        """Remove what no entry of the index names; return whether that could be done.

        It cannot while somebody appends whose items cannot be told from what was left behind. A
        deletion waits for those, `PATIENCE_S` at most, and then takes their notes away.
        Writers with a token under `fenced_below` cannot commit any more.

        It costs a call for every 100 items of the conversation.
        """
        places, _ = await self._look(conversation_id)
        # First what is there, then who is at work, then what is named: whatever is listed was made
        # under a note that is seen, or is named by then.
        listed = {place: await self._api.list_all(place) for place in places.all}
        dead = await self._take_dead(
            conversation_id, fenced_below=fenced_below, is_deletion=is_deletion
        )
        if dead is None:
            return False
        references = await named()
        if references is None:
            log.warning("openai.not_tidied", conversation_id=conversation_id)
            return False
        for place, items in listed.items():
            left = [item["id"] for item in items or () if (place, item["id"]) not in references]
            await self._api.delete_items(place, left)
            is_named = any(named_place == place for named_place, _ in references)
            if place in places.given_up and not is_named:
                await self._api.delete(place)
                await self._change(conversation_id, _without(place))
        for note in dead:
            await self.settle(conversation_id, note)
        return True

    async def is_untidy(self, conversation_id: str, *, fenced_below: int) -> bool:
        """Whether somebody left something behind."""
        places, notes = await self._look(conversation_id)
        return bool(places.given_up) or any(note.is_dead(fenced_below) for note in notes)

    async def _take_dead(
        self, conversation_id: str, *, fenced_below: int | None, is_deletion: bool
    ) -> list[Note] | None:
        """Notes to settle when all is tidy: of removals that were cut short, and one of its own.

        Notes of appends are taken away, and the own note stands for them: this may be cut short,
        too. None while others append.
        """
        deadline = time.monotonic() + PATIENCE_S
        while True:
            _, notes = await self._look(conversation_id)
            dead = [note for note in notes if note.is_dead(fenced_below)]
            alive = [note for note in notes if note not in dead and not note.removes]
            if not alive or (is_deletion and time.monotonic() > deadline):
                break
            if not is_deletion:
                return None
            await asyncio.sleep(_POLL_S)
        left = [note for note in dead if note.removes]
        appends = [note for note in [*dead, *alive] if not note.removes]
        if appends:
            left.append(await self.note(conversation_id, token=fenced_below, removes=True))
        for note in appends:
            await self.settle(conversation_id, note)
        return left

    async def _look(self, conversation_id: str) -> tuple[Places, Sequence[Note]]:
        messages = await self._index.list_messages(_history(conversation_id))
        held = self._register(conversation_id).held(messages)
        return _places(held), [_note(each) for each in messages if each.run_id is None]

    async def _change(self, conversation_id: str, change: Callable[[Places], Places]) -> None:
        for _ in range(_TRIES):
            held = await self._register(conversation_id).read()
            before = _places(held)
            after = change(before)
            if after == before or await self._swap(conversation_id, held, after):
                return
        raise _contended(conversation_id)

    async def _swap(self, conversation_id: str, held: Held, places: Places) -> bool:
        value: dict[str, Any] = {"current": places.current, "given_up": list(places.given_up)}
        return await self._register(conversation_id).swap(held, value)

    def _register(self, conversation_id: str) -> Register:
        return Register(self._index, _history(conversation_id))


def _history(conversation_id: str) -> str:
    return hidden_history("openai", conversation_id)


def _places(held: Held) -> Places:
    match held.value:
        case None:
            return Places()
        case {"current": (str() | None) as current, "given_up": list() as given_up}:
            return Places(current, tuple(str(place) for place in given_up))
    raise CorruptEntryError("The notes about a conversation at OpenAI cannot be read.")


def _without(place: str) -> Callable[[Places], Places]:
    def change(places: Places) -> Places:
        return Places(places.current, tuple(each for each in places.given_up if each != place))

    return change


def _note(message: Message) -> Note:
    token = message.metadata.get("token")
    return Note(
        message.cursor or "",
        token if isinstance(token, int) else None,
        bool(message.metadata.get("removes")),
        message.created_at,
    )


def _contended(conversation_id: str) -> StoreUnavailableError:
    return StoreUnavailableError(
        f"The notes about conversation {conversation_id} are being changed by too many at once; "
        "try again."
    )
