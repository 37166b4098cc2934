"""What every conversation store guarantees about writing. Reading: `conversation_reading`."""

import asyncio
from itertools import count

import pytest

from shared.conversation.protocol import ConversationStore, Writer
from shared.errors import FencedError, PositionGapError, UnstorableError
from shared.message import (
    DataPart,
    EngineData,
    MediaPart,
    Message,
    MessageKind,
    Role,
    TextPart,
    ThinkingPart,
    ToolCall,
    Usage,
)
from shared.testing.conversation.value import (
    conversation_name,
    imported,
    message,
    messages,
    nested,
    run_name,
    texts,
)
from shared.testing.waiting import eventually


@pytest.mark.asyncio
class ConversationWritingContract:
    """Order, atomicity, idempotency, fencing, visibility."""

    async def test_messages_are_read_in_the_order_of_their_appends(
        self, store: ConversationStore
    ) -> None:
        """Order: appends one after the other and within one are kept."""
        name, run_id = conversation_name(), run_name()
        writer = Writer(run_id, 1)
        first = await store.append(name, messages(run_id, [0]), writer=writer)
        rest = await store.append(name, messages(run_id, [1, 2]), writer=writer)

        stored = await store.list_messages(name)
        assert [entry.position for entry in stored] == [0, 1, 2]
        assert [entry.cursor for entry in stored] == first + rest

    async def test_a_message_comes_back_as_it_was_given(self, store: ConversationStore) -> None:
        """Every field of a message survives being stored, control characters included."""
        run_id = run_name()
        given = Message(
            role=Role.ASSISTANT,
            kind=MessageKind.TOOL_CALL,
            content=(
                TextPart(text="null \x00 and é\u2028"),
                ThinkingPart(text="hm"),
                MediaPart(media_type="image/png", data="aGk="),
                DataPart(value={"a": [1, None]}),
            ),
            tool_calls=(ToolCall(id="1", name="look", arguments="{not json"),),
            usage=Usage(input_tokens=3),
            metadata={"k": "v"},
            engine=EngineData(name="e", version=1, data={"x": 1}),
            id=f"{run_id}.0",
            run_id=run_id,
        )
        name = conversation_name()
        [cursor] = await store.append(name, [given], writer=Writer(run_id, 1))
        assert await store.list_messages(name) == [given.at(cursor)]

    async def test_text_that_utf_8_cannot_hold_is_stored_readable(
        self, store: ConversationStore
    ) -> None:
        """Half of a surrogate pair, which models do write, costs that character and no message."""
        name, run_id = conversation_name(), run_name()
        given = message(run_id, 0, "a\ud83db").model_copy(update={"metadata": {"k": "\ude00"}})
        await store.append(name, [given], writer=Writer(run_id, 1))
        [stored] = await store.list_messages(name)
        assert (stored.text, stored.metadata) == ("a\ufffdb", {"k": "\ufffd"})

    async def test_what_could_not_be_read_again_is_refused(self, store: ConversationStore) -> None:
        """Nesting without end; nothing of the append is stored, and the run goes on."""
        name, run_id = conversation_name(), run_name()
        writer = Writer(run_id, 1)
        for levels in (230, 5_000):
            deep = message(run_id, 1).model_copy(update={"metadata": nested(levels)})
            with pytest.raises(UnstorableError):
                await store.append(name, [message(run_id, 0), deep], writer=writer)
        assert await store.list_messages(name) == []
        deep = message(run_id, 0).model_copy(update={"metadata": nested(100)})
        await store.append(name, [deep], writer=writer)
        assert (await store.list_messages(name))[0].metadata == nested(100)

    async def test_conversations_are_apart(self, store: ConversationStore) -> None:
        """What is written under one id is not seen under an id that contains it."""
        name, run_id = conversation_name(), run_name()
        await store.append(name, messages(run_id, [0]), writer=Writer(run_id, 1))
        for other in (f"{name}:x", name[:-1], f"~{run_name()}"):
            assert await store.list_messages(other) == []

    async def test_appending_nothing_changes_nothing(self, store: ConversationStore) -> None:
        """An empty append is harmless, with a writer and without."""
        name = conversation_name()
        assert await store.append(name, []) == []
        assert await store.append(name, [], writer=Writer(run_name(), 1)) == []

    async def test_a_repeated_append_stores_once(self, store: ConversationStore) -> None:
        """Idempotency: the answer to a repetition is that of the first time."""
        name, run_id = conversation_name(), run_name()
        batch = messages(run_id, [0, 1])
        first = await store.append(name, batch, writer=Writer(run_id, 1))
        assert await store.append(name, batch, writer=Writer(run_id, 1)) == first
        assert len(await store.list_messages(name)) == 2

    async def test_only_what_is_missing_of_a_batch_is_added(self, store: ConversationStore) -> None:
        """Idempotency: a batch whose beginning is stored adds its end, and answers for both."""
        name, run_id = conversation_name(), run_name()
        stored = await store.append(name, messages(run_id, [0, 1]), writer=Writer(run_id, 1))
        cursors = await store.append(name, messages(run_id, range(4)), writer=Writer(run_id, 1))
        assert cursors[:2] == stored
        assert [entry.cursor for entry in await store.list_messages(name)] == cursors

    async def test_concurrent_repetitions_store_once(
        self, store: ConversationStore, elsewhere: ConversationStore
    ) -> None:
        """Idempotency holds for writes that race each other."""
        name, run_id = conversation_name(), run_name()
        batch = messages(run_id, range(3))
        answers = await asyncio.gather(
            *(
                place.append(name, batch, writer=Writer(run_id, 1))
                for place in [store, elsewhere] * 10
            )
        )
        assert all(answer == answers[0] for answer in answers)
        assert len(await store.list_messages(name)) == 3

    @pytest.mark.parametrize("positions", [[1], [0, 2], [1, 0], [0, 0]])
    async def test_positions_that_do_not_continue_the_run_are_refused(
        self, store: ConversationStore, positions: list[int]
    ) -> None:
        """A gap or a disorder stores nothing at all, not even the part before it."""
        name, run_id = conversation_name(), run_name()
        with pytest.raises(PositionGapError):
            await store.append(name, messages(run_id, positions), writer=Writer(run_id, 1))
        assert await store.list_messages(name) == []

    async def test_a_gap_behind_stored_messages_is_refused(self, store: ConversationStore) -> None:
        """A run that has written must go on where it left off."""
        name, run_id = conversation_name(), run_name()
        await store.append(name, messages(run_id, [0]), writer=Writer(run_id, 1))
        for positions in ([2], [0, 2]):
            with pytest.raises(PositionGapError):
                await store.append(name, messages(run_id, positions), writer=Writer(run_id, 1))
        assert len(await store.list_messages(name)) == 1

    async def test_a_writer_cannot_append_for_another_run(self, store: ConversationStore) -> None:
        """A message of another run is refused, whatever its position."""
        name = conversation_name()
        with pytest.raises(PositionGapError):
            await store.append(name, messages(run_name(), [0]), writer=Writer(run_name(), 1))
        assert await store.list_messages(name) == []

    async def test_an_older_token_is_refused(
        self, store: ConversationStore, elsewhere: ConversationStore
    ) -> None:
        """Fencing: once a newer writer claimed, an older one can do nothing any more."""
        name, run_id = conversation_name(), run_name()
        old, new = Writer(run_id, 1), Writer(run_id, 2)
        await store.append(name, messages(run_id, [0]), writer=old)
        await elsewhere.claim(name, new, limit=0)

        with pytest.raises(FencedError):
            await store.append(name, messages(run_id, [1]), writer=old)
        with pytest.raises(FencedError):
            await store.append(name, messages(run_id, [0]), writer=old)
        with pytest.raises(FencedError):
            await store.retract(name, old)
        with pytest.raises(FencedError):
            await store.claim(name, old, limit=0)
        assert len(await store.list_messages(name)) == 1
        await store.append(name, messages(run_id, [1]), writer=new)

    async def test_a_greater_token_counts_as_a_claim(self, store: ConversationStore) -> None:
        """Fencing: an append with a token that nobody had shuts older writers out as well."""
        name, run_id, later = conversation_name(), run_name(), run_name()
        await store.claim(name, Writer(run_id, 1), limit=0)
        await store.append(name, messages(later, [0]), writer=Writer(later, 5))
        with pytest.raises(FencedError):
            await store.append(name, messages(run_id, [0]), writer=Writer(run_id, 4))

    async def test_a_clear_does_not_reset_the_token(self, store: ConversationStore) -> None:
        """Fencing outlives the messages."""
        name, run_id = conversation_name(), run_name()
        await store.append(name, messages(run_id, [0]), writer=Writer(run_id, 2))
        await store.clear(name)
        with pytest.raises(FencedError):
            await store.append(name, messages(run_id, [0]), writer=Writer(run_id, 1))

    async def test_a_race_between_an_old_and_a_new_writer_leaves_no_gap(
        self, store: ConversationStore, elsewhere: ConversationStore
    ) -> None:
        """Fencing: a zombie's appends end with the claim, and the new writer goes on from there."""
        name, run_id = conversation_name(), run_name()

        async def write_until_fenced() -> None:
            for position in count():
                await store.append(name, messages(run_id, [position]), writer=Writer(run_id, 1))
                await asyncio.sleep(0)

        zombie = asyncio.create_task(write_until_fenced())

        async def has_begun() -> bool:
            return bool(await store.list_messages(name))

        await eventually(has_begun)
        claim = await elsewhere.claim(name, Writer(run_id, 2), limit=0)
        mine = messages(run_id, range(len(claim.own), len(claim.own) + 5))
        await elsewhere.append(name, mine, writer=Writer(run_id, 2))
        with pytest.raises(FencedError):
            await zombie
        positions = [entry.position for entry in await store.list_messages(name)]
        assert positions == list(range(len(claim.own) + 5))

    async def test_claim_reads_what_others_wrote_before(self, store: ConversationStore) -> None:
        """A claim answers with the newest earlier messages, oldest first, at most `limit`."""
        name, first, second = conversation_name(), run_name(), run_name()
        await store.append(name, messages(first, range(5)), writer=Writer(first, 1))
        for limit, expected in ((3, [2, 3, 4]), (0, []), (99, [0, 1, 2, 3, 4])):
            claim = await store.claim(name, Writer(second, 2), limit=limit)
            assert [entry.position for entry in claim.earlier] == expected
            assert all(entry.cursor for entry in claim.earlier)
            assert claim.own == ()

    async def test_claim_reads_all_that_the_run_wrote(self, store: ConversationStore) -> None:
        """Whoever takes a run over finds its own messages whole, and goes on behind them."""
        name, first, second = conversation_name(), run_name(), run_name()
        await store.append(name, messages(first, [0, 1]), writer=Writer(first, 1))
        await store.append(name, messages(second, range(30)), writer=Writer(second, 2))

        claim = await store.claim(name, Writer(second, 3), limit=1)
        assert [(entry.run_id, entry.position) for entry in claim.earlier] == [(first, 1)]
        assert [entry.position for entry in claim.own] == list(range(30))
        await store.append(name, messages(second, [30]), writer=Writer(second, 3))
        assert len(await store.list_messages(name)) == 33

    async def test_what_came_after_the_runs_first_message_is_not_earlier(
        self, store: ConversationStore
    ) -> None:
        """A run that is taken over sees the history that it saw at its start."""
        name, run_id = conversation_name(), run_name()
        await store.append(name, [imported("before")])
        await store.append(name, messages(run_id, [0]), writer=Writer(run_id, 1))
        await store.append(name, [imported("after")])
        claim = await store.claim(name, Writer(run_id, 2), limit=10)
        assert texts(claim.earlier) == ["before"]

    async def test_an_import_does_not_disturb_a_run(self, store: ConversationStore) -> None:
        """Without a writer, messages are appended as they are, whoever holds the conversation."""
        name, run_id = conversation_name(), run_name()
        await store.append(name, [message(run_id, 0)], writer=Writer(run_id, 1))
        await store.append(name, [imported("a"), imported("a")])
        await store.append(name, [message(run_id, 1)], writer=Writer(run_id, 1))
        assert texts(await store.list_messages(name)) == [f"{run_id}.0", "a", "a", f"{run_id}.1"]

    async def test_batches_of_two_writers_stay_whole(
        self, store: ConversationStore, elsewhere: ConversationStore
    ) -> None:
        """Atomicity and order: batches that race each other are neither torn nor reordered."""
        name, run_id = conversation_name(), run_name()

        async def write() -> None:
            for start in range(0, 60, 3):
                batch = messages(run_id, range(start, start + 3))
                await store.append(name, batch, writer=Writer(run_id, 1))

        async def bring_in() -> None:
            for number in range(20):
                batch = [imported(f"{number}.{part}") for part in range(3)]
                await elsewhere.append(name, batch)

        await asyncio.gather(write(), bring_in())
        stored = await elsewhere.list_messages(name)
        own = [entry.position for entry in stored if entry.run_id == run_id]
        others = [entry.text for entry in stored if entry.run_id is None]
        assert own == list(range(60))
        assert others == [f"{number}.{part}" for number in range(20) for part in range(3)]
        for start in range(0, len(stored), 3):
            assert len({entry.run_id for entry in stored[start : start + 3]}) == 1

    async def test_a_reader_sees_a_batch_whole_or_not_at_all(
        self, store: ConversationStore, elsewhere: ConversationStore
    ) -> None:
        """Atomicity: whenever somebody looks, the number of messages is a multiple of a batch's."""
        name, run_id = conversation_name(), run_name()

        async def write() -> None:
            for start in range(0, 100, 5):
                batch = messages(run_id, range(start, start + 5))
                await store.append(name, batch, writer=Writer(run_id, 1))

        writing = asyncio.create_task(write())
        seen = set()
        while not writing.done():
            seen.add(len(await elsewhere.list_messages(name)) % 5)
            await asyncio.sleep(0)
        await writing
        assert seen == {0}

    async def test_a_message_is_visible_elsewhere_when_append_returns(
        self, store: ConversationStore, elsewhere: ConversationStore
    ) -> None:
        """Visibility: no delay, over another connection either."""
        name, run_id = conversation_name(), run_name()
        for position in range(10):
            await store.append(name, messages(run_id, [position]), writer=Writer(run_id, 1))
            assert len(await elsewhere.list_messages(name)) == position + 1
