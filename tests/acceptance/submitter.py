"""A client process that submits runs to one conversation, one after the other, as fast as it can.

    python -m tests.acceptance.submitter CONVERSATION COUNT METADATA

Says `ready` when it is connected, and begins when it reads a line. Then it writes, for each run,
its id and when `submit` was called and had returned, by the clock that all processes share.
"""

import json
import sys
import time

from agent_client import AgentClient


def main() -> None:
    """Submit the runs."""
    conversation_id, count, metadata = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
    with AgentClient() as client:
        client.workers()
        say("ready")
        sys.stdin.readline()
        for number in range(count):
            called = time.monotonic_ns()
            run = client.submit(
                "chat", f"{number}", conversation_id=conversation_id, metadata=metadata
            )
            returned = time.monotonic_ns()
            say(json.dumps({"id": run.id, "called": called, "returned": returned}))


def say(line: str) -> None:
    """Tell whoever started this process."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
