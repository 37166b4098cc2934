"""Whether anybody may put messages into a conversation besides its runs."""

from typing import Final

from shared.errors import ConversationBusyError
from shared.ledger.protocol import RunLedger
from shared.run import RunStatus

_UNENDED: Final = frozenset({RunStatus.QUEUED, RunStatus.RUNNING})


async def check_idle(ledger: RunLedger, conversation_id: str) -> None:
    """Return if all runs of a conversation have ended. A waiting one may start at any time.

    Raises:
        ConversationBusyError: One has not.
        StoreUnavailableError: The ledger did not answer.
    """
    unended = await ledger.list_runs(conversation_id=conversation_id, status=_UNENDED, limit=1)
    if unended:
        raise ConversationBusyError(
            f"Run {unended[0].id} of conversation {conversation_id} has not ended. Wait for it or "
            "cancel it, and try again then.",
            unended[0].id,
        )
