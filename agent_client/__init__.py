"""The client: hand agent runs to workers, watch every message as it comes to exist, stop them.

    async with AsyncAgentClient() as client:
        run = await client.submit("researcher", "What is new?", conversation_id="web:ada")
        async for message in run.watch():
            print(message.role, message.text)

This module is the whole public surface. Each name is loaded when it is first asked for, so
importing the package costs nothing. Only local mode loads an LLM library and the worker.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from agent_client.blocking import AgentClient, AgentRun, ManagedConversations
    from agent_client.client import AsyncAgentClient
    from agent_client.handle import AsyncRun
    from agent_client.managed import AsyncManagedConversations
    from shared.conversation.config import ConversationConfig
    from shared.directory.record import ConversationRecord, RecordPage
    from shared.directory.session import ConversationId, Mode, SessionId
    from shared.errors import (
        AgentDefinitionError,
        AgentsError,
        BrokerUnavailableError,
        ConfigurationError,
        ConversationBusyError,
        ConversationInactiveError,
        ConversationNotEmptyError,
        CorruptEntryError,
        ForkPointError,
        IdempotencyConflictError,
        InvalidCursorError,
        InvalidIdError,
        MalformedConversationError,
        NewerVersionError,
        NotDistributedError,
        NoWorkerError,
        PayloadTooLargeError,
        RequestError,
        ResultTimeoutError,
        RunCancelledError,
        RunError,
        RunFailedError,
        SealError,
        SealKeyError,
        SealLimitError,
        SnapshotMismatchError,
        StoreUnavailableError,
        TamperedError,
        TargetConflictError,
        TransferError,
        UnavailableError,
        UnknownAgentError,
        UnknownConversationError,
        UnknownRunError,
        UnknownSnapshotError,
        UnreadableEntriesError,
        UnsealedError,
        UnstorableError,
        UnverifiedTransferError,
    )
    from shared.event import DeltaEvent, MessageEvent, RemovedEvent, RunEvent, StatusEvent
    from shared.message import (
        DataPart,
        MediaPart,
        Message,
        MessageKind,
        Price,
        Role,
        TextPart,
        ThinkingPart,
        ToolCall,
        ToolOutcome,
        Usage,
    )
    from shared.run import (
        AgentInfo,
        BusyPolicy,
        CancelResult,
        Outcome,
        Run,
        RunStatus,
        WorkerInfo,
    )
    from shared.settings import Settings
    from shared.snapshot.value import Snapshot, SnapshotInfo
    from shared.spending import ModelSpending, Spending

_HOMES: Final = {
    "agent_client.blocking": (
        "AgentClient",
        "AgentRun",
        "ManagedConversations",
    ),
    "agent_client.client": ("AsyncAgentClient",),
    "agent_client.handle": ("AsyncRun",),
    "agent_client.managed": ("AsyncManagedConversations",),
    "shared.conversation.config": ("ConversationConfig",),
    "shared.directory.record": (
        "ConversationRecord",
        "RecordPage",
    ),
    "shared.directory.session": (
        "ConversationId",
        "Mode",
        "SessionId",
    ),
    "shared.errors": (
        "AgentDefinitionError",
        "AgentsError",
        "BrokerUnavailableError",
        "ConfigurationError",
        "ConversationBusyError",
        "ConversationInactiveError",
        "ConversationNotEmptyError",
        "CorruptEntryError",
        "ForkPointError",
        "IdempotencyConflictError",
        "InvalidCursorError",
        "InvalidIdError",
        "MalformedConversationError",
        "NewerVersionError",
        "NotDistributedError",
        "NoWorkerError",
        "PayloadTooLargeError",
        "RequestError",
        "ResultTimeoutError",
        "RunCancelledError",
        "RunError",
        "RunFailedError",
        "SealError",
        "SealKeyError",
        "SealLimitError",
        "SnapshotMismatchError",
        "StoreUnavailableError",
        "TamperedError",
        "TargetConflictError",
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
    ),
    "shared.event": (
        "DeltaEvent",
        "MessageEvent",
        "RemovedEvent",
        "RunEvent",
        "StatusEvent",
    ),
    "shared.message": (
        "DataPart",
        "MediaPart",
        "Message",
        "MessageKind",
        "Price",
        "Role",
        "TextPart",
        "ThinkingPart",
        "ToolCall",
        "ToolOutcome",
        "Usage",
    ),
    "shared.run": (
        "AgentInfo",
        "BusyPolicy",
        "CancelResult",
        "Outcome",
        "Run",
        "RunStatus",
        "WorkerInfo",
    ),
    "shared.settings": ("Settings",),
    "shared.snapshot.value": (
        "Snapshot",
        "SnapshotInfo",
    ),
    "shared.spending": (
        "ModelSpending",
        "Spending",
    ),
}
"""Where each name is defined; the imports above say the same to type checkers."""

__all__ = [
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


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            value = globals()[name] = getattr(import_module(module), name)
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
