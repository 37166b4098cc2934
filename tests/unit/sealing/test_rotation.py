"""A key is rotated, as docs/encryption.md says it step by step."""

import pytest

from shared.conversation.protocol import Writer
from shared.errors import SealKeyError
from shared.sealing.rotation import keys_in_use, resealed
from shared.testing.conversation.value import imported, message, messages, texts
from tests.unit.sealing.scene import encrypted, memory_store, ring


async def test_rotation_step_by_step() -> None:
    """At each step, processes of the step before and of the step after read everything."""
    below = memory_store()
    old = encrypted(below, ring("old"))
    await old.append("room", [imported("1")])

    reads_new = encrypted(below, ring("old", "new"))  # 1. the new key is added behind the old one
    await reads_new.append("room", [imported("2")])
    assert texts(await old.list_messages("room")) == ["1", "2"]

    writes_new = encrypted(below, ring("new", "old"))  # 2. it goes first
    await writes_new.append("room", [imported("3")])
    assert texts(await reads_new.list_messages("room")) == ["1", "2", "3"]
    with pytest.raises(SealKeyError):  # who was left out in step 1
        await old.list_messages("room")
    assert await keys_in_use(writes_new, "room") == {"old": 2, "new": 1}

    archive = memory_store()  # 3. what shall outlive the old key is written anew
    kept = encrypted(archive, ring("new", "old"))
    await kept.append("room", await writes_new.list_messages("room"))
    assert await keys_in_use(kept, "room") == {"new": 3}

    done = encrypted(archive, ring("new"))  # 4. the old key is removed
    assert texts(await done.list_messages("room")) == ["1", "2", "3"]


async def test_a_message_is_encrypted_anew_for_its_place() -> None:
    """For stores that can put it where it was: same cursor, same place, another key."""
    below, target = memory_store(), memory_store()
    long = message("run-1", 0, "words " * 500)
    await encrypted(below, ring("old")).append("room", [long], writer=Writer("run-1", 1))
    [before] = await below.list_messages("room")
    after = resealed(before, "room", ring("new", "old"))
    assert (after.cursor, after.id, after.created_at) == (
        before.cursor,
        before.id,
        before.created_at,
    )
    assert after.sealed is not None
    assert before.sealed is not None
    assert (after.sealed.key_id, after.sealed.layers) == ("new", before.sealed.layers)
    assert resealed(after, "room", ring("new", "old")) is after
    await target.append("room", [after], writer=Writer("run-1", 1))
    assert texts(await encrypted(target, ring("new")).list_messages("room")) == [long.text]
    with pytest.raises(SealKeyError):
        resealed(before, "room", ring("new"))


async def test_keys_are_counted_over_pages() -> None:
    """Also what is not encrypted, and without any key."""
    below = memory_store()
    await below.append("room", [imported("plain")])
    await encrypted(below, ring("old")).append("room", messages("run-1", range(600)))
    await encrypted(below, ring("new")).append("room", messages("run-2", range(601)))
    assert await keys_in_use(below, "room") == {None: 1, "old": 600, "new": 601}
    assert await keys_in_use(below, "nowhere") == {}
