"""A whole system on this machine, for the length of a `with` block: Redis and workers."""

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from agent_worker.testing import WorkerProcess
from shared.embedded_redis import EmbeddedRedis
from shared.settings import Settings

REPOSITORY = Path(__file__).parents[1]


@dataclass(frozen=True)
class System:
    """Where everything is."""

    settings: Settings
    workers: Sequence[WorkerProcess]


@contextmanager
def run_system(
    module: str,
    *,
    workers: int = 1,
    environment: Mapping[str, str] | None = None,
    arguments: Sequence[str] = (),
) -> Iterator[System]:
    """Start Redis (unless AGENTS_REDIS_URL names one) and `workers` processes that serve `module`.

    Every system has a key prefix of its own, so that nothing is shared with anything else.
    """
    with ExitStack() as stack:
        url = os.environ.get("AGENTS_REDIS_URL") or stack.enter_context(EmbeddedRedis()).url
        prefix = f"bench-{os.getpid()}"
        settings = Settings.model_validate({"redis_url": url, "key_prefix": prefix})
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="agents-bench-")))
        processes = [
            WorkerProcess(
                module,
                environment={
                    "AGENTS_REDIS_URL": url,
                    "AGENTS_KEY_PREFIX": prefix,
                    **(environment or {}),
                },
                arguments=arguments,
                cwd=REPOSITORY,
                log_path=logs / f"worker-{number}.log",
            )
            for number in range(workers)
        ]
        for process in processes:
            stack.callback(process.stop)
            process.start()
        for process in processes:
            process.wait_ready()
        yield System(settings, processes)
