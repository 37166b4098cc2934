"""Points at which a worker dies as by kill -9, once, when a test has asked for it.

A worker is given this module beside those of its agents. It wraps what the worker calls of its
stores; all else, the worker's own code above all, is as it is. `tests.traces.arm` asks for a death:

    before-<call>, after-<call>    of lease, finish, hand_over (ledger); claim, retract (history)
    before-append-<n>, after-append-<n>    of the append that begins at position n of a run
"""

import os
import signal
from collections.abc import Awaitable, Callable
from functools import wraps
from pathlib import Path
from typing import Any

from shared.conversation.postgres import PostgresConversationStore
from shared.conversation.redis import RedisConversationStore
from shared.ledger.redis import RedisRunLedger
from tests.traces import FOLDER, trap


def reach(point: str) -> None:
    """Die, if this is the point and no other worker was faster."""
    try:
        trap(Path(os.environ[FOLDER]), point).unlink()
    except FileNotFoundError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


def _wrap(owner: type, name: str) -> None:
    call: Callable[..., Awaitable[Any]] = getattr(owner, name)

    @wraps(call)
    async def mortal(*args: Any, **options: Any) -> Any:
        point = f"append-{args[2][0].position}" if name == "append" else name
        reach(f"before-{point}")
        answer = await call(*args, **options)
        if name != "lease" or answer is not None:
            reach(f"after-{point}")
        return answer

    setattr(owner, name, mortal)


for _name in ("lease", "finish", "hand_over"):
    _wrap(RedisRunLedger, _name)
for _name in ("claim", "append", "retract"):
    _wrap(RedisConversationStore, _name)
    _wrap(PostgresConversationStore, _name)
