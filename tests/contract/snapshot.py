"""What every store of snapshots guarantees."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final
from uuid import uuid4

import pytest

from shared.card.value import PromptCard, ToolCard
from shared.errors import (
    CorruptEntryError,
    InvalidIdError,
    NewerVersionError,
    UnknownSnapshotError,
    UnstorableError,
)
from shared.message import Message, Role, ToolCall, tool_result_draft
from shared.snapshot.identity import new_snapshot_id
from shared.snapshot.protocol import SnapshotStore
from shared.snapshot.value import Snapshot, SnapshotInfo
from shared.testing.conversation.value import imported, nested
from shared.transfer.digest import digest_of
from shared.version import FORMAT_VERSION

CALL: Final = ToolCall(id="c1", name="look_up", arguments='{"what": "\\u2028 tea\\n"}')

Damage = Callable[[str], Any]
"""Changes what is stored of a snapshot, so that no reader understands it."""


def snapshot(
    conversation_id: str = "web:ada", agent: str | None = "clerk", *texts: str, **info: Any
) -> Snapshot:
    """A snapshot of a short conversation."""
    history = (
        *(imported(text) for text in (texts or ("hello\n\x85 “you”",))),
        Message(id="2", role=Role.ASSISTANT, tool_calls=(CALL,), run_id="r", position=1),
        Message(**dict(tool_result_draft(CALL, "found")), id="3", run_id="r", position=2),
    )
    values = {
        "id": new_snapshot_id(conversation_id),
        "conversation_id": conversation_id,
        "agent": agent,
        "provider": "openai",
        "model": "openai:gpt-5.2",
        "messages": len(history),
        "digest": digest_of(history),
        "created_at": datetime.now(UTC),
        "is_described": True,
    }
    return Snapshot(
        info=SnapshotInfo(**values | info),
        history=history,
        prompts=(PromptCard(text="Be brief."), PromptCard(is_dynamic=True, name="today")),
        tools=(ToolCard(name="look_up", description="Finds.", parameters={"type": "object"}),),
    )


class SnapshotContract:
    """Requires the fixtures `store`, `elsewhere` (another process's view of it) and `damage`."""

    async def test_what_was_saved_is_loaded(
        self, store: SnapshotStore, elsewhere: SnapshotStore
    ) -> None:
        """Every field of it, by every reader."""
        saved = snapshot()
        await store.save(saved)
        assert await elsewhere.load(saved.info.id) == saved

    async def test_what_is_not_there_is_named(self, store: SnapshotStore) -> None:
        """To load it is an error, to delete it is none."""
        await store.save(snapshot())
        unknown = new_snapshot_id("web:ada")
        with pytest.raises(UnknownSnapshotError, match=unknown):
            await store.load(unknown)
        assert await store.delete(unknown) is False

    async def test_a_deleted_one_is_gone_from_everywhere(
        self, store: SnapshotStore, elsewhere: SnapshotStore
    ) -> None:
        """Also from every list; the others stay."""
        first, second = snapshot(), snapshot()
        await store.save(first)
        await store.save(second)
        assert await elsewhere.delete(first.info.id) is True
        assert await elsewhere.delete(first.info.id) is False
        with pytest.raises(UnknownSnapshotError):
            await store.load(first.info.id)
        every: list[dict[str, Any]] = [{}, {"agent": "clerk"}, {"conversation_id": "web:ada"}]
        for filters in every:
            assert await store.list_snapshots(**filters) == [second.info]

    async def test_lists_are_newest_first_and_come_in_pages(
        self, store: SnapshotStore, elsewhere: SnapshotStore
    ) -> None:
        """By the time in their ids, whatever conversations they are of."""
        saved = []
        for number in range(25):
            saved.append(snapshot(f"web:{number % 7}"))
            await store.save(saved[-1])
        ids = sorted((each.info.id for each in saved), reverse=True)
        listed: list[str] = []
        while page := await elsewhere.list_snapshots(
            limit=4, before=listed[-1] if listed else None
        ):
            assert len(page) == min(4, 25 - len(listed))
            listed += [info.id for info in page]
        assert listed == ids
        assert await store.list_snapshots(limit=0) == []
        assert [info.id for info in await store.list_snapshots(before=ids[3])] == ids[4:]

    async def test_a_page_goes_on_behind_one_that_was_deleted(self, store: SnapshotStore) -> None:
        """A cursor is an id, whether or not it is still there."""
        saved = [snapshot() for _ in range(3)]
        for each in saved:
            await store.save(each)
        ids = sorted((each.info.id for each in saved), reverse=True)
        await store.delete(ids[0])
        page = await store.list_snapshots(before=ids[0])
        assert [info.id for info in page] == ids[1:]

    async def test_lists_are_filtered(self, store: SnapshotStore) -> None:
        """By agent, by conversation, by both; a limit counts what passes."""
        kinds = [("web:a", "x"), ("web:a", "y"), ("web:b", "x"), ("web:b", None)]
        saved = [snapshot(*kind) for kind in kinds * 3]
        for each in saved:
            await store.save(each)

        async def kinds_of(**filters: Any) -> list[tuple[str, str | None]]:
            found = await store.list_snapshots(**filters)
            assert [info.id for info in found] == sorted((i.id for i in found), reverse=True)
            return sorted({(info.conversation_id, info.agent) for info in found}, key=str)

        assert len(await store.list_snapshots()) == 12
        assert await kinds_of(agent="x") == [("web:a", "x"), ("web:b", "x")]
        assert await kinds_of(conversation_id="web:b") == [("web:b", "x"), ("web:b", None)]
        assert await kinds_of(conversation_id="web:a", agent="y") == [("web:a", "y")]
        assert await kinds_of(conversation_id="web:c") == []
        assert await kinds_of(agent="z") == []
        page = await store.list_snapshots(conversation_id="web:a", agent="y", limit=2)
        assert len(page) == 2
        rest = await store.list_snapshots(conversation_id="web:a", agent="y", before=page[-1].id)
        assert len(rest) == 1

    async def test_saving_again_replaces(self, store: SnapshotStore) -> None:
        """So that who heard no answer may repeat it."""
        saved = snapshot()
        await store.save(saved)
        await store.save(saved)
        assert await store.list_snapshots() == [saved.info]
        assert await store.load(saved.info.id) == saved

    @pytest.mark.parametrize(
        "value",
        [
            "",
            "../../etc/passwd",
            "0192F0C1-A2B3-7D4E-8F60-718293A4B5C6",
            "0192f0c1a2b37d4e8f60718293a4b5c6",
            "{0192f0c1-a2b3-7d4e-8f60-718293a4b5c6}",
            "urn:uuid:0192f0c1-a2b3-7d4e-8f60-718293a4b5c6",
            "0192f0c1-a2b3-7d4e-8f60-718293a4b5c6\n",
            "0192f0c1-a2b3-7d4e-8f60-718293a4b5c",
            "0192f0c1-a2b3-7d4e-8f60-718293a4b5c6.snapshot",
            "\uff10192f0c1-a2b3-7d4e-8f60-718293a4b5c6",
        ],
    )
    async def test_what_is_no_canonical_uuid_is_refused(
        self, store: SnapshotStore, value: str
    ) -> None:
        """Other spellings of one would be other names; most of these would leave their place."""
        for call in (
            store.load(value),
            store.delete(value),
            store.list_snapshots(before=value),
            store.save(snapshot(id=value)),
        ):
            with pytest.raises(InvalidIdError):
                await call

    async def test_any_canonical_uuid_is_an_id(self, store: SnapshotStore) -> None:
        """Also one that was not made here."""
        name = str(uuid4())
        with pytest.raises(UnknownSnapshotError):
            await store.load(name)

    async def test_damage_costs_what_is_damaged(self, store: SnapshotStore, damage: Damage) -> None:
        """It is left out of lists, is an error to load, and can be deleted."""
        whole, broken = snapshot(), snapshot()
        await store.save(whole)
        await store.save(broken)
        await damage(broken.info.id)
        assert await store.list_snapshots() == [whole.info]
        with pytest.raises(CorruptEntryError):
            await store.load(broken.info.id)
        assert await store.delete(broken.info.id) is True
        with pytest.raises(UnknownSnapshotError):
            await store.load(broken.info.id)
        assert await store.load(whole.info.id) == whole

    async def test_a_history_that_is_not_the_one_that_was_saved_is_an_error(
        self, store: SnapshotStore
    ) -> None:
        """Its digest says so, and its length."""
        for lie in ({"digest": "0" * 64}, {"messages": 2}):
            saved = snapshot(**lie)
            await store.save(saved)
            with pytest.raises(CorruptEntryError, match="messages that it was saved with"):
                await store.load(saved.info.id)

    async def test_one_for_newer_readers_is_no_damage(self, store: SnapshotStore) -> None:
        """Neither in a list nor when it is loaded is it passed over."""
        saved = snapshot(version=FORMAT_VERSION + 1)
        await store.save(saved)
        with pytest.raises(NewerVersionError):
            await store.load(saved.info.id)
        with pytest.raises(NewerVersionError):
            await store.list_snapshots()

    async def test_a_message_for_newer_readers_is_named(self, store: SnapshotStore) -> None:
        """The snapshot can be listed."""
        history = (imported("x").model_copy(update={"version": FORMAT_VERSION + 1}),)
        base = snapshot()
        told = {"messages": 1, "digest": digest_of([])}
        saved = base.model_copy(
            update={"history": history, "info": base.info.model_copy(update=told)}
        )
        await store.save(saved)
        assert await store.list_snapshots() == [saved.info]
        with pytest.raises(NewerVersionError):
            await store.load(saved.info.id)

    async def test_what_cannot_be_stored_is_refused_whole(self, store: SnapshotStore) -> None:
        """Nothing of it is there."""
        base = snapshot()
        deep = imported("x").model_copy(update={"metadata": nested(300)})
        with pytest.raises(UnstorableError):
            await store.save(base.model_copy(update={"history": (deep,)}))
        assert await store.list_snapshots() == []

    async def test_many_at_once_are_all_there(
        self, store: SnapshotStore, elsewhere: SnapshotStore
    ) -> None:
        """Saved from two sides, large ones among them."""
        saved = [snapshot(f"web:{each}", "x", "long " * 20_000) for each in range(12)]
        await asyncio.gather(
            *(side.save(each) for side, each in zip([store, elsewhere] * 6, saved, strict=True))
        )
        listed = await store.list_snapshots()
        assert {info.id for info in listed} == {each.info.id for each in saved}
        assert await elsewhere.load(saved[7].info.id) == saved[7]
