"""The garbage collector, set for a process that holds many runs."""

import gc
from typing import Final

COLLECT_EVERY: Final = 20_000
"""Objects that are made between two collections. Python's own value is a few hundred: with hundreds
of runs in flight, whose objects live for long and are looked through again and again, a quarter of
a worker's time would go there."""


def tune_collector() -> None:
    """Leave alone what is there now, and collect less often. Call it once all is imported.

    What has been set before is heeded: a collector that is off stays off, one that collects less
    often yet stays as it is.
    """
    gc.collect()
    gc.freeze()
    every, *older = gc.get_threshold()
    if 0 < every < COLLECT_EVERY:
        gc.set_threshold(COLLECT_EVERY, *older)
