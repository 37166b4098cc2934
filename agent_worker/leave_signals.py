"""The signals by which a process is told to leave; `agent_worker.worker` says what each means."""

import signal
from typing import Final

LEAVE_SIGNALS: Final = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT)
URGENT_SIGNALS: Final = frozenset({signal.SIGINT, signal.SIGQUIT})
"""Those that a person repeats who does not want to wait."""
