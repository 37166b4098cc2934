"""The conversation stores that the contract runs over, each with what the tests need of it.

A store of a new kind gets a module in this folder and a line in `STORES`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import pytest

from tests.contract.stores.backend import open_cluster, open_memory, open_redis
from tests.contract.stores.harness import StoreHarness
from tests.contract.stores.local import open_file, open_sqlite
from tests.contract.stores.openai import open_openai, open_openai_sqlite
from tests.contract.stores.postgres import open_postgres_stores
from tests.contract.stores.sealed import WRAPPED


@dataclass(frozen=True, slots=True)
class Kind:
    """How stores of one kind are opened; `is_service` for those that need a server."""

    open: Callable[[pytest.FixtureRequest], StoreHarness]
    is_service: bool = False


STORES: Final[Mapping[str, Kind]] = MappingProxyType(
    {
        "memory": Kind(open_memory),
        "file": Kind(open_file),
        "sqlite": Kind(open_sqlite),
        "redis": Kind(open_redis, is_service=True),
        "cluster": Kind(open_cluster, is_service=True),
        **{name: Kind(opener, is_service=service) for name, (opener, service) in WRAPPED.items()},
        "postgres": Kind(open_postgres_stores, is_service=True),
        "openai": Kind(open_openai),
        "openai+sqlite": Kind(open_openai_sqlite),
    }
)
