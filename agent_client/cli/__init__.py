"""`agent-client`: submit runs, watch them live, find them again, stop them, from a shell.

Only the standard library and typer are loaded before a command runs, so that ``--help`` is quick.
"""

from agent_client.cli.program import app, main

__all__ = ["app", "main"]
