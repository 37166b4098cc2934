"""The commands about snapshots: `snapshot save`, `list`, `show`, `restore`, `delete`."""

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent_client.cli.connection import Connection
from agent_client.cli.exit_code import DESCRIPTION, ExitCode
from agent_client.cli.option import ConversationId
from shared.command_line import AsJson, Debug, RedisUrl, new_program

if TYPE_CHECKING:
    from agent_client.client import AsyncAgentClient
    from shared.snapshot.value import Snapshot, SnapshotInfo

app = new_program()

SnapshotId = Annotated[
    str, typer.Argument(metavar="SNAPSHOT_ID", help="As `snapshot save` printed it.")
]
_Agent = Annotated[
    str | None, typer.Option(metavar="NAME", help="Who goes on with it. Default: who did before.")
]


@app.callback(epilog=DESCRIPTION)
def snapshot() -> None:
    """Keep a conversation as it is now, with its agent's prompts and tools, and put it back.

    Snapshots are in Redis, or in the folder AGENTS_SNAPSHOT_FOLDER.
    """


@app.command(epilog=DESCRIPTION)
def save(
    context: typer.Context,
    conversation_id: ConversationId,
    *,
    agent: _Agent = None,
    skip_unreadable: Annotated[
        bool, typer.Option("--skip-unreadable", help="Go without entries that are damaged.")
    ] = False,
    as_json: AsJson = False,
    redis_url: RedisUrl = None,
    debug: Debug = False,
) -> None:
    """Take a snapshot of a conversation and print its id.

    Example:
      id=$(agent-client snapshot save web:ada:weather)
    """
    work = partial(
        _save,
        conversation_id=conversation_id,
        how={"agent": agent, "skip_unreadable": skip_unreadable},
        as_json=as_json,
    )
    Connection(context, redis_url, debug=debug).run(work)


@app.command("list", epilog=DESCRIPTION)
def list_(
    context: typer.Context,
    *,
    conversation: Annotated[
        str | None, typer.Option(metavar="ID", help="Only those of this conversation.")
    ] = None,
    agent: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only those of this agent.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 50,
    before: Annotated[
        str | None, typer.Option(metavar="ID", help="Only older ones: for the next page.")
    ] = None,
    as_json: AsJson = False,
    redis_url: RedisUrl = None,
    debug: Debug = False,
) -> None:
    """List snapshots, the newest first.

    Example:
      agent-client snapshot list --conversation web:ada:weather
    """
    part = {"conversation_id": conversation, "agent": agent, "limit": limit, "before": before}
    Connection(context, redis_url, debug=debug).run(partial(_list, part=part, as_json=as_json))


@app.command(epilog=DESCRIPTION)
def show(
    context: typer.Context,
    snapshot_id: SnapshotId,
    *,
    as_json: AsJson = False,
    redis_url: RedisUrl = None,
    debug: Debug = False,
) -> None:
    """Print what a snapshot holds: what it is, prompts, tools, messages.

    Example:
      agent-client snapshot show "$id" --json | jq .tools
    """
    work = partial(_show, snapshot_id=snapshot_id, as_json=as_json)
    Connection(context, redis_url, debug=debug).run(work)


@app.command(epilog=DESCRIPTION)
def restore(  # noqa: PLR0913 - one parameter for each option
    context: typer.Context,
    snapshot_id: SnapshotId,
    *,
    to: Annotated[
        str | None,
        typer.Option(metavar="CONVERSATION_ID", help="Where to. Default: a new conversation."),
    ] = None,
    agent: _Agent = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Clear that conversation first if it differs.")
    ] = False,
    allow_mismatch: Annotated[
        bool,
        typer.Option(
            "--allow-mismatch", help="Go on though the agent lacks tools or uses another provider."
        ),
    ] = False,
    as_json: AsJson = False,
    redis_url: RedisUrl = None,
    debug: Debug = False,
) -> None:
    """Put a snapshot's messages into a conversation and print its id.

    Examples:
      agent-client snapshot restore "$id"
      agent-client snapshot restore "$id" --to web:ada:weather --replace
    """
    how = {
        "conversation_id": to,
        "agent": agent,
        "replace": replace,
        "allow_mismatch": allow_mismatch,
    }
    work = partial(_restore, snapshot_id=snapshot_id, how=how, as_json=as_json)
    Connection(context, redis_url, debug=debug).run(work)


@app.command(epilog=DESCRIPTION)
def delete(
    context: typer.Context,
    snapshot_ids: Annotated[
        list[str], typer.Argument(metavar="SNAPSHOT_ID...", help="Which ones.")
    ],
    *,
    redis_url: RedisUrl = None,
    debug: Debug = False,
) -> None:
    """Remove snapshots, for good.

    Example:
      agent-client snapshot list --agent old | cut -f1 | xargs agent-client snapshot delete
    """
    work = partial(_delete, snapshot_ids=snapshot_ids)
    Connection(context, redis_url, debug=debug).run(work)


async def _save(
    client: "AsyncAgentClient", *, conversation_id: str, how: dict[str, Any], as_json: bool
) -> ExitCode:
    from agent_client.cli.output import print_models

    info = await client.snapshots.save(conversation_id, **how)
    if as_json:
        print_models([info])
    else:
        typer.echo(info.id)
    if not info.is_described:
        typer.echo(
            "No worker has told prompts and tools of its agent, so they are not in it.", err=True
        )
    return ExitCode.OK


async def _list(client: "AsyncAgentClient", *, part: dict[str, Any], as_json: bool) -> ExitCode:
    from agent_client.cli.output import print_models, print_table

    found = await client.snapshots.list(**part)
    if as_json:
        print_models(found)
    else:
        titles = ("snapshot", "agent", "provider", "model", "messages", "created", "conversation")
        print_table(titles, map(_row, found), empty="There are no such snapshots.")
    return ExitCode.OK


def _row(info: "SnapshotInfo") -> tuple[str, ...]:
    return (
        info.id,
        info.agent or "",
        info.provider or "",
        info.model or "",
        str(info.messages),
        f"{info.created_at.astimezone():%Y-%m-%d %H:%M:%S}",
        info.conversation_id,
    )


async def _show(client: "AsyncAgentClient", *, snapshot_id: str, as_json: bool) -> ExitCode:
    from agent_client.cli.output import print_models

    loaded = await client.snapshots.load(snapshot_id)
    if as_json:
        print_models([loaded])
    else:
        _print(loaded)
    return ExitCode.OK


def _print(loaded: "Snapshot") -> None:
    from agent_client.live_view.plain import message_line
    from agent_client.live_view.text import clean

    titles = ("snapshot", "agent", "provider", "model", "messages", "created", "conversation")
    for title, value in zip(titles, _row(loaded.info), strict=True):
        typer.echo(f"{title}: {clean(value)}")
    for prompt in loaded.prompts:
        text = f"computed for each run, by {prompt.name}" if prompt.is_dynamic else prompt.text
        typer.echo(f"prompt: {clean(text or '')}")
    for tool in loaded.tools:
        typer.echo(f"tool: {clean(tool.name)}: {clean(tool.description or '')}")
    for message in loaded.history:
        typer.echo(message_line(message, with_date=True))


async def _restore(
    client: "AsyncAgentClient", *, snapshot_id: str, how: dict[str, Any], as_json: bool
) -> ExitCode:
    from agent_client.cli.output import print_json

    conversation_id = await client.snapshots.restore(snapshot_id, **how)
    if as_json:
        print_json({"conversation_id": conversation_id})
    else:
        typer.echo(conversation_id)
    return ExitCode.OK


async def _delete(client: "AsyncAgentClient", *, snapshot_ids: list[str]) -> ExitCode:
    from shared.snapshot.identity import check_snapshot_id

    code = ExitCode.OK
    for snapshot_id in map(check_snapshot_id, list(snapshot_ids)):
        if not await client.snapshots.delete(snapshot_id):
            typer.echo(f"There is no snapshot {snapshot_id}.", err=True)
            code = ExitCode.NOT_FOUND
    return code
