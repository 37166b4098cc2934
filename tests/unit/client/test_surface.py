"""The public surface of the package: which names it has, and what importing it costs."""

import subprocess
import sys
from importlib import import_module

import pytest

import agent_client

PUBLIC = [
    "AgentClient",
    "AgentDefinitionError",
    "AgentInfo",
    "AgentRun",
    "AgentsError",
    "AsyncAgentClient",
    "AsyncManagedConversations",
    "AsyncRun",
    "BrokerUnavailableError",
    "BusyPolicy",
    "CancelResult",
    "ConfigurationError",
    "ConversationBusyError",
    "ConversationConfig",
    "ConversationId",
    "ConversationInactiveError",
    "ConversationNotEmptyError",
    "ConversationRecord",
    "CorruptEntryError",
    "DataPart",
    "DeltaEvent",
    "ForkPointError",
    "IdempotencyConflictError",
    "InvalidCursorError",
    "InvalidIdError",
    "MalformedConversationError",
    "ManagedConversations",
    "MediaPart",
    "Message",
    "MessageEvent",
    "MessageKind",
    "Mode",
    "ModelSpending",
    "NewerVersionError",
    "NoWorkerError",
    "NotDistributedError",
    "Outcome",
    "PayloadTooLargeError",
    "Price",
    "RecordPage",
    "RemovedEvent",
    "RequestError",
    "ResultTimeoutError",
    "Role",
    "Run",
    "RunCancelledError",
    "RunError",
    "RunEvent",
    "RunFailedError",
    "RunStatus",
    "SealError",
    "SealKeyError",
    "SealLimitError",
    "SessionId",
    "Settings",
    "Snapshot",
    "SnapshotInfo",
    "SnapshotMismatchError",
    "Spending",
    "StatusEvent",
    "StoreUnavailableError",
    "TamperedError",
    "TargetConflictError",
    "TextPart",
    "ThinkingPart",
    "ToolCall",
    "ToolOutcome",
    "TransferError",
    "UnavailableError",
    "UnknownAgentError",
    "UnknownConversationError",
    "UnknownRunError",
    "UnknownSnapshotError",
    "UnreadableEntriesError",
    "UnsealedError",
    "UnstorableError",
    "UnverifiedTransferError",
    "Usage",
    "WorkerInfo",
]

HEAVY = [
    "redis",
    "celery",
    "kombu",
    "pydantic",
    "pydantic_settings",
    "structlog",
    "anyio",
    "asyncio",
    "rich",
    "typer",
]
NEVER = ["genai_prices", "pydantic_ai", "openai", "anthropic", "httpx", "agent_worker"]


def loaded_after(code: str) -> set[str]:
    """The top-level modules that a new interpreter has loaded after `code`."""
    report = "import sys; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    answer = subprocess.run(
        [sys.executable, "-c", f"{code}\n{report}"], capture_output=True, text=True, check=True
    )
    return set(answer.stdout.split())


def test_the_public_names_are_these() -> None:
    """A name that comes or goes is a change of the contract, and needs a change of this list."""
    assert agent_client.__all__ == PUBLIC


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_can_be_had(name: str) -> None:
    """Each name leads to its object, and is listed where people look for names."""
    assert getattr(agent_client, name) is not None
    assert name in dir(agent_client)


def test_every_error_of_the_project_is_public() -> None:
    """What a caller may have to catch can be imported from here; what only workers meet cannot."""
    errors = import_module("shared.errors")
    workers_only = {"WriterError", "FencedError", "PositionGapError", "RollbackRequestedError"}
    assert {name for name in dir(errors) if name.endswith("Error")} - workers_only <= set(PUBLIC)


def test_the_error_and_not_the_value_is_called_run_error() -> None:
    """Two classes have this name; a caller of the client catches one of them."""
    assert issubclass(agent_client.RunError, agent_client.AgentsError)


def test_an_unknown_name_is_an_attribute_error() -> None:
    """Loading names on demand does not change what a typing mistake looks like."""
    with pytest.raises(AttributeError, match="has no attribute 'AgentClyent'"):
        _ = agent_client.AgentClyent


def test_importing_the_package_loads_nothing_heavy() -> None:
    """Not even what a client needs is loaded before somebody asks for it."""
    assert not loaded_after("import agent_client") & {*HEAVY, *NEVER, "shared"}


def test_everything_public_loads_no_llm_library_and_no_worker() -> None:
    """All names together load what a client needs, and no queue, no model and no worker."""
    loaded = loaded_after("from agent_client import *")
    assert "pydantic" in loaded
    assert not loaded & {*NEVER, "celery", "kombu", "redis"}


def test_a_client_that_only_watches_never_loads_celery() -> None:
    """Celery is loaded by the first ring."""
    loaded = loaded_after("import agent_client; agent_client.AsyncAgentClient()")
    assert "redis" in loaded
    assert not loaded & {*NEVER, "celery", "kombu"}
