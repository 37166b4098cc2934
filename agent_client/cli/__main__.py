"""``python -m agent_client.cli``: the same as ``agent-client``."""

from agent_client.cli.program import main

main()
