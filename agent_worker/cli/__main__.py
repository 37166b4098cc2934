"""``python -m agent_worker.cli``: the same as ``agent-worker``."""

from agent_worker.cli.program import main

main()
