"""The commands that bring conversations elsewhere: `migrate`, `export`, `import`."""

import sys
import tempfile
from collections import Counter
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager, nullcontext
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from agent_client.cli.connection import Connection
from agent_client.cli.exit_code import ExitCode, of_error
from agent_client.cli.place import HINT, opened, unencrypted
from shared.command_line import AsJson, Debug, RedisUrl

if TYPE_CHECKING:
    from agent_client.client import AsyncAgentClient
    from shared.conversation.protocol import ConversationStore
    from shared.transfer.value import TransferReport

OnCorrupt = StrEnum("OnCorrupt", "stop report")

_Chosen = Annotated[
    list[str] | None,
    typer.Option("--conversation", metavar="ID", help="Only this conversation; repeatable."),
]
_All = Annotated[bool, typer.Option("--all", help="All conversations.")]
_OnCorrupt = Annotated[
    OnCorrupt,
    typer.Option(help="What to do about entries that cannot be read: stop, or go without them."),
]


def migrate(  # noqa: PLR0913 - one parameter for each option
    context: typer.Context,
    source: Annotated[str, typer.Argument(metavar="SOURCE", help=f"{HINT}.")],
    target: Annotated[str, typer.Argument(metavar="TARGET", help="The same.")],
    *,
    conversation: _Chosen = None,
    every: _All = False,
    verify_only: Annotated[
        bool, typer.Option("--verify-only", help="Compare both sides and write nothing.")
    ] = False,
    on_corrupt: _OnCorrupt = OnCorrupt.stop,
    replace: Annotated[
        bool, typer.Option("--replace", help="Delete what the target holds if it differs.")
    ] = False,
    ignore_runs: Annotated[
        bool, typer.Option("--ignore-runs", help="Do not ask Redis whether runs are writing.")
    ] = False,
    plain_source: Annotated[
        bool, typer.Option("--plain-source", help="With keys: the source is not encrypted.")
    ] = False,
    plain_target: Annotated[
        bool, typer.Option("--plain-target", help="With keys: do not encrypt the target.")
    ] = False,
    concurrency: Annotated[int, typer.Option(min=1, help="Conversations at a time.")] = 4,
    as_json: AsJson = False,
    redis_url: RedisUrl = None,
    debug: Debug = False,
) -> None:
    """Bring conversations from one store to another, and verify every message.

    The source is only read. Stopped or killed anywhere, the same command goes on
    where it was. A conversation that a run has not finished with is left out, and
    named: whether there is one is asked at --redis-url, where the runs are.

    Both sides are read and written with AGENTS_ENCRYPTION_KEYS, where they are set.
    Passwords in the arguments of a command can be seen by all who may list the
    machine's processes: name environment variables instead.

    Examples:
      agent-client migrate redis://old:6379/0 env:NEW_URL --all
      agent-client migrate env:OLD_URL env:NEW_URL --all --verify-only
      agent-client migrate env:OLD_URL sqlite:///chats.db --conversation web:ada:weather
    """
    _check_choice(conversation, every=every)
    work = partial(
        _migrate,
        source=source,
        target=target,
        chosen=conversation,
        options={
            "on_corrupt": on_corrupt.value,
            "replace": replace,
            "verify_only": verify_only,
            "concurrency": concurrency,
        },
        is_plain=(plain_source, plain_target),
        ignore_runs=ignore_runs,
        as_json=as_json,
    )
    Connection(context, redis_url, debug=debug).run(work)


def export(  # noqa: PLR0913 - one parameter for each option
    context: typer.Context,
    *,
    conversation: _Chosen = None,
    every: _All = False,
    source: Annotated[
        str | None, typer.Option("--from", metavar="URL", help=f"{HINT}. Default: AGENTS_REDIS_URL")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Default: standard output.", dir_okay=False)
    ] = None,
    without_ids: Annotated[
        bool, typer.Option("--without-ids", help="Messages only, as for fine-tuning.")
    ] = False,
    on_corrupt: _OnCorrupt = OnCorrupt.stop,
    redis_url: RedisUrl = None,
    debug: Debug = False,
) -> None:
    """Write conversations as JSON lines in OpenAI's chat form, one conversation a line.

    What the form has no place for is counted on standard error. A file appears
    once it is complete.

    Examples:
      agent-client export --all --output chats.jsonl
      agent-client export --conversation web:ada:weather | jq .messages
      agent-client export --all --from sqlite:///chats.db --without-ids > tuning.jsonl
    """
    _check_choice(conversation, every=every)
    work = partial(
        _export,
        source=source,
        chosen=conversation,
        output=output,
        has_ids=not without_ids,
        may_lose=on_corrupt is OnCorrupt.report,
    )
    Connection(context, redis_url, debug=debug).run(work)


def import_(
    context: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE", help="JSON lines; - is standard input.")],
    *,
    target: Annotated[
        str | None, typer.Option("--to", metavar="URL", help=f"{HINT}. Default: AGENTS_REDIS_URL")
    ] = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Mend what is malformed, and say what was done.")
    ] = False,
    check: Annotated[bool, typer.Option("--check", help="Read all of it and store nothing.")] = (
        False
    ),
    redis_url: RedisUrl = None,
    debug: Debug = False,
) -> None:
    """Store conversations from JSON lines in OpenAI's chat form, one conversation a line.

    A line is {"conversation_id": ..., "messages": [...]}; without an id it gets one
    made of its messages. If anything in the file is malformed, nothing is imported,
    and every fault is named. What was imported before is not imported again.

    Examples:
      agent-client import chats.jsonl
      agent-client import recordings.jsonl --check
      agent-client export --all --from env:OLD_URL | agent-client import -
    """
    work = partial(_import, file=file, target=target, repair=repair, check=check)
    Connection(context, redis_url, debug=debug).run(work)


def _check_choice(conversation: Sequence[str] | None, *, every: bool) -> None:
    if bool(conversation) == every:
        raise typer.BadParameter("say either --all or which --conversation.")


async def _migrate(
    client: "AsyncAgentClient",
    *,
    source: str,
    target: str,
    chosen: list[str] | None,
    options: dict[str, Any],
    is_plain: tuple[bool, bool],
    ignore_runs: bool,
    as_json: bool,
) -> ExitCode:
    from agent_client.cli.progress import told
    from shared.transfer.migration import migrate as transfer
    from shared.transfer.value import TransferOptions

    reading, writing = (
        unencrypted(client.settings) if plain else client.settings for plain in is_plain
    )
    async with opened(source, reading) as old, opened(target, writing) as new:
        with told("Comparing" if options["verify_only"] else "Migrating") as tell:
            report = await transfer(
                old,
                new,
                chosen,
                options=TransferOptions(**options),
                ledger=None if ignore_runs else client.backend.ledger,
                on_progress=tell,
            )
    _print_report(report, as_json=as_json)
    if len(report.failures) == 1 and not report.conversations:
        return of_error(next(iter(report.failures.values())))
    return ExitCode.OK if report.is_complete else ExitCode.FAILED


def _print_report(report: "TransferReport", *, as_json: bool) -> None:
    from agent_client.cli.output import print_json, print_table

    sums = {
        "conversations": report.conversations,
        "messages": report.messages,
        "written": report.written,
        "bytes": report.size,
        "changed": len(report.changed),
        "unreadable": sum(report.unreadable.values()),
        "failed": len(report.failures),
        "digest": report.digest,
    }
    if as_json:
        failures = {name: _named(error) for name, error in report.failures.items()}
        print_json(
            {**sums, "unreadable_entries": report.unreadable, "failures": failures}
            | {"changed_conversations": list(report.changed)}
        )
        return
    print_table(("", ""), [(name, str(value)) for name, value in sums.items()], empty="")
    for conversation_id, count in report.unreadable.items():
        _say(f"{conversation_id}: went without {count} entries that cannot be read.")
    for conversation_id in report.changed:
        _say(f"{conversation_id}: changed meanwhile, and was brought up to date.")
    for conversation_id, error in report.failures.items():
        _say(f"{conversation_id}: {_named(error)}")


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _say(text: str) -> None:
    from agent_client.live_view.text import clean

    typer.echo(clean(text), err=True)


async def _export(
    client: "AsyncAgentClient",
    *,
    source: str | None,
    chosen: list[str] | None,
    output: Path | None,
    has_ids: bool,
    may_lose: bool,
) -> ExitCode:
    from shared.transfer.chat_lines import write_line
    from shared.transfer.whole import read_whole

    lost: Counter[str] = Counter()
    conversations = messages = repaired = unreadable = 0
    async with _store(client, source) as store:
        with _written(output) as file:
            async for conversation_id in _ids(store, chosen):
                whole = await read_whole(store, conversation_id, may_lose=may_lose)
                line = write_line(conversation_id if has_ids else None, whole.messages)
                file.write(line.text + "\n")
                lost += line.lost
                conversations += 1
                messages += line.messages
                repaired += line.repaired
                unreadable += whole.unreadable
    _say(f"{conversations} conversations, {messages} messages.")
    for what, count in sorted(lost.items()):
        _say(f"The form has no place for {what}: {count} messages.")
    if repaired:
        _say(f"Calls without results, or results without calls: {repaired} messages.")
    if unreadable:
        _say(f"Entries that cannot be read, and are missing: {unreadable}.")
    return ExitCode.FAILED if unreadable else ExitCode.OK


async def _import(
    client: "AsyncAgentClient", *, file: str, target: str | None, repair: bool, check: bool
) -> ExitCode:
    from shared.errors import MalformedConversationError
    from shared.transfer.importing import import_chat

    async with _store(client, target) as store:
        with _readable_twice(file) as lines:
            try:
                report = await import_chat(store, lines, repair=repair, check_only=check)
            except MalformedConversationError as error:
                for fault in error.faults:
                    _say(fault)
                _say(f"Nothing was imported: {len(error.faults)} faults.")
                return of_error(error)
    for each in report.repairs:
        _say(each)
    done = "could be imported" if check else "imported"
    _say(
        f"{report.conversations} conversations {done}, {report.messages} messages; "
        f"{report.present} were there already."
    )
    return ExitCode.OK


def _store(
    client: "AsyncAgentClient", place: str | None
) -> "AbstractAsyncContextManager[ConversationStore]":
    """The store at a place, or that of the client, which stays open."""
    if place is None:
        return nullcontext(client.backend.conversations)
    return opened(place, client.settings)


async def _ids(
    store: "ConversationStore", chosen: Sequence[str] | None
) -> AsyncGenerator[str, None]:
    from shared.identifier import check_id

    if chosen is not None:
        for each in chosen:
            yield check_id(each, "conversation id")
        return
    async for conversation_id in store.conversation_ids():
        yield conversation_id


@contextmanager
def _written(output: Path | None) -> Iterator[IO[str]]:
    """Where lines go. A file gets its name once all of it is there; only its owner may read it."""
    if output is None:
        yield sys.stdout
        return
    try:
        with tempfile.NamedTemporaryFile(
            "w", encoding="ascii", dir=output.parent, prefix=f".{output.name}.", delete=False
        ) as draft:
            path = Path(draft.name)
            try:
                yield draft
                draft.flush()
                path.replace(output)
            except BaseException:
                path.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise typer.BadParameter(f"--output: {error}.") from error


@contextmanager
def _readable_twice(file: str) -> Iterator[BinaryIO]:
    if file == "-":
        with tempfile.TemporaryFile() as copy:
            for line in sys.stdin.buffer:
                copy.write(line)
            copy.seek(0)
            yield copy
        return
    try:
        with Path(file).open("rb") as lines:
            yield lines
    except OSError as error:
        raise typer.BadParameter(f"{error}.") from error
