"""Notifications among the threads, event loops and processes of one machine, without a server.

Within a process a hint is pushed at once. What other processes change is seen by a look at the
place where it is stored, every `LOOK_S`, and only while somebody watches.
"""

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Hashable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Final, Protocol

import structlog

from shared.blocking_work import BlockingWork
from shared.notification.bell import Bell
from shared.notification.listener import Listener, closed_error

LOOK_S: Final = 0.05
"""How often somebody looks for changes by other processes."""

MISSED: Final = ""
"""The payload that listeners get for what another process published."""

log = structlog.get_logger()


class Lookout(Protocol):
    """Sees what other processes have changed. It blocks; one thread at a time calls it."""

    def narrow(self, topics: Collection[str]) -> Collection[str]:
        """Those of `topics` that may have changed since the last call. Cheap where none has."""
        ...

    def look(self, topics: Collection[str]) -> Mapping[str, Hashable]:
        """The present state of each topic: equal for as long as nothing was changed."""
        ...


class LocalNotifications:
    """See `Notifications`. For any number of threads and event loops.

    `work` is where blocking looks are done for who subscribes; it stays its owner's.
    """

    def __init__(self, lookout: Lookout, work: BlockingWork, *, look_s: float = LOOK_S) -> None:
        self._lookout = lookout
        self._work = work
        self._look_s = look_s
        self._lock = threading.Lock()
        self._looking = threading.Lock()
        self._watchers: dict[str, set[_Watcher]] = {}
        self._states: dict[str, Hashable] = {}
        """Of each watched topic: the state that its watchers were last told about."""
        self._fresh: set[str] = set()
        """Watched since the last look around, which may have noticed a change before."""
        self._watch: threading.Thread | None = None
        self._is_over = threading.Event()

    def publish(self, topic: str, payload: str, *, before: Hashable, after: Hashable) -> None:
        """Tell everybody in this process of a change that this process has made.

        `before` and `after` are the states of the topic around it, so that it is not taken for one
        of another process as well. Never blocks.
        """
        with self._lock:
            watchers = self._watchers.get(topic)
            if watchers is None:
                return
            if self._states.get(topic) != before:
                _tell(watchers, MISSED)
            self._states[topic] = after
            _tell(watchers, payload)

    @asynccontextmanager
    async def subscribe(
        self, topic: str, *, bell: Bell | None = None
    ) -> AsyncGenerator[Listener, None]:
        """Listen to a topic; see `Notifications.subscribe`."""
        watcher = _Watcher(Listener(bell=bell))
        await self._add(topic, watcher)
        try:
            yield watcher.listener
        finally:
            self._remove(topic, watcher)

    @asynccontextmanager
    async def listen(self, topic: str) -> AsyncGenerator[AsyncIterator[str], None]:
        """Every payload of a topic; an empty one for each change by another process."""
        watcher = _Watcher(Listener(keeps_payloads=True))
        await self._add(topic, watcher)
        try:
            yield watcher.listener.every_payload()
        finally:
            self._remove(topic, watcher)

    async def aclose(self) -> None:
        """End every subscription; see `Notifications.aclose`."""
        with self._lock:
            self._is_over.set()
            for watchers in self._watchers.values():
                for watcher in watchers:
                    watcher.close()
            watch, self._watch = self._watch, None
        if watch is not None:
            # Its looks are short, but who closes a store wants nobody to use it from then on.
            await asyncio.get_running_loop().run_in_executor(None, watch.join)

    async def _add(self, topic: str, watcher: "_Watcher") -> None:
        with self._lock:
            self._check_open()
            self._watchers.setdefault(topic, set()).add(watcher)
            is_known = topic in self._states
        try:
            if not is_known:
                # What is changed from here on differs from this state, or from a later one that
                # `publish` or another subscriber came with meanwhile.
                state = await self._work.run(self._look_at, topic)
                with self._lock:
                    self._states.setdefault(topic, state)
                    self._fresh.add(topic)
            self._start_watch()
        except BaseException:
            self._remove(topic, watcher)
            raise

    def _look_at(self, topic: str) -> Hashable:
        with self._looking:
            return self._lookout.look([topic]).get(topic)

    def _remove(self, topic: str, watcher: "_Watcher") -> None:
        with self._lock:
            watchers = self._watchers[topic]
            watchers.discard(watcher)
            if not watchers:
                del self._watchers[topic]
                self._states.pop(topic, None)
                self._fresh.discard(topic)

    def _start_watch(self) -> None:
        with self._lock:
            self._check_open()
            if self._watch is None or not self._watch.is_alive():
                # A daemon: a program that forgot to close its store still ends.
                self._watch = threading.Thread(
                    target=self._keep_watch, name="conversations:lookout", daemon=True
                )
                self._watch.start()

    def _keep_watch(self) -> None:
        """Look again and again, until nobody watches."""
        is_failing = False
        while not self._is_over.wait(self._look_s):
            with self._lock:
                if not self._watchers:
                    self._watch = None
                    return
            try:
                self._tell_changes()
                is_failing = False
            except Exception as error:  # noqa: BLE001 - whatever it is, watchers would hear nothing more
                if not is_failing:
                    log.warning("notifications.blind", error=str(error), retry_s=self._look_s)
                    self._tell_all()
                is_failing = True

    def _tell_changes(self) -> None:
        with self._lock:
            topics, fresh = list(self._states), self._fresh
            self._fresh = set()
        with self._looking:
            seen = self._lookout.look({*self._lookout.narrow(topics), *fresh})
        with self._lock:
            for topic, state in seen.items():
                if topic in self._states and self._states[topic] != state:
                    self._states[topic] = state
                    _tell(self._watchers.get(topic, ()), MISSED)

    def _tell_all(self) -> None:
        """Let all watchers look for themselves; they are told then what is wrong."""
        with self._lock:
            for watchers in self._watchers.values():
                _tell(watchers, MISSED)

    def _check_open(self) -> None:
        if self._is_over.is_set():
            raise closed_error()


class _Watcher:
    """One subscriber, in the event loop in which it was made. Told from any thread."""

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self._loop = asyncio.get_running_loop()

    def hear(self, payload: str) -> None:
        """Something was published. From any thread."""
        with suppress(RuntimeError):  # its loop is closed, so nobody waits there any more
            self._loop.call_soon_threadsafe(self.listener.hear, payload)

    def close(self) -> None:
        """Nothing will be published any more. From any thread."""
        with suppress(RuntimeError):  # as above
            self._loop.call_soon_threadsafe(self.listener.close)


def _tell(watchers: Collection[_Watcher], payload: str) -> None:
    for watcher in watchers:
        watcher.hear(payload)
