"""A program of this project as a later release would have it: it reads and writes one version more.

    python -m tests.newer_release MODULE [ARGUMENT...]

runs `python -m MODULE ARGUMENT...` with the versions raised before anything else is imported.
"""

import runpy
import sys

import shared.version

NEWER = shared.version.FORMAT_VERSION + 1


def main() -> None:
    """Raise the versions, then become the program."""
    names = ("FORMAT_VERSION", "MESSAGE_VERSION", "RUN_VERSION")
    vars(shared.version).update(dict.fromkeys(names, NEWER))
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
