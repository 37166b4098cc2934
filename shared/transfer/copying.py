"""One conversation to another store, so that it may be cut off anywhere and begun again.

A pass reads both sides from the beginning. What the target holds has to be how the source begins,
and what is missing behind it is appended. So a pass that finds nothing to do has compared every
message: it is the proof, and nothing else is. A transfer is passes until there is one like that.
"""

from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

import structlog

from shared.conversation.protocol import ConversationStore
from shared.errors import (
    NewerVersionError,
    TargetConflictError,
    UnknownConversationError,
    UnreadableEntriesError,
    UnverifiedTransferError,
)
from shared.message import Message
from shared.transfer.digest import ConversationDigest, canonical
from shared.transfer.patience import patiently
from shared.transfer.reading import Beginning, find_beginning, read_on
from shared.transfer.value import TransferOptions, Transferred

log = structlog.get_logger()

_PASSES: Final = 6
"""One to copy and one to verify are usual; each further one follows a source that still grows."""

OnRead = Callable[[int, int], None]
"""Called with how many messages, and bytes, were read that had not been before."""


@dataclass(frozen=True, slots=True)
class _Passed:
    """What a pass came to. `is_proof`: both sides are equal, and nothing had to be done for it."""

    digest: ConversationDigest
    unreadable: int
    is_proof: bool


class ConversationCopy:
    """Brings one conversation from `source` to `target`; see `TransferOptions`."""

    def __init__(
        self,
        source: ConversationStore,
        target: ConversationStore,
        conversation_id: str,
        options: TransferOptions,
        on_read: OnRead,
    ) -> None:
        self._source = source
        self._target = target
        self._id = conversation_id
        self._options = options
        self._on_read = on_read
        self._read = 0
        self._present: int | None = None
        self._has_written = False
        self._has_changed = False
        self._passes = 0

    async def run(self) -> Transferred:
        """Copy what is missing, and compare everything. Repeating it does no harm.

        Raises:
            UnknownConversationError: The source holds no message of it.
            UnreadableEntriesError: Entries of the source cannot be read. Nothing was written.
            NewerVersionError: A message of the source is for newer readers.
            TargetConflictError: The target holds something else.
            UnverifiedTransferError: One of the two sides went on changing, or (`verify_only`) the
                target lacks something.
            StoreUnavailableError: One of the stores did not answer for `patience_s`.
        """
        for _ in range(_PASSES):
            # An append may have happened though its answer was lost. It is never repeated: the pass
            # that follows looks what is there.
            passed = await patiently(
                self._pass_or_replace,
                self._options.patience_s,
                self._id,
                progress=lambda: self._read,
            )
            if passed is None:
                continue
            if passed.is_proof:
                return self._transferred(passed)
            if self._options.verify_only:
                break
        raise UnverifiedTransferError(
            f"Conversation {self._id} went on changing while it was read, so that the two sides "
            "were never seen to be equal. Repeat it when nothing writes to it."
        )

    async def _pass_or_replace(self) -> _Passed | None:
        """A pass. None: the target was emptied for another one."""
        had_written = self._has_written
        try:
            return await self._pass()
        except TargetConflictError as error:
            if had_written:
                raise UnverifiedTransferError(
                    f"Conversation {self._id} was copied, and is not in the target as it is in the "
                    f"source: {error} One of the two changed meanwhile: a run wrote or was rolled "
                    "back, or the target keeps only so many messages. Repeat it when nothing "
                    "writes, and tell it to replace what is there."
                ) from error
            if not self._options.replace or self._options.verify_only:
                raise
        log.warning("transfer.replacing", conversation_id=self._id)
        await self._target.delete(self._id)
        return None

    async def _pass(self) -> _Passed:
        size = self._options.page_size
        source = await self._find(self._source)
        self._check(source)
        target = await self._find_target()
        digest = ConversationDigest()
        missing = _Missing(self._target, self._id, self._options)
        held = _Held(read_on(self._target, self._id, target, page_size=size), 2 * size)
        messages = read_on(self._source, self._id, source, page_size=size)
        async with aclosing(held), aclosing(messages):
            async for message in messages:
                form = canonical(message)
                if not await self._is_next(held, form, digest):
                    if not missing.is_begun:
                        self._begin_writing(digest.messages)
                    await missing.add(message, len(form))
                digest.add(form)
                self._tell(digest.messages, len(form))
            if not await held.is_at_end():
                raise self._conflict(f"goes on behind message {digest.messages} of the source")
        await missing.write()
        await self._remove(held.repeated)
        self._passes += 1
        is_proof = (
            not missing.is_begun
            and not held.repeated
            and source.unreadable is not None
            and await self._source.count(self._id) == digest.messages + source.unreadable
            and await self._target.count(self._id) == digest.messages
        )
        return _Passed(digest, source.unreadable or 0, is_proof)

    async def _is_next(self, held: "_Held", form: bytes, digest: ConversationDigest) -> bool:
        try:
            return await held.has_next(form)
        except _DiffersError as error:
            raise self._conflict(
                f"holds something else as message {digest.messages + 1}"
            ) from error

    async def _find(self, store: ConversationStore) -> Beginning:
        return await find_beginning(store, self._id, page_size=self._options.page_size)

    def _check(self, source: Beginning) -> None:
        if not source.page and not source.unreadable:
            if self._has_written:
                raise UnverifiedTransferError(
                    f"Conversation {self._id} was removed from the source while it was copied. "
                    "Delete it in the target as well, if it shall be gone."
                )
            raise UnknownConversationError(f"The source holds no conversation {self._id}.")
        if source.unreadable and self._options.on_corrupt == "stop":
            raise UnreadableEntriesError(
                f"{source.unreadable} entries of conversation {self._id} cannot be read, and would "
                "be missing in the target. Repair them, or say that they may be left out "
                "(on_corrupt='report').",
                source.unreadable,
            )

    async def _find_target(self) -> Beginning:
        try:
            target = await self._find(self._target)
        except NewerVersionError as error:
            raise self._conflict("holds a message for newer readers") from error
        if target.unreadable:
            raise self._conflict(f"holds {target.unreadable} entries that cannot be read")
        return target

    def _conflict(self, what: str) -> TargetConflictError:
        return TargetConflictError(
            f"The target {what} under conversation {self._id}. Migrate to another place, or say "
            "that it may be replaced."
        )

    def _begin_writing(self, present: int) -> None:
        """Note that the target ends here: what follows in the source is missing there."""
        if self._options.verify_only:
            raise UnverifiedTransferError(
                f"The target holds only the first {present} messages of conversation {self._id}."
            )
        if self._present is None:
            self._present = present
        self._has_changed = self._has_changed or self._passes > 0
        self._has_written = True

    def _tell(self, messages: int, size: int) -> None:
        if messages > self._read:
            self._read = messages
            self._on_read(1, size)

    async def _remove(self, repeated: list[str]) -> None:
        """Remove messages that the target has twice, word by word, where the source has one.

        They come of an append whose answer was lost and which was executed after all, later.
        """
        if repeated and self._options.verify_only:
            raise UnverifiedTransferError(
                f"The target holds {len(repeated)} messages of conversation {self._id} twice."
            )
        for cursor in repeated:
            await self._target.remove(self._id, cursor)
        if repeated:
            log.warning("transfer.repeats_removed", conversation_id=self._id, count=len(repeated))

    def _transferred(self, passed: _Passed) -> Transferred:
        messages = passed.digest.messages
        return Transferred(
            self._id,
            messages=messages,
            digest=passed.digest.hex(),
            size=passed.digest.size,
            written=messages - (messages if self._present is None else self._present),
            unreadable=passed.unreadable,
            has_changed=self._has_changed,
        )


class _DiffersError(Exception):
    """The target goes on with another message than the source."""


class _Held:
    """What the target holds, read along with the source.

    Attributes:
        repeated: Cursors of messages that are the same, word by word, as one of the last
            `remembers` before them, where the source goes on.
    """

    def __init__(self, messages: AsyncGenerator[Message, None], remembers: int) -> None:
        self._messages = messages
        self._recent: deque[bytes] = deque(maxlen=remembers)
        self._is_over = False
        self.repeated: list[str] = []

    async def has_next(self, form: bytes) -> bool:
        """Whether the next message is the one with this canonical form; False behind the last one.

        Raises:
            _DiffersError: It is another one.
        """
        while (found := await self._next()) is not None:
            if found[0] == form:
                self._recent.append(sha256(form).digest())
                return True
            self._pass_over(*found)
        return False

    async def is_at_end(self) -> bool:
        """Whether nothing but repeats follows."""
        try:
            while (found := await self._next()) is not None:
                self._pass_over(*found)
        except _DiffersError:
            return False
        return True

    async def aclose(self) -> None:
        """Stop reading."""
        await self._messages.aclose()

    async def _next(self) -> tuple[bytes, str] | None:
        message = None if self._is_over else await anext(self._messages, None)
        if message is None:
            # What is written behind this end is not looked at: it is this pass that writes it.
            self._is_over = True
            return None
        return canonical(message), message.cursor or ""

    def _pass_over(self, form: bytes, cursor: str) -> None:
        if sha256(form).digest() not in self._recent:
            raise _DiffersError
        self.repeated.append(cursor)


class _Missing:
    """What the target lacks, appended in steps of bounded size.

    Attributes:
        is_begun: Whether there was anything.
    """

    def __init__(
        self, target: ConversationStore, conversation_id: str, options: TransferOptions
    ) -> None:
        self._target = target
        self._id = conversation_id
        self._options = options
        self._batch: list[Message] = []
        self._size = 0
        self.is_begun = False

    async def add(self, message: Message, size: int) -> None:
        """Append a message, soon; `size` is that of its canonical form."""
        self.is_begun = True
        if self._size + size > self._options.batch_bytes:
            await self.write()
        self._batch.append(message)
        self._size += size
        if len(self._batch) >= self._options.page_size:
            await self.write()

    async def write(self) -> None:
        """Append what was added and is not written yet; without an answer, that is not repeated."""
        if not self._batch:
            return
        batch, self._batch, self._size = self._batch, [], 0
        await self._target.append(self._id, batch)
