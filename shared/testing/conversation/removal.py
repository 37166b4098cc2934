"""What every conversation store guarantees about removing: retract, clear, pop, delete, expire."""

import asyncio

import pytest

from shared.conversation.protocol import ConversationStore, Writer
from shared.errors import FencedError, InvalidCursorError
from shared.testing.conversation.value import conversation_name, imported, messages, run_name, texts
from shared.testing.waiting import eventually


@pytest.mark.asyncio
class ConversationRemovalContract:
    """Retract, clear, expire."""

    async def test_retract_removes_what_the_run_wrote(self, store: ConversationStore) -> None:
        """Messages of others stay; the number of removed ones is answered, and 0 the next time."""
        name, first, second = conversation_name(), run_name(), run_name()
        await store.append(name, messages(first, [0, 1]), writer=Writer(first, 1))
        await store.append(name, messages(second, [0, 1, 2]), writer=Writer(second, 2))
        assert await store.retract(name, Writer(second, 2)) == 3
        assert await store.retract(name, Writer(second, 2)) == 0
        assert {entry.run_id for entry in await store.list_messages(name)} == {first}

    async def test_after_retract_positions_start_again(self, store: ConversationStore) -> None:
        """Whoever claims the run anew may write again from position 0."""
        name, run_id = conversation_name(), run_name()
        await store.append(name, messages(run_id, [0, 1]), writer=Writer(run_id, 1))
        await store.retract(name, Writer(run_id, 1))
        claim = await store.claim(name, Writer(run_id, 2), limit=5)
        assert claim.own == ()
        assert claim.earlier == ()
        await store.append(name, messages(run_id, [0]), writer=Writer(run_id, 2))
        assert len(await store.list_messages(name)) == 1

    async def test_a_late_append_does_not_bring_a_retracted_run_back(
        self, store: ConversationStore
    ) -> None:
        """A worker gave an append up before it retracted; the append arrives all the same."""
        name, first, second = conversation_name(), run_name(), run_name()
        await store.append(name, messages(first, [0]), writer=Writer(first, 1))
        await store.append(name, messages(second, [0]), writer=Writer(second, 2))
        await store.retract(name, Writer(second, 2))
        for _ in range(2):
            with pytest.raises(FencedError):
                await store.append(name, messages(second, [0, 1]), writer=Writer(second, 2))
            # Neither repeating the retract nor claiming again makes the token good.
            assert await store.retract(name, Writer(second, 2)) == 0
            await store.claim(name, Writer(second, 2), limit=5)
        assert texts(await store.list_messages(name)) == [f"{first}.0"]

    async def test_a_cursor_outlives_its_message(self, store: ConversationStore) -> None:
        """A watcher whose last message was retracted goes on from its cursor."""
        name, first, second = conversation_name(), run_name(), run_name()
        await store.append(name, messages(first, [0]), writer=Writer(first, 1))
        [gone] = await store.append(name, messages(second, [0]), writer=Writer(second, 2))
        await store.retract(name, Writer(second, 2))
        await store.append(name, [imported("new")])
        assert texts(await store.list_messages(name, after=gone)) == ["new"]
        assert texts(await store.list_messages(name, before=gone)) == [f"{first}.0"]

    async def test_clear_removes_everything(self, store: ConversationStore) -> None:
        """All messages go, of runs and of others; their number is answered."""
        name, run_id = conversation_name(), run_name()
        await store.append(name, messages(run_id, [0, 1]), writer=Writer(run_id, 1))
        await store.append(name, [imported("x")])
        assert await store.clear(name) == 3
        assert await store.list_messages(name) == []
        assert await store.clear(name) == 0
        assert await store.clear(conversation_name()) == 0

    async def test_cursors_stay_valid_over_a_clear(self, store: ConversationStore) -> None:
        """What is appended later lies behind every cursor of before."""
        name = conversation_name()
        cursors = await store.append(name, [imported("a"), imported("b")])
        await store.clear(name)
        await store.append(name, [imported("c")])
        for cursor in cursors:
            assert texts(await store.list_messages(name, after=cursor)) == ["c"]

    async def test_a_run_goes_on_over_a_clear(self, store: ConversationStore) -> None:
        """Its next append continues its positions; a repeated one finds no cursor any more."""
        name, run_id = conversation_name(), run_name()
        await store.append(name, messages(run_id, [0, 1]), writer=Writer(run_id, 1))
        await store.clear(name)
        lost, added = await store.append(name, messages(run_id, [1, 2]), writer=Writer(run_id, 1))
        assert lost == ""
        stored = await store.list_messages(name)
        assert [(entry.position, entry.cursor) for entry in stored] == [(2, added)]
        again = await store.append(name, messages(run_id, range(3)), writer=Writer(run_id, 1))
        assert again == ["", "", added]

    async def test_a_run_that_is_claimed_after_a_clear_starts_over(
        self, store: ConversationStore
    ) -> None:
        """Whoever takes it over finds nothing of its own, and writes from position 0."""
        name, run_id = conversation_name(), run_name()
        await store.append(name, messages(run_id, [0, 1]), writer=Writer(run_id, 1))
        await store.clear(name)
        assert (await store.claim(name, Writer(run_id, 2), limit=5)).own == ()
        await store.append(name, messages(run_id, [0]), writer=Writer(run_id, 2))
        assert [entry.position for entry in await store.list_messages(name)] == [0]

    async def test_an_expired_conversation_is_forgotten(self, store: ConversationStore) -> None:
        """After its time it is as if it had never been, fencing tokens included."""
        name, run_id = f"~{run_name()}", run_name()
        await store.append(name, messages(run_id, [0]), writer=Writer(run_id, 5))
        await store.expire(name, 0.5)
        assert len(await store.list_messages(name)) == 1

        async def is_forgotten() -> bool:
            return await store.list_messages(name) == []

        await eventually(is_forgotten)
        await store.append(name, messages(run_id, [0]), writer=Writer(run_id, 1))
        assert len(await store.list_messages(name)) == 1

    async def test_one_message_is_removed_by_its_cursor(self, store: ConversationStore) -> None:
        """The others stay as they are, and a cursor that is gone goes on meaning its place."""
        name = conversation_name()
        cursors = await store.append(name, [imported("a"), imported("b"), imported("c")])
        assert await store.remove(name, cursors[1])
        assert not await store.remove(name, cursors[1])
        assert texts(await store.list_messages(name)) == ["a", "c"]
        assert texts(await store.list_messages(name, after=cursors[1])) == ["c"]
        assert not await store.has_message(name, cursors[1])
        assert await store.count(name) == 2
        assert not await store.remove(conversation_name(), cursors[0])
        with pytest.raises(InvalidCursorError):
            await store.remove(name, "nonsense")

    async def test_of_several_who_remove_a_message_one_did(
        self, store: ConversationStore, elsewhere: ConversationStore
    ) -> None:
        """Only one of them is told that it was there."""
        name = conversation_name()
        [cursor] = await store.append(name, [imported("a")])
        answers = await asyncio.gather(
            *(place.remove(name, cursor) for place in [store, elsewhere] * 5)
        )
        assert sum(answers) == 1

    async def test_a_run_goes_on_when_a_message_of_it_is_removed(
        self, store: ConversationStore
    ) -> None:
        """Its next append continues its positions."""
        name, run_id = conversation_name(), run_name()
        cursors = await store.append(name, messages(run_id, [0, 1]), writer=Writer(run_id, 1))
        assert await store.remove(name, cursors[0])
        assert await store.remove(name, cursors[1])
        await store.append(name, messages(run_id, [2]), writer=Writer(run_id, 1))
        assert [entry.position for entry in await store.list_messages(name)] == [2]
        claim = await store.claim(name, Writer(run_id, 2), limit=5)
        assert ([entry.position for entry in claim.own], claim.next_position) == ([2], 3)

    async def test_a_deleted_conversation_is_as_if_it_had_never_been(
        self, store: ConversationStore, elsewhere: ConversationStore
    ) -> None:
        """Messages are gone for everybody; deleting again, or what never was, removes none."""
        name, run_id = conversation_name(), run_name()
        await store.append(name, messages(run_id, [0, 1]), writer=Writer(run_id, 1))
        await store.append(name, [imported("x")])
        assert await store.delete(name) == 3
        assert await elsewhere.list_messages(name) == []
        assert await elsewhere.count(name) == 0
        assert name not in [each async for each in elsewhere.conversation_ids()]
        assert await store.delete(name) == 0
        assert await store.delete(conversation_name()) == 0

    async def test_who_wrote_to_a_deleted_conversation_writes_no_more(
        self, store: ConversationStore
    ) -> None:
        """A worker that does not know of it does not bring it back; a later run may write."""
        name, first, second = conversation_name(), run_name(), run_name()
        await store.append(name, messages(first, [0]), writer=Writer(first, 5))
        await store.delete(name)
        await store.delete(name)
        for token in (4, 5):
            with pytest.raises(FencedError):
                await store.append(name, messages(first, [0, 1]), writer=Writer(first, token))
        assert await store.list_messages(name) == []
        await store.append(name, messages(second, [0]), writer=Writer(second, 6))
        assert len(await store.list_messages(name)) == 1

    async def test_a_deleted_conversation_may_be_imported_anew(
        self, store: ConversationStore
    ) -> None:
        """Appends without a writer go on, and those who wrote before stay refused."""
        name, run_id = conversation_name(), run_name()
        await store.append(name, messages(run_id, [0]), writer=Writer(run_id, 5))
        await store.delete(name)
        await store.append(name, [imported("new")])
        assert texts(await store.list_messages(name)) == ["new"]
        with pytest.raises(FencedError):
            await store.append(name, messages(run_id, [1]), writer=Writer(run_id, 5))
