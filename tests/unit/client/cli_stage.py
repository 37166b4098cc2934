"""`agent-client` over stores in memory, and what a puppet plays when it is rung."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from typer.testing import CliRunner, Result

from agent_client import AsyncAgentClient, Settings
from agent_client.cli import app
from agent_client.cli.exit_code import ExitCode
from shared.ledger.protocol import WakeUp
from shared.memory_backend import build_memory_backend
from shared.message import Draft, MessageKind, Role, ToolCall, tool_result_draft
from shared.run import Ending, Run, RunError, RunStatus
from tests.unit.client.puppet import AGENT, COMPLETED, Doorbell, Puppet

CONVERSATION = "web:ada"
CALL = ToolCall(id="c1", name="search", arguments='{"query": "rings"}')
ASKS = Draft(role=Role.ASSISTANT, kind=MessageKind.TOOL_CALL, tool_calls=(CALL,))
FAILED = Ending(status=RunStatus.FAILED, error=RunError(code="model_error", message="It broke."))
HOSTILE = "\x1b]0;pwned\x07\x1b[2J[bold]text[/bold]\x9b1m"

Play = Callable[[Puppet, str], Awaitable[None]]


class Stage(Doorbell):
    """The commands over stores in memory, and a puppet that plays when it is rung."""

    def __init__(self) -> None:
        super().__init__()
        self.backend = build_memory_backend(Settings())
        self.puppet = Puppet(self.backend)
        self.play: Play | None = None
        self._playing: set[asyncio.Task[None]] = set()

    async def ring(self, wake_ups: Sequence[WakeUp]) -> None:
        await super().ring(wake_ups)
        if self.play is not None:
            for wake_up in wake_ups:
                self._playing.add(asyncio.ensure_future(self._play(self.play, wake_up.run_id)))

    async def _play(self, play: Play, run_id: str) -> None:
        await self.puppet.take(run_id)
        await play(self.puppet, run_id)

    def client(self, settings: Settings) -> AsyncAgentClient:
        return AsyncAgentClient(settings, backend=self.backend, dispatcher=self, reconnect_s=1.0)

    def invoke(self, *arguments: str, stdin: str | bytes | None = None) -> Result:
        """Run a command as a shell would, with a worker alive."""
        asyncio.run(self.puppet.beat())
        return CliRunner().invoke(app, list(arguments), input=stdin, obj=self.client)

    def submit(self, text: str = "hello", *arguments: str) -> str:
        """Submit a run that nobody executes yet; return its id."""
        result = self.invoke("submit", AGENT, text, "--detach", *arguments)
        assert result.exit_code == ExitCode.OK, result.output
        return result.stdout.strip()

    def record(self, run_id: str) -> Run:
        return asyncio.run(self.backend.ledger.get(run_id))


async def answer(puppet: Puppet, run_id: str) -> None:
    """A run of two rounds, with one tool call."""
    await puppet.whisper(run_id, "I loo", "k.")
    await puppet.write(run_id, ASKS)
    await puppet.write(run_id, tool_result_draft(CALL, "found"))
    await puppet.say(run_id, "done")
    await puppet.finish(run_id, COMPLETED)


async def fail(puppet: Puppet, run_id: str) -> None:
    await puppet.finish(run_id, FAILED)


async def be_cancelled(puppet: Puppet, run_id: str) -> None:
    await puppet.finish(run_id, Ending(status=RunStatus.CANCELLED))


def lines(result: Result) -> list[dict[str, Any]]:
    """The JSON lines of a result."""
    return [json.loads(line) for line in result.stdout.splitlines()]
