"""Forking: a new conversation that begins as another one did."""

from collections.abc import Sequence
from contextlib import suppress

from shared.backend import Backend
from shared.directory.record import ConversationRecord, Parent
from shared.directory.session import ConversationId, SessionId
from shared.errors import AgentsError, ForkPointError
from shared.keeping.copying import write_copies
from shared.keeping.purging import purge
from shared.keeping.reading import find_record, store_of
from shared.message import Message, Role
from shared.window import pair_safe


async def fork(
    backend: Backend, conversation_id: str, message_id: str, *, into: SessionId | None = None
) -> ConversationRecord:
    """Make a conversation of all messages up to this one, and let the session go on there.

    It is the next generation of `into`, or of the conversation's own session. The messages keep
    their ids, times and runs: a copy says which run wrote it, and that run's record says in which
    conversation. The run itself, should it still go on, goes on there and not here.

    The conversation that is forked stays as it is: it takes runs by its id, if it did, while
    opening the session gives the fork.

    Raises:
        ForkPointError: There is no such message, or calls before it have results behind it.
        InvalidIdError: The conversation is of no session, and no other one is given.
        StoreUnavailableError: No answer. There may be half a fork, which nobody gets to see and
            `tidy` deletes.
    """
    directory = backend.opened_directory()
    source = await find_record(backend, conversation_id)
    session = into if into is not None else ConversationId.parse(conversation_id).session
    store = await store_of(backend, source) if source is not None else backend.conversations
    messages = up_to(await store.list_messages(conversation_id), message_id, conversation_id)
    made = await directory.reserve(
        session, Parent(conversation_id=conversation_id, message_id=message_id), source
    )
    try:
        await write_copies(backend.conversations, made.id, messages)
    except BaseException:
        with suppress(AgentsError):  # `tidy` finds it otherwise
            await purge(backend, made.id)
        raise
    # Not undone where its answer is lost: the session may go on there already.
    return await directory.activate(made.id)


def up_to(messages: Sequence[Message], message_id: str, conversation_id: str) -> Sequence[Message]:
    """The messages up to this one.

    Raises:
        ForkPointError: It is not among them, or comes between a call and its results.
    """
    places = [place for place, message in enumerate(messages) if message.id == message_id]
    if not places:
        raise ForkPointError(
            f"Conversation {conversation_id} holds no message {message_id[:80]!r}; take the `id` "
            "of one of its messages."
        )
    begun = messages[: places[0] + 1]
    round_start = max(
        (place for place, message in enumerate(begun) if message.role is Role.ASSISTANT), default=0
    )
    if not _has_open_calls(begun[round_start:]):
        return begun
    raise ForkPointError(_advice(messages, round_start, message_id))


def _has_open_calls(round_of_calls: Sequence[Message]) -> bool:
    """Whether a model would have to be told of results that are not there."""
    if any(message.role is not Role.TOOL for message in round_of_calls[1:]):
        return False
    known = {id(message) for message in round_of_calls}
    return any(id(message) not in known for message in pair_safe(round_of_calls))


def _advice(messages: Sequence[Message], round_start: int, message_id: str) -> str:
    said = f"Message {message_id} comes between calls of tools and their results. "
    end = round_start + 1
    while end < len(messages) and messages[end].role is Role.TOOL:
        end += 1
    choices = []
    if round_start:
        choices.append(f"at {messages[round_start - 1].id}, before the calls")
    if not _has_open_calls(messages[round_start:end]):
        choices.append(f"at {messages[end - 1].id}, behind the last result")
    return said + (
        f"Fork {' or '.join(choices)}." if choices else "Wait for the last result, and fork there."
    )
