"""Moving conversations: whole, in order, each message once, whatever happens on the way."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from shared.conversation.memory import MemoryConversationStore
from shared.conversation.protocol import Writer
from shared.errors import (
    ConfigurationError,
    ConversationBusyError,
    InvalidIdError,
    NewerVersionError,
    StoreUnavailableError,
    TargetConflictError,
    UnknownConversationError,
    UnreadableEntriesError,
    UnverifiedTransferError,
)
from shared.identifier import new_run_id, partition_of
from shared.memory_backend import build_memory_backend
from shared.message import Message
from shared.notification.memory import MemoryNotifications
from shared.run import NewRun
from shared.settings import Settings
from shared.testing.conversation.value import imported, message, messages, run_name, texts
from shared.transfer.copying import ConversationCopy
from shared.transfer.digest import StoreDigest, digest_of
from shared.transfer.migration import migrate
from shared.transfer.value import Progress
from shared.version import FORMAT_VERSION
from tests.unit.shared.transfer.stage import (
    QUICK,
    DiesAtAppend,
    Killed,
    LosesAnswers,
    Restless,
    damage,
    digest,
    fill,
    new_store,
    some_message,
)


async def test_all_conversations_arrive_as_they_were() -> None:
    """Ids, run ids, positions and times too; the report counts them and has their digest."""
    source, target = new_store(), new_store()
    names = [await fill(source, count) for count in (1, 3, 6, 7, 8, 14, 40)]
    report = await migrate(source, target, options=QUICK)
    expected = StoreDigest()
    for name in names:
        before, after = await source.list_messages(name), await target.list_messages(name)
        assert [each.model_dump(exclude={"cursor"}) for each in after] == [
            each.model_dump(exclude={"cursor"}) for each in before
        ]
        expected.add(name, digest_of(before))
    assert (report.conversations, report.messages, report.written) == (7, 79, 79)
    assert report.digest == expected.hex()
    assert report.is_complete
    assert not report.changed


async def test_only_those_asked_for_are_moved() -> None:
    """By id; each once, however often it is named."""
    source, target = new_store(), new_store()
    first, second = await fill(source, 5), await fill(source, 5)
    report = await migrate(source, target, [first, first])
    assert report.conversations == 1
    assert await target.count(first) == 5
    assert await target.count(second) == 0


async def test_a_second_migration_compares_and_writes_nothing() -> None:
    """And one after the source grew writes what came."""
    source, target = new_store(), new_store()
    name = await fill(source, 30)
    first = await migrate(source, target, options=QUICK)
    again = await migrate(source, target, options=QUICK)
    assert (again.digest, again.written) == (first.digest, 0)
    await source.append(name, [imported("later")])
    assert (await migrate(source, target, options=QUICK)).written == 1
    assert await digest(source, name) == await digest(target, name)


@pytest.mark.parametrize("after", [False, True])
async def test_who_is_killed_at_any_write_goes_on_where_it_was(after: bool) -> None:
    """Before the write or behind it; at the end each message is there once."""
    source = new_store()
    name = await fill(source, 40)
    for dies_at in range(1, 7):
        target = DiesAtAppend()
        target.dies_at, target.after = dies_at, after
        with pytest.raises(Killed):
            await migrate(source, target, options=QUICK)
        present = await target.count(name)
        assert present == 7 * (dies_at - 1 + after) or present == 40
        report = await migrate(source, target, options=QUICK)
        assert report.written == 40 - present
        assert await digest(target, name) == await digest(source, name)


@pytest.mark.parametrize("late", [False, True])
async def test_a_write_whose_answer_was_lost_counts_once(late: bool) -> None:
    """Also if the store executes it only after the next one."""
    source, target = new_store(), LosesAnswers(3, late=late)
    name = await fill(source, 40)
    report = await migrate(source, target, options=replace(QUICK, patience_s=5))
    assert await digest(target, name) == await digest(source, name)
    assert report.written == 40
    assert target.appended == (9 if late else 6), "what is there is not written again"


async def test_a_store_that_stays_away_ends_it_with_an_error() -> None:
    """What is there by then stays, for the next time."""
    source, target = new_store(), LosesAnswers(10**6)
    name = await fill(source, 3)
    with pytest.raises(StoreUnavailableError):
        await migrate(source, target, options=replace(QUICK, patience_s=0.1))
    assert await target.count(name) == 3


async def test_a_target_that_holds_something_else_is_left_as_it_is() -> None:
    """Another message in any place, one more, an unreadable one; the others are moved."""
    source = new_store()
    name, other = await fill(source, 10), await fill(source, 3)
    whole = await source.list_messages(name)
    strange = some_message()
    for present in ([strange], [*whole[:4], strange], [*whole, strange], whole[1:], whole[::-1]):
        target = new_store()
        await target.append(name, present)
        report = await migrate(source, target, options=QUICK)
        assert isinstance(report.failures[name], TargetConflictError)
        assert report.conversations == 1
        assert await digest(target, name) == digest_of(present)
        assert await digest(target, other) == await digest(source, other)
        assert not report.is_complete


async def test_a_target_with_damage_is_a_conflict() -> None:
    """Nobody can say what it holds."""
    source, target = new_store(), new_store()
    name = await fill(source, 10)
    await migrate(source, target)
    damage(target, name, 3)
    report = await migrate(source, target)
    assert isinstance(report.failures[name], TargetConflictError)
    assert "cannot be read" in str(report.failures[name])


async def test_what_differs_is_replaced_when_asked_for() -> None:
    """And only that."""
    source, target = new_store(), new_store()
    name = await fill(source, 10)
    same = await fill(source, 5)
    await migrate(source, target, [same])
    await target.append(name, [some_message()])
    report = await migrate(source, target, options=replace(QUICK, replace=True))
    assert report.written == 10
    assert await digest(target, name) == await digest(source, name)


async def test_replacing_in_the_source_itself_is_refused() -> None:
    """One store under two names would be emptied, and then be found empty."""

    class Alias(MemoryConversationStore):
        def __init__(self, of: MemoryConversationStore) -> None:
            self.__dict__ = of.__dict__

    source = new_store()
    name = await fill(source, 10)
    with pytest.raises(ConfigurationError, match="same store"):
        await migrate(source, source)
    with pytest.raises(ConfigurationError, match="same store"):
        await migrate(source, Alias(source), options=replace(QUICK, replace=True))
    assert await source.count(name) == 10
    assert [each async for each in source.conversation_ids()] == [name]


async def test_what_comes_while_it_is_read_is_there_and_is_named() -> None:
    """A message at any time, up to the end."""
    source, target = Restless(), new_store()
    name = await fill(source, 20)
    for moment in range(12):
        await target.delete(name)
        arrives = partial(source.append, name, [some_message()])
        source.before_reads = [source.aclose] * moment + [arrives]
        report = await migrate(source, target, options=QUICK)
        assert await digest(target, name) == await digest(source, name), moment
        assert report.conversations == 1
        assert report.changed in ((), (name,))
    assert (await migrate(source, target, options=QUICK)).changed == ()


async def test_what_comes_after_it_was_verified_is_found_at_the_end() -> None:
    """Another conversation takes long; meanwhile the first one grows, and a new one begins."""
    source, target = Restless(), new_store()
    first, second = await fill(source, 5), await fill(source, 5)

    async def change() -> None:
        await source.append(first, [some_message()])
        await source.append("web:new", [some_message()])

    source.before_reads_of = {second: change}
    report = await migrate(source, target, options=replace(QUICK, concurrency=1))
    assert await digest(target, first) == await digest(source, first)
    assert report.conversations == 3
    assert set(report.changed) == {first, "web:new"}
    assert second not in report.changed


async def test_a_change_that_leaves_the_count_as_it_was_is_found_at_the_end() -> None:
    """The last message was taken back, and another one came."""
    source, target = Restless(), new_store()
    first, second = await fill(source, 5), await fill(source, 5)

    async def change() -> None:
        last = (await MemoryConversationStore.list_messages(source, first, limit=1))[0]
        await source.remove(first, last.cursor or "")
        await source.append(first, [some_message()])

    source.before_reads_of = {second: change}
    report = await migrate(source, target, options=replace(QUICK, concurrency=1, replace=True))
    assert await digest(target, first) == await digest(source, first)
    assert report.changed == (first,)


@pytest.mark.parametrize("is_source", [True, False])
async def test_one_conversation_is_not_called_equal_while_it_grows(is_source: bool) -> None:
    """Whichever side it is, up to the last look at it."""

    class GrowsOnce(MemoryConversationStore):
        reads, grows_at = 0, 0

        async def list_messages(self, conversation_id: str, **part: Any) -> list[Message]:
            page = await super().list_messages(conversation_id, **part)
            self.reads += 1
            if self.reads == self.grows_at:
                await self.append(conversation_id, [some_message()])
            return page

    for moment in range(1, 9):
        sides = [GrowsOnce(MemoryNotifications()), GrowsOnce(MemoryNotifications())]
        source, target = sides
        name = await fill(source, 9)
        sides[not is_source].grows_at = moment
        try:
            await ConversationCopy(source, target, name, QUICK, lambda *_: None).run()
        except (TargetConflictError, UnverifiedTransferError):
            assert not is_source
            continue
        assert await digest(target, name) == await digest(source, name), moment


async def test_a_conversation_whose_transfer_was_cancelled_is_named() -> None:
    """By a store, say; nobody asked for it, so that it would pass for done."""

    class Cancelling(MemoryConversationStore):
        async def append(
            self, conversation_id: str, messages: Sequence[Message], *, writer: Writer | None = None
        ) -> list[str]:
            if conversation_id == "web:b":
                raise asyncio.CancelledError
            return await super().append(conversation_id, messages, writer=writer)

    source = new_store()
    for name in ("web:a", "web:b"):
        await source.append(name, [some_message()])
    report = await migrate(source, Cancelling(source.notifications))
    assert isinstance(report.failures["web:b"], UnverifiedTransferError)
    assert report.conversations == 1


async def test_a_source_that_never_rests_is_not_called_equal() -> None:
    """It grows with every look at it."""

    class Growing(Restless):
        async def count(self, conversation_id: str) -> int:
            await self.append(conversation_id, [some_message()])
            return await super().count(conversation_id)

    source, target = Growing(), new_store()
    name = await fill(source, 20)
    report = await migrate(source, target, options=QUICK)
    assert isinstance(report.failures[name], UnverifiedTransferError)


async def test_a_rollback_while_it_is_copied_is_noticed() -> None:
    """The target then holds what the source does not any more; it is not called equal."""
    source, target = Restless(), new_store()
    name, run_id = await fill(source, 20), run_name()
    writer = Writer(run_id, 9)
    await source.append(name, messages(run_id, range(10)), writer=writer)
    await migrate(source, new_store(), options=QUICK)
    reads_of_a_pass = 6
    source.before_reads = [source.aclose] * (2 * reads_of_a_pass - 2)
    source.before_reads.append(partial(source.retract, name, writer))
    report = await migrate(source, target, options=QUICK)
    assert isinstance(report.failures[name], UnverifiedTransferError)
    report = await migrate(source, target, options=replace(QUICK, replace=True))
    assert report.is_complete


async def test_a_target_that_drops_messages_is_noticed() -> None:
    """One that keeps only so many, for instance."""

    class Trimming(MemoryConversationStore):
        async def append(
            self, conversation_id: str, messages: Sequence[Message], *, writer: Writer | None = None
        ) -> list[str]:
            cursors = await super().append(conversation_id, messages, writer=writer)
            del self._logs[conversation_id].entries[:-5]
            return cursors

    source = new_store()
    name = await fill(source, 20)
    report = await migrate(source, Trimming(source.notifications), options=QUICK)
    assert isinstance(report.failures[name], UnverifiedTransferError)


async def test_unreadable_entries_stop_it_before_their_conversation_is_touched() -> None:
    """Wherever they are: the oldest page is not enough to know."""
    for place in (0, 13, 29):
        source, target = new_store(), new_store()
        name = await fill(source, 30)
        damage(source, name, place)
        with pytest.raises(UnreadableEntriesError, match="1 entries") as caught:
            await migrate(source, target, options=QUICK)
        assert caught.value.entries == 1
        assert await target.count(name) == 0


async def test_unreadable_entries_are_left_out_and_counted_when_asked_for() -> None:
    """The rest is there; the report does not call that complete."""
    source, target = new_store(), new_store()
    name = await fill(source, 30)
    damage(source, name, 4)
    damage(source, name, 29)
    options = replace(QUICK, on_corrupt="report")
    report = await migrate(source, target, options=options)
    assert report.unreadable == {name: 2}
    assert not report.is_complete
    assert await digest(target, name) == await digest(source, name)
    assert await target.count(name) == 28
    assert (await migrate(source, target, options=options)).written == 0


async def test_messages_for_newer_readers_are_never_left_out() -> None:
    """Their conversation is: it stops all, or is named and the others go on."""
    source, target = new_store(), new_store()
    name, other = await fill(source, 20), await fill(source, 5)
    newer = imported("new").model_copy(update={"version": FORMAT_VERSION + 1})
    await source.append(name, [newer])
    with pytest.raises(NewerVersionError):
        await migrate(source, target, options=QUICK)
    assert await target.count(name) == 0
    report = await migrate(source, target, options=replace(QUICK, on_corrupt="report"))
    assert isinstance(report.failures[name], NewerVersionError)
    assert await target.count(name) == 0
    assert await digest(target, other) == await digest(source, other)


async def test_verifying_writes_nothing_and_tells_every_difference() -> None:
    """What is missing, what is too much, what is another."""
    source, target = new_store(), new_store()
    same, short, long, other, missing = [await fill(source, 9) for _ in range(5)]
    await migrate(source, target, [same, short, long, other])
    await source.append(short, [some_message()])
    await target.append(long, [some_message()])
    await target.clear(other)
    await target.append(other, [some_message()])
    counts = {name: await target.count(name) for name in (same, short, long, other, missing)}
    report = await migrate(source, target, options=replace(QUICK, verify_only=True, replace=True))
    assert {name: type(error) for name, error in report.failures.items()} == {
        short: UnverifiedTransferError,
        missing: UnverifiedTransferError,
        long: TargetConflictError,
        other: TargetConflictError,
    }
    assert (report.conversations, report.written) == (1, 0)
    assert counts == {name: await target.count(name) for name in counts}


async def test_verifying_sees_doubled_messages() -> None:
    """They are only removed by who may write."""
    source, target = new_store(), new_store()
    name = await fill(source, 9)
    whole = await source.list_messages(name)
    await target.append(name, [*whole, *whole[-2:]])
    report = await migrate(source, target, options=replace(QUICK, verify_only=True))
    assert "twice" in str(report.failures[name])
    assert await target.count(name) == 11
    assert (await migrate(source, target, options=QUICK)).is_complete
    assert await target.count(name) == 9


async def test_a_conversation_that_a_run_has_not_finished_with_is_refused() -> None:
    """Waiting or running; once it has ended, it is moved."""
    backend, target = build_memory_backend(Settings()), new_store()
    source = backend.conversations
    name = "web:ada"
    await source.append(name, [imported("hi")])
    run_id = new_run_id(partition_of(name))
    await backend.ledger.submit(NewRun(id=run_id, agent="clerk", input="x", conversation_id=name))
    report = await migrate(source, target, ledger=backend.ledger)
    error = report.failures[name]
    assert isinstance(error, ConversationBusyError)
    assert error.run_id == run_id
    assert await target.count(name) == 0
    await backend.ledger.cancel(run_id)
    assert (await migrate(source, target, ledger=backend.ledger)).is_complete


async def test_a_conversation_that_is_not_there_is_named() -> None:
    """A typing mistake is no success; what is no id at all is refused before anything is done."""
    source, target = new_store(), new_store()
    report = await migrate(source, target, ["web:nobody"])
    assert isinstance(report.failures["web:nobody"], UnknownConversationError)
    with pytest.raises(InvalidIdError):
        await migrate(source, target, ["../x"])


async def test_progress_tells_of_every_page_and_conversation() -> None:
    """It only grows, and ends with all of it."""
    source, target = new_store(), new_store()
    for count in (20, 1, 7):
        await fill(source, count)
    told: list[Progress] = []
    report = await migrate(source, target, options=QUICK, on_progress=told.append)
    assert (told[-1].done, told[-1].total, told[-1].messages) == (3, 3, 28)
    assert told[-1].size == report.size
    assert len(told) > 4
    assert [each.messages for each in told] == sorted(each.messages for each in told)


async def test_no_more_conversations_at_a_time_than_allowed() -> None:
    """The limit holds whatever their number."""
    under_way, most = 0, 0

    class Counting(MemoryConversationStore):
        async def append(
            self, conversation_id: str, messages: Sequence[Message], *, writer: Writer | None = None
        ) -> list[str]:
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            await asyncio.sleep(0)
            under_way -= 1
            return await super().append(conversation_id, messages, writer=writer)

    source = new_store()
    for _ in range(12):
        await fill(source, 5)
    options = replace(QUICK, concurrency=3)
    report = await migrate(source, Counting(source.notifications), options=options)
    assert report.conversations == 12
    assert most == 3


async def test_no_read_and_no_write_is_larger_than_allowed() -> None:
    """So memory is bounded by pages, whatever a conversation's length."""
    limits: list[int | None] = []
    sizes: list[tuple[int, int]] = []

    class Measured(MemoryConversationStore):
        async def list_messages(self, conversation_id: str, **part: Any) -> list[Message]:
            limits.append(part.get("limit"))
            return await super().list_messages(conversation_id, **part)

        async def append(
            self, conversation_id: str, messages: Sequence[Message], *, writer: Writer | None = None
        ) -> list[str]:
            sizes.append((len(messages), sum(len(each.text) for each in messages)))
            return await super().append(conversation_id, messages, writer=writer)

    source = Measured(new_store().notifications)
    run_id = run_name()
    long = [message(run_id, place, "x" * (place % 5) * 1000) for place in range(100)]
    await source.append("web:long", long)
    sizes.clear()
    options = replace(QUICK, page_size=20, batch_bytes=10_000)
    target = Measured(source.notifications)
    assert (await migrate(source, target, options=options)).written == 100
    assert set(limits) <= {20, 1}, "1 is the last look"
    assert max(count for count, _ in sizes) <= 20
    assert max(size for _, size in sizes) <= 10_000
    assert texts(await target.list_messages("web:long")) == [each.text for each in long]
