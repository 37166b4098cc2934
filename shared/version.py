"""Versions of what is stored and queued: one number for all of it.

Everything stored says which version a reader has to know. That number grows only when an older
reader would misunderstand, so it is no release's number. Added fields leave it alone, since readers
pass over what they do not know. A new meaning, a renamed field, and a new value of an enum or new
type of a part, which older readers cannot know, take the next number.

A release first learns to read a version and a later one begins to write it. So for one release
after another, nobody meets what it cannot read, whoever is updated first. Where somebody does (a
release was left out, or taken back), it says so, and leaves it to those who can.
"""

from typing import Final

FORMAT_VERSION: Final[int] = 2
"""The newest version that this release reads and executes."""
MESSAGE_VERSION: Final[int] = 1
"""The version of the messages that this release writes, as long as they say nothing newer."""
SUMMARY_VERSION: Final[int] = 2
"""The version of a summary, a kind of message that version 1 does not know."""
SEALED_VERSION: Final[int] = 2
"""The version of what is compressed or encrypted, messages and runs, which version 1 would read as
empty."""
SNAPSHOT_VERSION: Final[int] = 1
"""The version of the snapshots that this release saves, as long as they say nothing newer."""
RUN_VERSION: Final[int] = 1
"""The version of the runs that this release submits."""
