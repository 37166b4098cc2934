"""The commands about managed conversations: `conversations list`, `show`, `fork`, `purge`, ..."""

import shlex
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent_client.cli.connection import Connection
from agent_client.cli.exit_code import ExitCode
from agent_client.cli.option import ConversationId
from shared.command_line import AsJson, Debug, RedisUrl

if TYPE_CHECKING:
    from agent_client.client import AsyncAgentClient
    from shared.directory.record import ConversationRecord

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Ago = Annotated[
    float | None, typer.Option(metavar="DAYS", min=0, help="Active within the last so many days.")
]


def list_(  # noqa: PLR0913 - one parameter for each option
    context: typer.Context,
    *,
    user: Annotated[str | None, typer.Option(help="Only those of this user.")] = None,
    agent: Annotated[str | None, typer.Option(help="Only those with this agent.")] = None,
    channel: Annotated[str | None, typer.Option(help="Only those of this channel.")] = None,
    active: Annotated[
        bool | None, typer.Option("--active/--closed", help="Only those that take runs, or do not.")
    ] = None,
    within: Ago = None,
    before: Annotated[
        float | None,
        typer.Option(metavar="DAYS", min=0, help="Without activity in the last so many days."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 50,
    after: Annotated[
        str | None, typer.Option(metavar="CURSOR", help="For the next page: what --json ends with.")
    ] = None,
    as_json: AsJson = False,
    redis_url: RedisUrl = None,
    debug: Debug = False,
) -> None:
    """List managed conversations, the one with the newest activity first.

    Activity is the submit or the end of a run.

    Examples:
      agent-client conversations list --user ada --active
      agent-client conversations list --channel web --before 90 --json
    """
    filters = {
        "user": user,
        "agent": agent,
        "channel": channel,
        "active": active,
        "active_since": _days_ago(within),
        "active_until": _days_ago(before),
        "limit": limit,
        "after": after,
    }
    work = partial(_list, filters=filters, as_json=as_json)
    Connection(context, redis_url, debug=debug).run(work)


def show(
    context: typer.Context,
    conversation_id: ConversationId,
    *,
    as_json: AsJson = False,
    redis_url: RedisUrl = None,
    debug: Debug = False,
) -> None:
    """Show the record of a conversation: times, totals, where it is.

    Closed and archived conversations have one, too.

    Example:
      agent-client conversations show web:ada:support
    """
    work = partial(_one, verb="get", names=(conversation_id,), as_json=as_json)
    Connection(context, redis_url, debug=debug).run(work)


def deactivate(
    context: typer.Context,
    conversation_id: ConversationId,
    *,
    as_json: AsJson = False,
    redis_url: RedisUrl = None,
    debug: Debug = False,
) -> None:
    """Close a conversation: it takes no further runs, and stays readable.

    The session's next input begins a new one.

    Example:
      agent-client conversations deactivate web:ada:support
    """
    work = partial(_one, verb="deactivate", names=(conversation_id,), as_json=as_json)
    Connection(context, redis_url, debug=debug).run(work)


def reset(
    context: typer.Context,
    conversation_id: ConversationId,
    *,
    as_json: AsJson = False,
    redis_url: RedisUrl = None,
    debug: Debug = False,
) -> None:
    """Close a conversation and begin the next one of its session, which is shown.

    The closed one stays readable.

    Example:
      agent-client conversations reset web:ada:support --json | jq -r .id
    """
    work = partial(_one, verb="reset", names=(conversation_id,), as_json=as_json)
    Connection(context, redis_url, debug=debug).run(work)


def fork(
    context: typer.Context,
    conversation_id: ConversationId,
    message_id: Annotated[
        str, typer.Argument(metavar="MESSAGE_ID", help="The last message that is taken along.")
    ],
    *,
    into: Annotated[
        str | None, typer.Option(metavar="SESSION_ID", help="Another session to fork into.")
    ] = None,
    as_json: AsJson = False,
    redis_url: RedisUrl = None,
    debug: Debug = False,
) -> None:
    """Begin a conversation with all messages of another one up to a message.

    Ids of messages are in the --json output of `history`.

    Example:
      agent-client conversations fork web:ada:support run-3-0192f0c1a2b37d4e5f60718293a4b5c6.0
    """
    work = partial(
        _one, verb="fork", names=(conversation_id, message_id), into=into, as_json=as_json
    )
    Connection(context, redis_url, debug=debug).run(work)


def archive(
    context: typer.Context,
    conversation_id: ConversationId,
    *,
    as_json: AsJson = False,
    redis_url: RedisUrl = None,
    debug: Debug = False,
) -> None:
    """Close a conversation and move its messages to AGENTS_ARCHIVE_URL.

    `history` goes on to show them.

    Example:
      agent-client conversations archive web:ada:support
    """
    work = partial(_one, verb="archive", names=(conversation_id,), as_json=as_json)
    Connection(context, redis_url, debug=debug).run(work)


def purge(
    context: typer.Context,
    conversation_id: Annotated[
        str | None, typer.Argument(metavar="[CONVERSATION_ID]", help="Such as web:ada:weather.")
    ] = None,
    *,
    user: Annotated[
        str | None, typer.Option(help="All conversations of this user, instead of one.")
    ] = None,
    yes: Yes = False,
    as_json: AsJson = False,
    redis_url: RedisUrl = None,
    debug: Debug = False,
) -> None:
    """Delete conversations with their messages and runs. It cannot be undone.

    A conversation in which a run has not ended is refused; cancel that first.

    Examples:
      agent-client conversations purge web:ada:support
      agent-client conversations purge --user ada --yes
    """
    if (conversation_id is None) is (user is None):
        raise typer.BadParameter("name one conversation, or a user with --user.")
    what = conversation_id or f"all conversations of {user}"
    if not yes and not typer.confirm(f"Delete {what} for ever?", err=True):
        raise typer.Exit(ExitCode.CANCELLED)
    work = partial(_purge, conversation_id=conversation_id, user=user, as_json=as_json)
    Connection(context, redis_url, debug=debug).run(work)


def tidy(
    context: typer.Context,
    *,
    as_json: AsJson = False,
    redis_url: RedisUrl = None,
    debug: Debug = False,
) -> None:
    """Close idle conversations and apply the rules of retention, as workers do now and then.

    By AGENTS_CONVERSATION_IDLE_S and AGENTS_RETENTION.

    Example:
      agent-client conversations tidy --json
    """
    Connection(context, redis_url, debug=debug).run(partial(_tidy, as_json=as_json))


async def _list(client: "AsyncAgentClient", *, filters: dict[str, Any], as_json: bool) -> ExitCode:
    from agent_client.cli.output import print_json, print_models, print_table

    page = await client.managed.list(**filters)
    if as_json:
        print_models(page.records)
        if page.next is not None:
            print_json({"next": page.next})
        return ExitCode.OK
    titles = ("conversation", "state", "messages", "runs", "cost", "last activity", "title")
    print_table(titles, map(_row, page.records), empty="There are no such conversations.")
    if page.next is not None and sys.stdout.isatty():
        following = shlex.join(["--after", page.next])
        typer.echo(f"\nThere are more: repeat this with {following}", err=True)
    return ExitCode.OK


async def _one(
    client: "AsyncAgentClient", *, verb: str, names: tuple[str, ...], as_json: bool, **options: Any
) -> ExitCode:
    """Do something with one conversation and show its record."""
    from agent_client.cli.output import print_fields, print_models

    do: Callable[..., Awaitable[ConversationRecord]] = getattr(client.managed, verb)
    record = await do(*names, **options)
    if as_json:
        print_models([record])
    else:
        print_fields(record)
    return ExitCode.OK


async def _purge(
    client: "AsyncAgentClient", *, conversation_id: str | None, user: str | None, as_json: bool
) -> ExitCode:
    from dataclasses import asdict

    from agent_client.cli.output import print_json

    if conversation_id is not None:
        purged = [await client.managed.purge(conversation_id)]
    else:
        purged = list(await client.managed.purge_user(user or ""))
    for each in purged:
        if as_json:
            print_json(asdict(each))
        else:
            typer.echo(f"{each.conversation_id}\t{each.messages} messages\t{each.runs} runs")
    return ExitCode.OK


async def _tidy(client: "AsyncAgentClient", *, as_json: bool) -> ExitCode:
    from agent_client.cli.output import print_json

    done = vars(await client.managed.tidy())
    if as_json:
        print_json(done)
    else:
        for what, names in done.items():
            for name in names:
                typer.echo(f"{what}\t{name}")
    return ExitCode.FAILED if done["failed"] else ExitCode.OK


def _row(record: "ConversationRecord") -> tuple[str, ...]:
    state = record.work.value if record.work else "active" if record.active else "closed"
    return (
        record.id,
        "archived" if record.archived and record.work is None else state,
        str(record.message_count),
        str(record.runs),
        "unknown" if record.cost is None else record.cost,
        f"{record.last_activity_at.astimezone():%Y-%m-%d %H:%M:%S}",
        record.title or "",
    )


def _days_ago(days: float | None) -> datetime | None:
    return None if days is None else datetime.now(UTC) - timedelta(days=days)
