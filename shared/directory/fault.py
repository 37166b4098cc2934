"""The errors of directories, in one wording."""

from shared.errors import ConversationBusyError, RequestError, UnknownConversationError


def busy(conversation_id: str, run_id: str) -> ConversationBusyError:
    """The error for a conversation in which a run has not ended; without one, it was just used."""
    if not run_id:
        return ConversationBusyError(
            f"Conversation {conversation_id} has been used since; look again later."
        )
    return ConversationBusyError(
        f"Run {run_id} has not ended in conversation {conversation_id}; cancel it or wait for its "
        "end, then try again.",
        run_id=run_id,
    )


def other_work(conversation_id: str, work: str | None) -> RequestError:
    """The error for a conversation with which something else is being done."""
    return RequestError(
        f"Another work ({work or 'none any more'}) has been begun with conversation "
        f"{conversation_id}; wait until it is done, or purge the conversation."
    )


def unknown(conversation_id: str) -> UnknownConversationError:
    """The error for a conversation without a record."""
    return UnknownConversationError(
        f"There is no record of conversation {conversation_id}. It is not a managed one (see "
        "client.managed.open), or it was purged."
    )
