"""Text deltas: an answer, a few times a second, while the model is still writing it."""

import asyncio
from contextlib import suppress
from typing import Final

import structlog

from shared.errors import UnavailableError, WriterError
from shared.event import DeltaEvent
from shared.ledger.protocol import RunLedger
from shared.run import Lease

BATCH_S: Final = 0.03
"""Pieces that come within this time travel together: smooth for the eye, cheap for the store."""

log = structlog.get_logger()


class DeltaStream:
    """Publishes pieces of text in order and in batches, one batch at a time.

    Deltas are a courtesy: what cannot be published is dropped, and the run goes on. A worker that
    lost the run is told so by its next append.
    """

    def __init__(self, ledger: RunLedger, lease: Lease) -> None:
        self._ledger = ledger
        self._lease = lease
        self._pieces: list[str] = []
        self._position = 0
        self._hurry = asyncio.Event()
        self._sender: asyncio.Task[None] | None = None

    def push(self, text: str, *, position: int) -> None:
        """Add a piece of the message that will be stored at `position`.

        Pieces of different positions never meet in here, since a `flush` lies between them.
        """
        self._pieces.append(text)
        self._position = position
        if self._sender is None or self._sender.done():
            self._sender = asyncio.create_task(self._drain(), name=f"deltas:{self._lease.run.id}")

    async def flush(self) -> None:
        """Return when everything that was pushed is published or dropped."""
        if self._sender is None or self._sender.done():
            return
        self._hurry.set()
        try:
            await asyncio.wait({self._sender})
        finally:
            self._hurry.clear()

    async def aclose(self) -> None:
        """Drop what is not published yet."""
        self._pieces.clear()
        if self._sender is not None:
            self._sender.cancel()
            await asyncio.wait({self._sender})

    async def _drain(self) -> None:
        while self._pieces:
            with suppress(TimeoutError):
                async with asyncio.timeout(BATCH_S):
                    await self._hurry.wait()
            await self._send()

    async def _send(self) -> None:
        run = self._lease.run
        text = "".join(self._pieces)
        self._pieces.clear()
        delta = DeltaEvent(run_id=run.id, text=text, position=self._position, attempt=run.attempts)
        try:
            await self._ledger.publish(self._lease, [delta])
        except (UnavailableError, WriterError) as error:
            log.debug("delta.dropped", position=delta.position, error=type(error).__name__)
        except Exception:  # a courtesy must not cost the run, whatever is wrong with it
            log.exception("delta.broken", position=delta.position)
