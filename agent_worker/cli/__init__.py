"""`agent-worker`: start a worker, list what it would serve, ask whether one lives.

Celery, Redis and the agents themselves are loaded by the commands that need them, so that a health
check costs little.
"""

from agent_worker.cli.program import app, main

__all__ = ["app", "main"]
