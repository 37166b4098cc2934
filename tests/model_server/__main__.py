"""`python -m tests.model_server`: serves until it is stopped; the first line is the URL."""

import argparse
import sys
from itertools import chain
from pathlib import Path

from tests.model_server.app import create_app
from tests.model_server.behaviour import DEFAULT_RETRY_AFTER_S
from tests.model_server.recording import RecordingError, load_recordings
from tests.model_server.server import HOST, bind, serve


def main() -> None:
    """Serve as the arguments say; exit with a message where a recording cannot be replayed."""
    options = _parse_arguments()
    try:
        app = create_app(
            chain.from_iterable(load_recordings(path) for path in options.recordings),
            latency_s=options.latency_s,
            chunk_delay_s=options.chunk_delay_s,
            retry_after_s=options.retry_after_s,
            keep_requests=options.keep_requests,
        )
    except (RecordingError, OSError) as failure:
        sys.exit(str(failure))
    listener = bind(options.port)
    sys.stdout.write(f"http://{HOST}:{listener.getsockname()[1]}\n")
    sys.stdout.flush()  # whoever started the server waits for this line
    serve(app, listener)


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.model_server", description="A stand-in for a chat-completions server."
    )
    add = parser.add_argument
    add("--port", type=int, default=0, help="0, the default, takes a free one")
    add("--recordings", type=Path, action="append", default=[], help="JSON lines; repeatable")
    add("--latency-s", type=float, default=0.0, help="seconds before every answer")
    add("--chunk-delay-s", type=float, default=0.0, help="seconds after every streamed chunk")
    add("--retry-after-s", type=float, default=DEFAULT_RETRY_AFTER_S, help="header of a 429")
    add("--keep-requests", type=int, default=0, help="how many bodies GET /requests shows")
    return parser.parse_args()


if __name__ == "__main__":
    main()
