"""Rings on their way to the broker: together, each answered for, none waited for without end."""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from kombu.exceptions import OperationalError

from shared.dispatch.celery import CeleryDispatcher
from shared.errors import BrokerUnavailableError
from shared.ledger.protocol import WakeUp
from shared.settings import Settings
from shared.testing.waiting import eventually

TIMEOUT_S = 0.6


class App:
    """Stands for Celery's app: sends at a speed, hangs or refuses as it is told."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.tried = 0
        self.threads: set[int] = set()
        self.acquired = 0
        self.pause_s = 0.0
        self.refused: set[str] = set()
        self.hanging: set[str] = set()
        self.released = threading.Event()

        self.supports_batch_publish = False
        self._batch: list[str] | None = None

    @contextmanager
    def producer_or_acquire(self) -> Iterator["App"]:
        """It is its own producer."""
        self.acquired += 1
        self.threads.add(threading.get_ident())
        yield self

    @contextmanager
    def batch(self) -> Iterator[None]:
        """What is sent inside is sent when it ends, as far as it gets."""
        batch: list[str] = []
        self._batch = batch
        try:
            yield
        finally:
            self._batch = None
        for run_id in batch:
            self._take(run_id)

    def send_task(self, _task: str, *, args: tuple[str], **_options: Any) -> None:
        [run_id] = args
        if self._batch is None:
            self._take(run_id)
        else:
            self._batch.append(run_id)

    def _take(self, run_id: str) -> None:
        self.tried += 1
        time.sleep(self.pause_s)
        if run_id in self.hanging:
            self.released.wait(10)
        if run_id in self.refused:
            raise OperationalError("no")
        self.sent.append(run_id)

    def close(self) -> None:
        """Nothing to close."""


@pytest.fixture(params=[False, True], ids=["one by one", "together"])
def app(request: pytest.FixtureRequest) -> Iterator[App]:
    app = App()
    app.supports_batch_publish = request.param
    yield app
    app.released.set()


@pytest.fixture
def dispatcher(app: App) -> CeleryDispatcher:
    settings = Settings.model_validate({"broker_timeout_s": TIMEOUT_S})
    return CeleryDispatcher(settings, app)  # type: ignore[arg-type]  # as much of one as it needs


def wake_up(run_id: str) -> WakeUp:
    return WakeUp(run_id, "agent", 5)


async def ring(dispatcher: CeleryDispatcher, run_id: str) -> None:
    await dispatcher.ring([wake_up(run_id)])


async def hang(app: App, dispatcher: CeleryDispatcher) -> "asyncio.Task[None]":
    """A ring with which a thread hangs."""
    app.hanging = {"stuck"}
    stuck = asyncio.create_task(ring(dispatcher, "stuck"))

    async def is_stuck() -> bool:
        return app.tried == 1

    await eventually(is_stuck)
    return stuck


async def test_rings_of_one_moment_go_together(
    app: App, dispatcher: CeleryDispatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the order in which they were given, by one thread; each is sent once."""
    monkeypatch.setattr("shared.dispatch.celery._SLOW_S", 60)  # however busy this machine is
    names = [str(number) for number in range(500)]
    await asyncio.gather(*(ring(dispatcher, name) for name in names))
    assert app.sent == names
    assert len(app.threads) == 1
    assert app.acquired <= 12
    await dispatcher.aclose()


async def test_a_ring_that_is_refused_concerns_its_caller_only(
    app: App, dispatcher: CeleryDispatcher
) -> None:
    app.refused = {"3"}
    names = [str(number) for number in range(8)]
    ended = await asyncio.gather(
        *(ring(dispatcher, name) for name in names), return_exceptions=True
    )
    assert [name for name, error in zip(names, ended, strict=True) if error is not None] == ["3"]
    assert isinstance(ended[3], BrokerUnavailableError)
    once = list(dict.fromkeys(app.sent)) if app.supports_batch_publish else app.sent
    assert once == [name for name in names if name != "3"]


async def test_a_broker_that_refuses_everything_is_not_asked_for_each(
    app: App, dispatcher: CeleryDispatcher
) -> None:
    """Each caller is told; where each try takes its time, they would wait for all of them."""
    names = [str(number) for number in range(50)]
    app.refused = set(names)
    ended = await asyncio.gather(
        *(ring(dispatcher, name) for name in names), return_exceptions=True
    )
    assert {type(error) for error in ended} == {BrokerUnavailableError}
    assert app.tried <= 4 + app.supports_batch_publish


async def test_who_rings_behind_a_thread_that_hangs_does_not_wait_for_it(
    app: App, dispatcher: CeleryDispatcher
) -> None:
    stuck = await hang(app, dispatcher)
    async with asyncio.timeout(TIMEOUT_S - 0.1):
        await ring(dispatcher, "next")
    assert app.sent == ["next"]
    assert not stuck.done()
    with pytest.raises(BrokerUnavailableError, match="AGENTS_BROKER_TIMEOUT_S"):
        await stuck


async def test_a_ring_that_hangs_is_late_though_others_are_sent(
    app: App, dispatcher: CeleryDispatcher
) -> None:
    stuck = await hang(app, dispatcher)
    number = 0
    async with asyncio.timeout(5 * TIMEOUT_S):
        while not stuck.done():
            await ring(dispatcher, f"other-{(number := number + 1)}")
            await asyncio.sleep(0.01)
    assert isinstance(stuck.exception(), BrokerUnavailableError)
    assert len(app.sent) > 1


async def test_rings_behind_a_slow_broker_are_not_late(
    app: App, dispatcher: CeleryDispatcher
) -> None:
    """All together take several times the limit for one; each answer shows that it goes on."""
    app.supports_batch_publish = False
    app.pause_s = 0.02
    names = [str(number) for number in range(100)]
    await asyncio.gather(*(ring(dispatcher, name) for name in names))
    assert sorted(app.sent) == sorted(names)


async def test_who_gives_up_is_not_rung_for(app: App, dispatcher: CeleryDispatcher) -> None:
    """A caller that is cancelled while its ring waits."""
    stuck = await hang(app, dispatcher)
    waiting = asyncio.create_task(ring(dispatcher, "given up"))
    await asyncio.sleep(0.02)
    waiting.cancel()
    await asyncio.wait({waiting})
    app.released.set()
    await stuck
    await ring(dispatcher, "next")
    assert app.sent == ["stuck", "next"]
