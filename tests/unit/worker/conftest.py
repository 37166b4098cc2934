"""What tests of the worker share."""

from collections.abc import AsyncIterator, Iterator

import pytest
import structlog

from tests.unit.worker.stage import Stage


@pytest.fixture(autouse=True)
def plain_log() -> Iterator[None]:
    """Print entries on one line each: coloured tracebacks take seconds."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.format_exc_info,
            structlog.processors.KeyValueRenderer(),
        ]
    )
    yield
    structlog.reset_defaults()


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    stage = Stage()
    yield stage
    await stage.aclose()
