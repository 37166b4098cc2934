"""Local mode: client, runs and a worker in one process, without Redis and Celery.

The only module of the client that may import the worker; nobody loads it who does not ask for local
mode.
"""

from collections.abc import AsyncIterator, Collection, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import ModuleType

from agent_worker.definition import AgentDefinition
from agent_worker.local import LocalDispatcher, build_local_runtime
from agent_worker.registry import load_agents, serve
from agent_worker.runtime import Runtime
from shared.backend import Backend
from shared.backend_building import build_local_backend
from shared.conversation.config import REDIS, ConversationConfig
from shared.errors import AgentDefinitionError
from shared.settings import Settings


@dataclass(frozen=True, slots=True)
class LocalSystem:
    """Everything that a client needs, in one process and made for each other."""

    settings: Settings
    backend: Backend
    dispatcher: LocalDispatcher
    runtime: Runtime

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """The worker lives inside of this. What it executes at the end is given up.

        Tools that are running may go on for `handover_grace_s`.
        """
        await self.runtime.start()
        try:
            yield
        finally:
            await self.runtime.shutdown(self.settings.handover_grace_s)
            await self.dispatcher.aclose()
            await self.backend.aclose()


def compose(
    agents: Iterable[object], settings: Settings, conversation: ConversationConfig | None = None
) -> LocalSystem:
    """A system that serves `agents`; see `AsyncAgentClient.local` for what they may be.

    Raises:
        AgentDefinitionError: One cannot be served, two have one name, or there is none.
        ConfigurationError: Conversations cannot be kept where the config says.
    """
    by_name = _by_name(agents)
    backend = build_local_backend(settings, _conversation_url(conversation, settings))
    runtime, dispatcher = build_local_runtime(settings, backend, by_name)
    return LocalSystem(settings, backend, dispatcher, runtime)


def _conversation_url(config: ConversationConfig | None, settings: Settings) -> str | None:
    """Where conversations are kept, if not in the memory of this process."""
    if config is None or "backend" not in config.model_fields_set:
        return None
    if config.backend == REDIS:
        return settings.redis_url.get_secret_value()
    return config.url


def _by_name(agents: Iterable[object]) -> dict[str, AgentDefinition]:
    by_name: dict[str, AgentDefinition] = {}
    for agent in agents:
        for definition in _definitions_in(agent):
            if by_name.setdefault(definition.name, definition) is not definition:
                raise AgentDefinitionError(
                    f"Two agents are called {definition.name!r}. Give one another name with "
                    "serve(..., name=...)."
                )
    if not by_name:
        raise AgentDefinitionError(
            "There is no agent to serve. Pass agents, or modules that hold some."
        )
    return by_name


def _definitions_in(agent: object) -> Collection[AgentDefinition]:
    if isinstance(agent, AgentDefinition):
        return [agent]
    if isinstance(agent, str | ModuleType):
        return load_agents([agent]).values()
    return [serve(agent)]
