"""The commands; see the package."""

import argparse
import io
import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Final, NoReturn

from agent_client import AgentsError
from examples.quickstart.left_running import LeftRunning
from examples.quickstart.show import show_once
from examples.quickstart.system import INTERRUPTIONS

COMMANDS: Final[dict[str, Callable[[], int]]] = {
    "run": show_once,
    "up": LeftRunning().bring_up,
    "down": LeftRunning().take_down,
}
_INTERRUPTED: Final = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m examples.quickstart")
    parser.add_argument("command", nargs="?", default="run", choices=COMMANDS)
    command = COMMANDS[parser.parse_args(arguments).command]
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # not every terminal has a ✓
    for number in INTERRUPTIONS:
        signal.signal(number, _interrupt_once)
    try:
        return command()
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        return _INTERRUPTED
    except AgentsError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1


def _interrupt_once(_number: int, _frame: FrameType | None) -> NoReturn:
    """Like Ctrl-C by default, but a second one, out of impatience, cannot break the clearing up."""
    for number in INTERRUPTIONS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
