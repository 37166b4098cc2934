"""What every directory of conversations guarantees about lists."""

import asyncio
from datetime import timedelta

import pytest

from shared.backend import Backend
from shared.directory.protocol import ConversationDirectory
from shared.directory.record import ConversationRecord, RecordFilter, Work
from shared.directory.session import SessionId
from shared.errors import InvalidCursorError
from tests.contract.directory_values import directory_of, session
from tests.contract.values import new_run, next_millisecond


def ids(records: tuple[ConversationRecord, ...]) -> list[str]:
    return [record.id for record in records]


async def all_pages(
    directory: ConversationDirectory, where: RecordFilter, *, limit: int
) -> list[str]:
    """The ids of every page."""
    page = await directory.list_records(where, limit=limit)
    found = ids(page.records)
    while page.next is not None:
        assert len(page.records) == limit
        page = await directory.list_records(where, limit=limit, after=page.next)
        found += ids(page.records)
    return found


class RecordListContract:
    """`list_records`."""

    @pytest.fixture
    def directory(self, backend: Backend) -> ConversationDirectory:
        return directory_of(backend)

    async def test_the_newest_activity_comes_first(self, directory: ConversationDirectory) -> None:
        """Whatever partition a conversation lies in."""
        made = []
        for _ in range(12):
            await next_millisecond()
            made.append((await directory.open(session())).id)
        assert ids((await directory.list_records()).records) == made[::-1]
        assert await all_pages(directory, RecordFilter(), limit=5) == made[::-1]
        assert await all_pages(directory, RecordFilter(), limit=12) == made[::-1]

    async def test_records_of_one_moment_come_each_once(
        self, directory: ConversationDirectory
    ) -> None:
        """Made at once, they have the same time, more or less, and some fixed order."""
        made = await asyncio.gather(*(directory.open(session()) for _ in range(40)))
        for limit in (1, 3, 39, 40, 41):
            found = await all_pages(directory, RecordFilter(), limit=limit)
            assert sorted(found) == sorted(record.id for record in made)

    async def test_filters_go_together(self, directory: ConversationDirectory) -> None:
        """By user, agent, channel and whether it takes runs; the limit counts the rest."""
        named = [
            SessionId.of_user(channel, user, agent)
            for channel in ("web", "mail")
            for user in ("ada", "eve")
            for agent in ("clerk", "cook")
        ]
        for each in named:
            await directory.open(each)
        await directory.deactivate("web:ada:cook")
        await directory.begin("mail:eve:cook", Work.ARCHIVE)
        await directory.end_archiving("mail:eve:cook", "attic")
        for where, expected in (
            (
                RecordFilter(user="ada"),
                {"web:ada:clerk", "web:ada:cook", "mail:ada:clerk", "mail:ada:cook"},
            ),
            (RecordFilter(agent="cook", channel="web"), {"web:ada:cook", "web:eve:cook"}),
            (RecordFilter(user="ada", active=True, agent="cook"), {"mail:ada:cook"}),
            (RecordFilter(active=False), {"web:ada:cook", "mail:eve:cook"}),
            (RecordFilter(active=True, channel="mail", user="eve"), {"mail:eve:clerk"}),
            (RecordFilter(active=True, agent="cook"), {"mail:ada:cook", "web:eve:cook"}),
            (RecordFilter(archived=True), {"mail:eve:cook"}),
            (RecordFilter(archived=False, agent="cook", channel="mail"), {"mail:ada:cook"}),
            (RecordFilter(user="ada", channel="web", agent="clerk"), {"web:ada:clerk"}),
            (RecordFilter(user="nobody"), set()),
        ):
            for limit in (1, 50):
                found = await all_pages(directory, where, limit=limit)
                assert len(found) == len(set(found))
                assert set(found) == expected

    async def test_times_are_bounds(
        self, backend: Backend, directory: ConversationDirectory
    ) -> None:
        """The first is included, the second is not; of creation, and of the last activity."""
        first = await directory.open(session())
        await next_millisecond()
        second = await directory.open(session())
        await next_millisecond()
        await backend.ledger.submit(new_run(first.id))
        active = (await directory.get(first.id)).last_activity_at
        for where, expected in (
            (RecordFilter(created_since=second.created_at), [second.id]),
            (RecordFilter(created_until=second.created_at), [first.id]),
            (RecordFilter(active_since=active), [first.id]),
            (RecordFilter(active_until=active), [second.id]),
            (RecordFilter(active_since=second.created_at), [first.id, second.id]),
            (RecordFilter(active_since=active + timedelta(seconds=1)), []),
        ):
            assert ids((await directory.list_records(where)).records) == expected

    async def test_pages_bear_with_writes(
        self, backend: Backend, directory: ConversationDirectory
    ) -> None:
        """Who is not touched comes exactly once, who is touched at most once."""
        made = [await directory.open(session()) for _ in range(30)]
        touched, quiet = made[::2], made[1::2]
        found: list[str] = []
        page = await directory.list_records(limit=4)
        for number, record in enumerate([*touched, *touched]):
            found += ids(page.records)
            if page.next is None:
                break
            await directory.open(session())
            if number < len(touched):
                await backend.ledger.submit(new_run(record.id))
            page = await directory.list_records(limit=4, after=page.next)
        assert len(found) == len(set(found))
        assert {record.id for record in quiet} <= set(found)

    async def test_a_limit_of_nothing_is_nothing(self, directory: ConversationDirectory) -> None:
        """And says whether there is something."""
        assert (await directory.list_records(limit=0)).next is None
        await directory.open(session())
        assert (await directory.list_records(limit=0)).records == ()

    @pytest.mark.parametrize("cursor", ["", "x", "5", "5-0", "/a", "-1/a", "5/", "5/a b", "5/a\n"])
    async def test_a_cursor_of_somebody_else_is_refused(
        self, directory: ConversationDirectory, cursor: str
    ) -> None:
        """Nothing that was not handed out is guessed at."""
        with pytest.raises(InvalidCursorError):
            await directory.list_records(after=cursor)
