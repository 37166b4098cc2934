"""The announcement: what a worker says about itself, and through which queues it is rung."""

import os
import re
import secrets
import socket
from collections.abc import Iterable
from datetime import datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from agent_worker.definition import AgentDefinition
from shared.run import AgentInfo, WorkerInfo
from shared.settings import Settings
from shared.version import FORMAT_VERSION

PACKAGE: Final = "celery-agents"
_HOST_LENGTH: Final = 100


def new_worker_id() -> str:
    """A new id: host, process and a random part, since process ids come again."""
    host = re.sub(r"[^A-Za-z0-9]+", "-", socket.gethostname())[:_HOST_LENGTH].strip("-") or "host"
    return f"{host}-{os.getpid()}-{secrets.token_hex(4)}"


def announce(
    worker_id: str,
    definitions: Iterable[AgentDefinition],
    settings: Settings,
    *,
    started_at: datetime,
    active_runs: int,
) -> WorkerInfo:
    """The worker in this process, as others may see it."""
    return WorkerInfo(
        id=worker_id,
        hostname=socket.gethostname(),
        pid=os.getpid(),
        version=_version(),
        concurrency=settings.concurrency,
        agents=tuple(_announce_agent(definition, settings) for definition in definitions),
        started_at=started_at,
        active_runs=active_runs,
        format_version=FORMAT_VERSION,
    )


def queues_of(definitions: Iterable[AgentDefinition], settings: Settings) -> list[str]:
    """The Celery queues that a worker consumes: those that clients ring for its agents."""
    return sorted({settings.queue_of(definition.name) for definition in definitions})


def _announce_agent(definition: AgentDefinition, settings: Settings) -> AgentInfo:
    announced = {"name": definition.name, "queue": settings.queue_of(definition.name)}
    return definition.engine.info.model_copy(update=announced)


@cache
def _version() -> str:
    try:
        return version(PACKAGE)
    except PackageNotFoundError:
        return "0+source"  # run from a checkout that is not installed
