"""What every conversation store guarantees about reading: ranges, filters, damage, hints."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.conversation.protocol import ConversationStore, Writer
from shared.errors import InvalidCursorError, NewerVersionError
from shared.message import Draft, Message, Role
from shared.testing.conversation.value import (
    conversation_name,
    imported,
    message,
    messages,
    run_name,
    texts,
)
from shared.testing.plugin import Damage
from shared.version import FORMAT_VERSION

PAGES = 450
"""More messages than any store reads from its server at once."""


@dataclass(frozen=True)
class Question:
    """Arguments of `list_messages`; places stand for the cursors of messages."""

    after: int | None
    before: int | None
    limit: int | None
    roles: frozenset[Role] | None
    run: int | None


def questions(length: int) -> st.SearchStrategy[Question]:
    """Questions about a conversation of two runs and some imports."""
    place = st.none() | st.integers(0, length - 1)
    return st.builds(
        Question,
        after=place,
        before=place,
        limit=st.none() | st.integers(0, length + 1),
        roles=st.none() | st.frozensets(st.sampled_from(list(Role))),
        run=st.none() | st.integers(0, 1),
    )


def answer(question: Question, stored: Sequence[Message], runs: Sequence[str]) -> list[Message]:
    """What the protocol promises, in the plainest words."""
    first = 0 if question.after is None else question.after + 1
    end = len(stored) if question.before is None else question.before
    found = [
        entry
        for entry in stored[first : max(first, end)]
        if (question.roles is None or entry.role in question.roles)
        and (question.run is None or entry.run_id == runs[question.run])
    ]
    if question.limit is None:
        return found
    if question.after is not None:
        return found[: question.limit]
    return found[len(found) - question.limit :] if question.limit < len(found) else found


def with_roles(run_id: str, count: int) -> list[Message]:
    """Messages of a run whose roles take turns."""
    roles = list(Role)
    return [
        Message.from_draft(
            Draft(role=roles[position % len(roles)], content="x"), run_id=run_id, position=position
        )
        for position in range(count)
    ]


@pytest.mark.asyncio
class ConversationReadingContract:
    """`list_messages`, and how readers learn of changes."""

    async def test_an_unknown_conversation_is_empty(self, store: ConversationStore) -> None:
        """Reading what nobody wrote is no error."""
        name = conversation_name()
        assert await store.list_messages(name) == []
        assert await store.list_messages(name, limit=5, run_id=run_name()) == []
        claim = await store.claim(name, Writer(run_name(), 1), limit=5)
        assert (claim.earlier, claim.own) == ((), ())

    @settings(
        max_examples=150,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @given(question=questions(14))
    async def test_every_combination_of_bounds_and_filters(
        self, store: ConversationStore, question: Question
    ) -> None:
        """Cursors are exclusive, a limit takes the first behind `after` and else the newest."""
        name, runs = await self._two_runs(store)
        stored = await store.list_messages(name)
        asked: dict[str, Any] = {"limit": question.limit, "roles": question.roles}
        if question.after is not None:
            asked["after"] = stored[question.after].cursor
        if question.before is not None:
            asked["before"] = stored[question.before].cursor
        if question.run is not None:
            asked["run_id"] = runs[question.run]
        assert await store.list_messages(name, **asked) == answer(question, stored, runs)

    async def _two_runs(self, store: ConversationStore) -> tuple[str, list[str]]:
        """A conversation of 14 messages; hypothesis calls the test many times, one is enough."""
        known: tuple[str, list[str]] | None = getattr(self, "_known", None)
        if known is None or not await store.list_messages(known[0]):
            known = (conversation_name(), [run_name(), run_name()])
            name, runs = known
            await store.append(name, with_roles(runs[0], 6), writer=Writer(runs[0], 1))
            await store.append(name, [imported("a"), imported("b")])
            await store.append(name, with_roles(runs[1], 6), writer=Writer(runs[1], 2))
            self._known = known
        return known

    @pytest.mark.parametrize("limit", [None, 1, 3, 10_000])
    async def test_a_long_conversation_is_read_across_pages(
        self, store: ConversationStore, limit: int | None
    ) -> None:
        """Filters and limits hold however many other messages stand in between."""
        name = conversation_name()
        first, long, last = run_name(), run_name(), run_name()
        await store.append(name, messages(first, range(3)), writer=Writer(first, 1))
        [start] = await store.append(name, [message(long, 0)], writer=Writer(long, 2))
        rest = [
            message(long, n).model_copy(update={"role": Role.TOOL if n % 150 == 0 else Role.USER})
            for n in range(1, PAGES)
        ]
        await store.append(name, rest, writer=Writer(long, 2))
        await store.append(name, messages(last, range(3)), writer=Writer(last, 3))

        await self._check(store, name, limit, run_id=first)
        await self._check(store, name, limit, run_id=long)
        await self._check(store, name, limit, run_id=last)
        await self._check(store, name, limit, roles=[Role.TOOL])
        await self._check(store, name, limit, roles=[Role.TOOL], run_id=long)
        await self._check(store, name, limit, roles=[Role.TOOL], after=start)
        await self._check(store, name, limit, run_id=last, after=start)

    async def _check(
        self,
        store: ConversationStore,
        name: str,
        limit: int | None,
        *,
        roles: Collection[Role] | None = None,
        run_id: str | None = None,
        after: str | None = None,
    ) -> None:
        stored = await store.list_messages(name)
        places = {entry.cursor: place for place, entry in enumerate(stored)}
        expected = answer(
            Question(
                after=places[after] if after is not None else None,
                before=None,
                limit=limit,
                roles=frozenset(roles) if roles is not None else None,
                run=0 if run_id is not None else None,
            ),
            stored,
            [run_id or ""],
        )
        found = await store.list_messages(
            name, limit=limit, roles=roles, run_id=run_id, after=after
        )
        assert [entry.id for entry in found] == [entry.id for entry in expected]

    @pytest.mark.parametrize("cursor", ["", "nonsense", "-", "+", "$", "1", "(1-0", "1-0 ", "-1-0"])
    async def test_a_cursor_of_somebody_else_is_refused(
        self, store: ConversationStore, cursor: str
    ) -> None:
        """Nothing that a store did not hand out is guessed at."""
        with pytest.raises(InvalidCursorError):
            await store.list_messages(conversation_name(), after=cursor)
        with pytest.raises(InvalidCursorError):
            await store.list_messages(conversation_name(), before=cursor)

    async def test_an_unreadable_entry_costs_only_itself(
        self, store: ConversationStore, damage: Damage
    ) -> None:
        """Isolation of damage: everything around it is listed, claimed and continued."""
        name, run_id = conversation_name(), run_name()
        await store.append(name, [imported("a")])
        await damage(name)
        await store.append(name, [imported("b")])

        assert texts(await store.list_messages(name)) == ["a", "b"]
        assert texts(await store.list_messages(name, limit=2)) == ["a", "b"]
        claim = await store.claim(name, Writer(run_id, 1), limit=10)
        assert texts(claim.earlier) == ["a", "b"]
        await store.append(name, [message(run_id, 0, "c")], writer=Writer(run_id, 1))
        assert texts(await store.list_messages(name)) == ["a", "b", "c"]
        assert texts(await store.list_messages(name, run_id=run_id)) == ["c"]

    async def test_a_message_is_there_until_it_is_removed(self, store: ConversationStore) -> None:
        """Whoever has seen it can ask; a retract takes one run's messages away, a clear all."""
        name, first, second = conversation_name(), run_name(), run_name()
        await store.append(name, messages(first, [0]), writer=Writer(first, 1))
        await store.append(name, messages(second, [0, 1]), writer=Writer(second, 2))
        cursors = [each.cursor or "" for each in await store.list_messages(name)]

        async def are_there() -> list[bool]:
            return [await store.has_message(name, cursor) for cursor in cursors]

        assert await are_there() == [True, True, True]
        assert not await store.has_message(conversation_name(), cursors[0])
        await store.retract(name, Writer(second, 2))
        assert await are_there() == [True, False, False]
        await store.append(name, messages(second, [0]), writer=Writer(second, 3))
        assert await are_there() == [True, False, False], "a new message has a new cursor"
        await store.clear(name)
        assert await are_there() == [False, False, False]
        with pytest.raises(InvalidCursorError):
            await store.has_message(name, "nonsense")

    async def test_a_message_for_newer_readers_is_never_left_out(
        self, store: ConversationStore
    ) -> None:
        """What would return it raises, and says which version it takes; the rest can be read."""
        name, newer = conversation_name(), FORMAT_VERSION + 1
        before = (await store.append(name, [imported("a"), imported("b")]))[-1]
        await store.append(name, [imported("c").model_copy(update={"version": newer})])
        last = (await store.append(name, [imported("d")]))[0]

        for limit in (None, 2):
            with pytest.raises(NewerVersionError) as caught:
                await store.list_messages(name, limit=limit)
            assert caught.value.version == newer
        with pytest.raises(NewerVersionError):
            await store.claim(name, Writer(run_name(), 1), limit=10)
        assert texts(await store.list_messages(name, before=before)) == ["a"]
        assert texts(await store.list_messages(name, after=before, limit=0)) == []
        assert texts(await store.list_messages(name, limit=1)) == ["d"]
        assert texts((await store.claim(name, Writer(run_name(), 2), limit=1)).earlier) == ["d"]
        assert await store.list_messages(name, after=last) == []

    async def test_messages_are_counted(self, store: ConversationStore) -> None:
        """All that is there, whoever wrote it; an unknown conversation has none."""
        name, run_id = conversation_name(), run_name()
        assert await store.count(name) == 0
        await store.append(name, messages(run_id, range(3)), writer=Writer(run_id, 1))
        await store.append(name, [imported("x")])
        assert await store.count(name) == 4
        await store.retract(name, Writer(run_id, 1))
        assert await store.count(name) == 1
        await store.clear(name)
        assert await store.count(name) == 0

    async def test_conversations_that_hold_messages_are_listed(
        self, store: ConversationStore, elsewhere: ConversationStore
    ) -> None:
        """Each once; not those that are empty, nor the histories of runs that are alone."""
        names = [conversation_name() for _ in range(5)]
        alone = f"~{run_name()}"
        for name in [*names, alone]:
            await store.append(name, [imported("a"), imported("b")])
        await store.clear(names[0])
        await store.list_messages(conversation_name())
        known = [each async for each in elsewhere.conversation_ids()]
        assert sorted(known) == sorted(names[1:])

    async def test_a_watcher_hears_of_every_kind_of_change(
        self, store: ConversationStore, elsewhere: ConversationStore
    ) -> None:
        """A hint arrives within a second of an append and of every way to remove."""
        name, run_id = conversation_name(), run_name()
        async with elsewhere.notifications.subscribe(elsewhere.topic(name)) as hints:
            await store.append(name, messages(run_id, [0]), writer=Writer(run_id, 1))
            assert await hints.wait(1)
            assert len(await elsewhere.list_messages(name)) == 1
            await store.retract(name, Writer(run_id, 1))
            assert await hints.wait(1)
            await store.append(name, [imported("x")])
            assert await hints.wait(1)
            await store.clear(name)
            assert await hints.wait(1)
            [cursor] = await store.append(name, [imported("y")])
            assert await hints.wait(1)
            await store.remove(name, cursor)
            assert await hints.wait(1)
            await store.append(name, [imported("z")])
            assert await hints.wait(1)
            await store.delete(name)
            assert await hints.wait(1)

    async def test_a_watcher_hears_nothing_of_other_conversations(
        self, store: ConversationStore, elsewhere: ConversationStore
    ) -> None:
        """A hint is about one conversation."""
        async with elsewhere.notifications.subscribe(elsewhere.topic(conversation_name())) as hints:
            # A subscription may begin with hints of its own, from connecting.
            while await hints.wait(0.1):
                pass
            await store.append(conversation_name(), [imported("x")])
            assert not await hints.wait(0.2)
