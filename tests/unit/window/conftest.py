"""What tests of windows share."""

from collections.abc import Iterator
from typing import Any, NoReturn

import pytest
import structlog


def _drop(*_: Any) -> NoReturn:
    raise structlog.DropEvent


@pytest.fixture(autouse=True, scope="package")
def quiet_log() -> Iterator[None]:
    """Thousands of windows are built here; a test that wants to hear of them captures the log."""
    structlog.configure(processors=[_drop])
    yield
    structlog.reset_defaults()
