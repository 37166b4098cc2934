"""Many conversations to another store, a few at a time."""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final
from uuid import uuid4

from shared.conversation.protocol import ConversationStore
from shared.errors import (
    AgentsError,
    ConfigurationError,
    NewerVersionError,
    SealError,
    UnavailableError,
    UnreadableEntriesError,
    UnverifiedTransferError,
)
from shared.identifier import check_id
from shared.ledger.idleness import check_idle
from shared.ledger.protocol import RunLedger
from shared.message import Message, user_draft
from shared.transfer.copying import ConversationCopy
from shared.transfer.digest import StoreDigest, canonical
from shared.transfer.patience import patiently
from shared.transfer.value import (
    OnProgress,
    Progress,
    TransferOptions,
    Transferred,
    TransferReport,
)

_UNREADABLE: Final = (NewerVersionError, SealError, UnreadableEntriesError)


async def migrate(
    source: ConversationStore,
    target: ConversationStore,
    conversation_ids: Iterable[str] | None = None,
    *,
    options: TransferOptions | None = None,
    ledger: RunLedger | None = None,
    on_progress: OnProgress | None = None,
) -> TransferReport:
    """Bring conversations from one store to another; None for all that the source holds.

    Messages keep their ids, run ids, positions, times, usage, metadata and engine data; cursors are
    the target's own. The source is only read. Killed anywhere and started again, it goes on where
    it was: what the target holds has to be how the source begins, and is compared, message by
    message. Every conversation is read once more from both sides after the last write to it, and
    only what was seen to be equal counts. At the end a look at all of them, by count and newest
    message, finds those that changed since, and those that are new; they are brought up to date.

    What concerns one conversation (it is something else in the target, a run writes to it, ...) is
    in the report, and the others go on.

    With a `ledger`, conversations whose runs have not ended are refused (`ConversationBusyError`).
    Without one, the caller sees to it that no run writes: a message that comes after the last look
    stays behind, and nobody is told.

    What a release cannot read, it cannot carry: fields of messages that a newer release has added
    are lost when an older one migrates. Use the newest that runs.

    Raises:
        ConfigurationError: Both are one store.
        InvalidIdError: Something that is not a conversation's id.
        UnreadableEntriesError, NewerVersionError, SealError: A message cannot be read, and
            `on_corrupt` is ``stop``. That conversation was not touched.
        StoreUnavailableError: A store or the ledger was away for too long. Start it again.
    """
    given = options or TransferOptions()
    chosen = None if conversation_ids is None else _checked(conversation_ids)
    if source is target:
        raise ConfigurationError("Source and target are the same store; name another target.")
    if given.replace and not given.verify_only:
        await _check_apart(source, target)
    migration = _Migration(source, target, given, ledger, on_progress)
    await migration.run(chosen)
    return migration.report()


def _checked(conversation_ids: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(check_id(each, "conversation id") for each in conversation_ids))


async def _check_apart(source: ConversationStore, target: ConversationStore) -> None:
    """Whoever replaces deletes first. That must not be the source, reached by another name."""
    probe = f"transfer-probe:{uuid4().hex}"
    message = Message(**dict(user_draft("Is this the same store?")), id=probe)
    await target.append(probe, [message])
    try:
        is_same = await source.count(probe) > 0
    finally:
        await target.delete(probe)
    if is_same:
        raise ConfigurationError(
            "Source and target are the same store under two names; name another target."
        )


@dataclass(slots=True)
class _Sums:
    """The report while it grows."""

    done: dict[str, Transferred] = field(default_factory=dict)
    failures: dict[str, AgentsError] = field(default_factory=dict)
    changed: set[str] = field(default_factory=set)


class _Migration:
    def __init__(
        self,
        source: ConversationStore,
        target: ConversationStore,
        options: TransferOptions,
        ledger: RunLedger | None,
        on_progress: OnProgress | None,
    ) -> None:
        self._source = source
        self._target = target
        self._options = options
        self._ledger = ledger
        self._on_progress = on_progress
        self._progress = Progress()
        self._sums = _Sums()
        self._read = self._read_size = 0

    async def run(self, chosen: list[str] | None) -> None:
        ids = chosen if chosen is not None else [each async for each in self._all()]
        self._advance(total=len(ids))
        if ids:
            # A target that was never there is an error at once; one that goes away is waited for.
            await self._target.count(ids[0])
        await self._several(ids)
        later = ids if chosen is not None else [each async for each in self._all()]
        changed = [each for each in later if await self._has_changed(each)]
        self._advance(total=len(ids) + len(changed))
        self._sums.changed.update(changed)
        await self._several(changed)
        for each in {*ids, *changed} - self._sums.done.keys() - self._sums.failures.keys():
            self._sums.failures[each] = UnverifiedTransferError("It was cancelled; repeat it.")

    async def _all(self) -> AsyncGenerator[str, None]:
        async for conversation_id in self._source.conversation_ids():
            yield conversation_id

    async def _several(self, ids: Sequence[str]) -> None:
        waiting = iter(ids)

        async def work() -> None:
            for conversation_id in waiting:
                await self._one(conversation_id)
                self._advance(done=1)

        try:
            async with asyncio.TaskGroup() as group:
                for number in range(min(self._options.concurrency, len(ids))):
                    group.create_task(work(), name=f"transfer:{number}")
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def _one(self, conversation_id: str) -> None:
        copy = ConversationCopy(
            self._source, self._target, conversation_id, self._options, self._on_read
        )
        try:
            await self._check_idle(conversation_id)
            done = await copy.run()
            await self._check_idle(conversation_id)
        except (ConfigurationError, UnavailableError):
            raise
        except AgentsError as error:
            if self._options.on_corrupt == "stop" and isinstance(error, _UNREADABLE):
                raise
            self._sums.done.pop(conversation_id, None)
            self._sums.failures[conversation_id] = error
            self._advance(failures=1)
            return
        before = self._sums.done.get(conversation_id)
        if before is not None:
            done = replace(done, written=done.written + before.written)
        self._sums.done[conversation_id] = done

    async def _check_idle(self, conversation_id: str) -> None:
        if self._ledger is not None:
            await check_idle(self._ledger, conversation_id)

    async def _has_changed(self, conversation_id: str) -> bool:
        """Whether a conversation is new, or another one than when it was verified."""
        if conversation_id in self._sums.failures:
            return False
        done = self._sums.done.get(conversation_id)
        if done is None:
            return True

        async def look() -> bool:
            counted = await self._source.count(conversation_id)
            if counted != done.messages + done.unreadable:
                return True
            return await self._newest(self._source, conversation_id) != await self._newest(
                self._target, conversation_id
            )

        try:
            return await patiently(look, self._options.patience_s, conversation_id)
        except NewerVersionError:
            return True

    async def _newest(self, store: ConversationStore, conversation_id: str) -> list[bytes]:
        return [canonical(each) for each in await store.list_messages(conversation_id, limit=1)]

    def _on_read(self, messages: int, size: int) -> None:
        self._read += messages
        self._read_size += size
        if self._read >= self._options.page_size:
            self._advance()

    def _advance(self, *, done: int = 0, failures: int = 0, total: int | None = None) -> None:
        progress = self._progress
        self._progress = Progress(
            done=progress.done + done,
            total=progress.total if total is None else total,
            messages=progress.messages + self._read,
            size=progress.size + self._read_size,
            failures=progress.failures + failures,
        )
        self._read = self._read_size = 0
        if self._on_progress is not None:
            self._on_progress(self._progress)

    def report(self) -> TransferReport:
        done = self._sums.done.values()
        digest = StoreDigest()
        for each in done:
            digest.add(each.conversation_id, each.digest)
        changed = self._sums.changed | {each.conversation_id for each in done if each.has_changed}
        return TransferReport(
            conversations=len(done),
            messages=sum(each.messages for each in done),
            size=sum(each.size for each in done),
            written=sum(each.written for each in done),
            digest=digest.hex(),
            unreadable={each.conversation_id: each.unreadable for each in done if each.unreadable},
            changed=tuple(sorted(changed)),
            failures=dict(sorted(self._sums.failures.items())),
        )
