"""A ring as it lies on the queue: what a worker may take from a message that anybody can have put.

It is the message that Celery writes for ``wake(run_id)`` (protocol 2): ``[[run_id], {}, {...}]`` as
JSON, and the task's name in a header. Everything else that Celery understands (times to wait for,
tasks to call afterwards, results to report, other tasks) is not even looked at.
"""

import json
from collections.abc import Mapping
from typing import Final

from shared.celery_app import WAKE_TASK
from shared.errors import CorruptEntryError
from shared.identifier import is_run_id

MAX_RING_BYTES: Final = 10_000
"""A ring has some two hundred. What is longer is not worth reading."""

_ENCODINGS: Final = ("utf-8", "us-ascii")


def read_ring(
    body: object, headers: object, *, content_type: object, content_encoding: object
) -> str:
    """The run id in a message.

    Raises:
        CorruptEntryError: It is no ring; the error says why, in a few words and without its text.
    """
    if not isinstance(headers, Mapping) or headers.get("task") != WAKE_TASK:
        raise CorruptEntryError("it names another task, or none")
    if content_type != "application/json" or str(content_encoding).lower() not in _ENCODINGS:
        raise CorruptEntryError("it is not JSON in UTF-8")
    if not isinstance(body, str | bytes) or len(body) > MAX_RING_BYTES:
        raise CorruptEntryError(f"its body is longer than {MAX_RING_BYTES} bytes")
    try:
        arguments = json.loads(body)[0]
    except (ValueError, RecursionError, LookupError, TypeError) as error:
        raise CorruptEntryError("its body is not that of a task") from error
    if not isinstance(arguments, list) or len(arguments) != 1 or not is_run_id(arguments[0]):
        raise CorruptEntryError("its argument is not one run id")
    return str(arguments[0])
