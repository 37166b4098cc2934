"""A register in a conversation store: of several who change it at once, one does."""

import asyncio
from dataclasses import replace

import pytest

from shared.conversation.memory import MemoryConversationStore
from shared.conversation.register import Register, hidden_history
from shared.errors import StoreUnavailableError
from shared.identifier import is_alone, is_run_id
from shared.notification.memory import MemoryNotifications

HISTORY = hidden_history("test", "web:ada")


@pytest.fixture
def store() -> MemoryConversationStore:
    return MemoryConversationStore(MemoryNotifications())


@pytest.fixture
def register(store: MemoryConversationStore) -> Register:
    return Register(store, HISTORY)


def test_a_hidden_history_is_nobodys_conversation() -> None:
    """It looks like the history of a run that is alone; purposes and names are apart."""
    assert is_alone(HISTORY)
    assert is_run_id(HISTORY[1:])
    assert hidden_history("test", "web:ada") == HISTORY
    assert len({HISTORY, hidden_history("test", "b"), hidden_history("other", "web:ada")}) == 3


async def test_a_value_is_swapped_if_nobody_did_before(
    register: Register, store: MemoryConversationStore
) -> None:
    """Who read an older value is told, and what was written before goes."""
    first = await register.read()
    assert first.value is None
    assert await register.swap(first, {"a": 1})
    second = await register.read()
    assert second.value == {"a": 1}
    assert not await register.swap(first, {"b": 1})
    assert await register.swap(second, None)
    assert await register.swap(await register.read(), [2])
    assert (await register.read()).value == [2]
    assert await store.count(HISTORY) == 1


async def test_of_many_who_swap_at_once_each_does_it_once(
    register: Register, store: MemoryConversationStore
) -> None:
    """Ten count to ten together, each in steps that others come in between of."""

    async def count() -> None:
        own = Register(store, HISTORY)
        done = 0
        while done < 10:
            held = await own.read()
            await asyncio.sleep(0)
            number = held.value if isinstance(held.value, int) else 0
            done += await own.swap(held, number + 1)

    await asyncio.gather(*(count() for _ in range(10)))
    assert (await register.read()).value == 100


async def test_who_was_overtaken_behind_its_swap_has_swapped(
    register: Register, store: MemoryConversationStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others went on from its value, and removed it, before it looked."""
    held = await register.read()
    append = store.append

    async def append_and_be_overtaken(*args: object, **kwargs: object) -> list[str]:
        cursors = await append(*args, **kwargs)  # type: ignore[arg-type]
        monkeypatch.setattr(store, "append", append)
        for number in range(5):
            assert await register.swap(await register.read(), number)
        return cursors

    monkeypatch.setattr(store, "append", append_and_be_overtaken)
    assert await register.swap(held, "mine")
    assert (await register.read()).value == 4


async def test_after_a_lost_answer_the_value_is_there_or_not(
    register: Register, store: MemoryConversationStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who reads again knows, and can go on."""
    append = store.append

    async def lose(*args: object, **kwargs: object) -> list[str]:
        await append(*args, **kwargs)  # type: ignore[arg-type]
        raise StoreUnavailableError("lost")

    held = await register.read()
    with monkeypatch.context() as patch:
        patch.setattr(store, "append", lose)
        with pytest.raises(StoreUnavailableError):
            await register.swap(held, 1)
    again = await register.read()
    assert again.value == 1
    assert not await register.swap(held, 1)
    assert await register.swap(again, 2)


async def test_a_damaged_value_does_not_stop_the_next_one(
    register: Register, store: MemoryConversationStore
) -> None:
    """It is lost, and the register goes on behind it."""
    assert await register.swap(await register.read(), 1)
    entries = store._logs[HISTORY].entries
    entries[-1] = replace(entries[-1], stored="{")
    held = await register.read()
    assert held.value is None
    assert await register.swap(held, 2)
    assert (await register.read()).value == 2
