"""Every error that this project raises on purpose.

    AgentsError
    ├── ConfigurationError            the set-up is wrong; raised when something is built
    │   ├── InvalidIdError            an id that is empty, too long or could escape its place
    │   ├── NotDistributedError       an in-memory store together with remote workers
    │   └── AgentDefinitionError      a module or an object that cannot serve as an agent
    ├── RequestError                  the caller asked for something that cannot be done
    │   ├── UnknownAgentError         no live worker serves the agent
    │   ├── UnknownRunError           no run with this id (or it was kept long enough and is gone)
    │   ├── UnknownConversationError  no record of a managed conversation with this id
    │   ├── ConversationInactiveError a conversation that takes no further runs
    │   ├── ForkPointError            a message at which no conversation can be forked
    │   ├── NoWorkerError             no live worker, and the caller asked not to wait for one
    │   ├── ConversationBusyError     `on_busy="reject"` and another run holds the conversation
    │   ├── IdempotencyConflictError  one idempotency key, two different requests
    │   ├── InvalidCursorError        a cursor that this store did not hand out
    │   ├── PayloadTooLargeError      an input or metadata over the configured size
    │   ├── UnstorableError           a value that JSON has no form for
    │   ├── MalformedConversationError  an import that breaks the rules of its format
    │   ├── UnknownConversationError  a conversation that holds no messages
    │   ├── ConversationNotEmptyError something would be put over messages that are there
    │   ├── UnknownSnapshotError      no snapshot with this id
    │   └── SnapshotMismatchError     a snapshot that does not fit the agent it is restored for
    ├── RunError                      the run ended, but not with an output
    │   ├── RunFailedError
    │   ├── RunCancelledError
    │   └── ResultTimeoutError        the run has not ended within the time the caller gave
    ├── WriterError                   a worker may not write (any more)
    │   ├── FencedError               a newer fencing token exists: this worker lost the run
    │   ├── PositionGapError          an append that would leave a hole in a run's positions
    │   └── RollbackRequestedError    the run may not end before its messages are removed
    ├── TransferError                 a conversation could not be brought to another store
    │   ├── TargetConflictError       the target holds something else under its id
    │   ├── UnreadableEntriesError    a part of it cannot be read
    │   └── UnverifiedTransferError   what arrived is not what the source holds (any more)
    ├── CorruptEntryError             something stored or queued that is not ours or not readable
    │   └── NewerVersionError         written by a newer version of this project
    ├── SealError                     something sealed cannot be opened here; it stays as it is
    │   ├── SealKeyError              a key is missing: which one, and the setting that takes it
    │   ├── TamperedError             altered, moved to another place, or sealed with another key
    │   ├── UnsealedError             not encrypted, where only encrypted entries are read
    │   └── SealLimitError            compressed, and larger than may be unpacked
    └── UnavailableError              a service did not answer in bounded time; try again
        ├── StoreUnavailableError     Redis (or another store)
        └── BrokerUnavailableError    the Celery broker

A library's own errors are translated where they enter (`raise ... from`), so that a caller needs to
know these classes only. Messages say what to do next.
"""

from shared.version import FORMAT_VERSION


class AgentsError(Exception):
    """Base of every error of this project."""


class ConfigurationError(AgentsError):
    """The set-up is wrong. Raised when something is built, never in the middle of a run."""


class InvalidIdError(ConfigurationError, ValueError):
    """An id is empty, too long, or has characters that could make it mean something else."""


class NotDistributedError(ConfigurationError):
    """A conversation store that lives in one process cannot be used with workers in others."""


class AgentDefinitionError(ConfigurationError):
    """A module or object given to a worker does not hold an agent that can be served."""


class RequestError(AgentsError):
    """The caller asked for something that cannot be done; nothing was stored."""


class UnknownAgentError(RequestError):
    """No live worker serves an agent of this name."""


class UnknownRunError(RequestError, LookupError):
    """There is no run with this id, or it ended so long ago that its record has expired."""


class UnknownConversationError(RequestError, LookupError):
    """There is no such conversation: no message under this id or, where its record is wanted, none.

    It is not managed then, or was purged.
    """


class ConversationInactiveError(RequestError):
    """The conversation was deactivated, so it takes no further runs; open its session again."""


class ForkPointError(RequestError, ValueError):
    """Nothing can be forked at this message: it is not there, or results would be missing."""


class NoWorkerError(RequestError):
    """No worker is alive, and the caller asked not to wait for one."""


class ConversationBusyError(RequestError):
    """Another run holds the conversation and the caller chose `on_busy="reject"`.

    Attributes:
        run_id: That run, to be watched or cancelled.
    """

    def __init__(self, message: str, run_id: str = "") -> None:
        super().__init__(message)
        self.run_id = run_id


class IdempotencyConflictError(RequestError):
    """An idempotency key was used before for a request with another agent or input.

    Attributes:
        run_id: The run of then.
    """

    def __init__(self, message: str, run_id: str = "") -> None:
        super().__init__(message)
        self.run_id = run_id


class InvalidCursorError(RequestError, ValueError):
    """A cursor that this store did not hand out."""


class PayloadTooLargeError(RequestError, ValueError):
    """An input, a metadata mapping or a message is larger than the configured limit."""


class UnstorableError(RequestError, ValueError):
    """A value cannot be written as JSON that can be read again."""


class MalformedConversationError(RequestError, ValueError):
    """A conversation to import breaks the rules of its format.

    Attributes:
        faults: Each fault in words, with the number of its message, counted from 0.
    """

    def __init__(self, message: str, faults: tuple[str, ...]) -> None:
        super().__init__(message)
        self.faults = faults


class ConversationNotEmptyError(RequestError):
    """Something was to be put into a conversation that holds messages; nothing was changed."""


class UnknownSnapshotError(RequestError, LookupError):
    """There is no snapshot with this id."""


class SnapshotMismatchError(RequestError):
    """A snapshot does not fit the agent that shall go on with it; nothing was changed.

    Attributes:
        missing_tools: Tools that its history calls and the agent does not have.
    """

    def __init__(self, message: str, missing_tools: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.missing_tools = missing_tools


class RunError(AgentsError):
    """The run did not give an output."""


class RunFailedError(RunError):
    """The run ended `failed`; the message carries its error."""


class RunCancelledError(RunError):
    """The run ended `cancelled`."""


class ResultTimeoutError(RunError, TimeoutError):
    """The run has not ended within the time given; it goes on, and may be awaited again."""


class WriterError(AgentsError):
    """This worker may not write to this conversation (any more)."""


class FencedError(WriterError):
    """A newer fencing token exists, so another worker leads this run now; drop it at once."""


class PositionGapError(WriterError):
    """An append would leave a hole in the positions of a run's messages."""


class RollbackRequestedError(WriterError):
    """The run was asked to roll back, so it may not end before its messages are removed."""


class TransferError(AgentsError):
    """A conversation could not be brought to another store. The source is as it was."""


class TargetConflictError(TransferError):
    """The target holds something else under the conversation's id. It was left as it is."""


class UnreadableEntriesError(TransferError):
    """Entries of a conversation cannot be read, and the caller did not ask to go without them.

    Attributes:
        entries: How many.
    """

    def __init__(self, message: str, entries: int) -> None:
        super().__init__(message)
        self.entries = entries


class UnverifiedTransferError(TransferError):
    """What the target holds is not (or no longer) what the source holds."""


class CorruptEntryError(AgentsError, ValueError):
    """Something in the store or on the queue is not ours or cannot be read."""


class NewerVersionError(CorruptEntryError):
    """An entry was written by a newer version of this project; update this process.

    Attributes:
        version: Which version of `shared.version` one has to know to read it.
    """

    def __init__(self, message: str, version: int = FORMAT_VERSION + 1) -> None:
        super().__init__(message)
        self.version = version


class SealError(AgentsError):
    """Something sealed cannot be opened here. Nothing was removed, and nothing is left out.

    No `CorruptEntryError` on purpose: readers pass over what is unreadable. To pass over what they
    may not read would show another history than there is, to people and to models.
    """


class SealKeyError(SealError):
    """What it takes to open something is not there, its key above all: another process may have it.

    Attributes:
        key_id: What the key is called, as the entry says; None where it does not.
    """

    def __init__(self, message: str, key_id: str | None = None) -> None:
        super().__init__(message)
        self.key_id = key_id


class TamperedError(SealError):
    """What is stored was not sealed for this place: altered, moved, or under another key."""


class UnsealedError(SealError):
    """Something is not encrypted, where only what is encrypted may be believed."""


class SealLimitError(SealError):
    """Something compressed would become larger than any message may be."""


class UnavailableError(AgentsError):
    """A service did not answer in bounded time. Trying again is safe."""


class StoreUnavailableError(UnavailableError):
    """The store of conversations or runs (Redis, by default) cannot be reached."""


class BrokerUnavailableError(UnavailableError):
    """The Celery broker cannot be reached; the run was not accepted."""
