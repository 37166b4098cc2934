"""What every source of notifications guarantees."""

import asyncio

import pytest

from shared.backend import Backend
from shared.errors import StoreUnavailableError
from shared.testing.conversation.value import conversation_name, imported


class NotificationsContract:
    """Hints are remembered, shared and ended. They are made by appending to a conversation."""

    async def test_a_hint_between_read_and_wait_is_remembered(self, backend: Backend) -> None:
        """Who subscribes, reads and then waits misses nothing, however late the wait begins."""
        store, name = backend.conversations, conversation_name()
        async with store.notifications.subscribe(store.topic(name)) as hints:
            await store.append(name, [imported("x")])
            assert await hints.wait(1)

    async def test_a_wait_ends_when_something_is_published(
        self, backend: Backend, elsewhere: Backend
    ) -> None:
        """A waiter that began earlier is woken, long before its time is over."""
        store, name = backend.conversations, conversation_name()
        async with store.notifications.subscribe(store.topic(name)) as hints:
            while await hints.wait(0.05):
                pass
            waiting = asyncio.create_task(hints.wait(30))
            await asyncio.sleep(0)
            await elsewhere.conversations.append(name, [imported("x")])
            async with asyncio.timeout(5):
                assert await waiting

    async def test_a_wait_without_a_hint_ends_in_time(self, backend: Backend) -> None:
        """Nothing published: False, and a hint is used up by the wait that answered it."""
        store, name = backend.conversations, conversation_name()
        async with store.notifications.subscribe(store.topic(name)) as hints:
            await store.append(name, [imported("x")])
            await store.append(name, [imported("y")])
            while await hints.wait(0.1):
                pass
            assert not await hints.wait(0.05)

    async def test_every_subscriber_of_a_topic_gets_its_own_hint(self, backend: Backend) -> None:
        """One watcher's wait takes nothing from another's; one that left disturbs nobody."""
        store, name = backend.conversations, conversation_name()
        subscribe, topic = store.notifications.subscribe, store.topic(name)
        async with subscribe(topic) as first:
            async with subscribe(topic) as second:
                await store.append(name, [imported("x")])
                assert await first.wait(1)
                assert await second.wait(1)
            while await first.wait(0.05):
                pass
            await store.append(name, [imported("y")])
            assert await first.wait(1)

    async def test_listeners_get_every_payload_in_order(self, backend: Backend) -> None:
        """Two listeners each hear everything that is published, as it was published."""
        store, name = backend.conversations, conversation_name()
        listen, topic = store.notifications.listen, store.topic(name)
        async with listen(topic) as first, listen(topic) as second:
            cursors = []
            for number in range(20):
                cursors += await store.append(name, [imported(str(number))])
            for payloads in (first, second):
                heard: list[str] = []
                async with asyncio.timeout(5):
                    async for payload in payloads:
                        # An empty payload says that the connection is new.
                        heard += [payload] if payload else []
                        if len(heard) == len(cursors):
                            break
                assert heard == cursors

    async def test_many_topics_can_be_watched(self, backend: Backend) -> None:
        """Each of 300 watchers hears of its own topic."""
        store = backend.conversations
        names = [conversation_name() for _ in range(300)]

        async def watch(name: str) -> bool:
            async with store.notifications.subscribe(store.topic(name)) as hints:
                while not await store.list_messages(name):
                    await hints.wait(10)
            return True

        watchers = [asyncio.create_task(watch(name)) for name in names]
        for name in names:
            await store.append(name, [imported("x")])
        async with asyncio.timeout(20):
            assert all(await asyncio.gather(*watchers))

    async def test_closing_ends_waits_and_listeners(self, backend: Backend) -> None:
        """Nobody is left waiting for what cannot come any more; closing twice is harmless."""
        store, topic = backend.conversations, backend.conversations.topic(conversation_name())
        heard: list[str] = []
        is_listening = asyncio.Event()

        async def listen() -> None:
            async with store.notifications.listen(topic) as payloads:
                is_listening.set()
                heard.extend([payload async for payload in payloads])

        async def watch() -> None:
            async with store.notifications.subscribe(topic) as hints:
                while True:
                    await hints.wait(30)

        listener, watcher = asyncio.create_task(listen()), asyncio.create_task(watch())
        await is_listening.wait()
        await backend.aclose()
        await backend.aclose()
        async with asyncio.timeout(5):
            await listener
            with pytest.raises(StoreUnavailableError):
                await watcher
        with pytest.raises(StoreUnavailableError):
            async with store.notifications.subscribe(topic):
                pass
