"""Who may write to a conversation: the rules that stores without scripts of their own share."""

from collections.abc import Sequence

from shared.conversation.protocol import Writer
from shared.errors import FencedError, PositionGapError
from shared.message import Message


def check_token(writer: Writer, newest: int) -> None:
    """Refuse a writer that comes too late. `newest` is the greatest token seen.

    Raises:
        FencedError: A greater token was here.
    """
    if writer.fencing_token < newest:
        raise FencedError(
            f"Run {writer.run_id} writes with token {writer.fencing_token}, but {newest} was given "
            "out since; drop the run, another worker has it."
        )


def check_not_used_up(writer: Writer, retracted: int) -> None:
    """Refuse to append with a token that a `retract` or `delete` has used up.

    Raises:
        FencedError: It has.
    """
    if writer.fencing_token == retracted:
        raise FencedError(
            f"Run {writer.run_id} was retracted under token {writer.fencing_token}; only who "
            "leases it again may write."
        )


def check_positions(messages: Sequence[Message], writer: Writer) -> None:
    """Refuse what is not of the writer's run, or not in its order.

    Raises:
        PositionGapError: One of the two.
    """
    first = messages[0].position if messages else 0
    for offset, message in enumerate(messages):
        if message.run_id != writer.run_id or message.position != first + offset:
            raise PositionGapError(
                f"Messages of one append must be of run {writer.run_id} and have consecutive "
                f"positions; found position {message.position} of run {message.run_id}."
            )


def count_known(messages: Sequence[Message], writer: Writer, next_position: int) -> int:
    """How many of a run's `messages`, from the first on, are stored already.

    Raises:
        PositionGapError: They would leave a hole behind what is stored.
    """
    first = messages[0].position if messages else next_position
    if first > next_position:
        raise PositionGapError(
            f"Run {writer.run_id} wrote up to position {next_position} so far; position {first} "
            "would leave a gap. Claim the conversation again and continue from what it holds."
        )
    return min(len(messages), next_position - first)
