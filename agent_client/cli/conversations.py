"""The commands about what runs belong to: `history`, `conversations`, `agents`."""

import shlex
import sys
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent_client.cli.connection import Connection
from agent_client.cli.exit_code import ExitCode
from agent_client.cli.option import ConversationId, RoleName
from shared.command_line import AsJson, Debug, RedisUrl

if TYPE_CHECKING:
    from agent_client.client import AsyncAgentClient
    from shared.message import Message


def history(  # noqa: PLR0913 - one parameter for each option
    context: typer.Context,
    conversation_id: ConversationId,
    *,
    limit: Annotated[int, typer.Option(min=1, help="At most so many messages.")] = 50,
    after: Annotated[
        str | None, typer.Option(metavar="CURSOR", help="The first ones behind this message.")
    ] = None,
    before: Annotated[
        str | None, typer.Option(metavar="CURSOR", help="The last ones before this message.")
    ] = None,
    role: Annotated[
        list[RoleName] | None, typer.Option(help="Only messages of this role; repeatable.")
    ] = None,
    as_json: AsJson = False,
    redis_url: RedisUrl = None,
    debug: Debug = False,
) -> None:
    """Print the newest messages of a conversation, oldest first.

    A conversation that nobody has written to is empty. For the cursors of
    messages look into the --json output.

    Examples:
      agent-client history web:ada:weather
      agent-client history web:ada:weather --role user --role assistant --limit 10
      agent-client history web:ada:weather --json | jq -r .cursor | tail -1
    """
    part = {
        "limit": limit,
        "after": after,
        "before": before,
        "roles": role,
    }
    work = partial(_history, conversation_id=conversation_id, part=part, as_json=as_json)
    Connection(context, redis_url, debug=debug).run(work)


def conversations(
    context: typer.Context,
    *,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 50,
    as_json: AsJson = False,
    redis_url: RedisUrl = None,
    debug: Debug = False,
) -> None:
    """List conversations, the one with the newest run first; or manage them.

    A conversation appears once its first run was submitted. The commands are
    about managed ones, which have a record.

    Examples:
      agent-client conversations --limit 5
      agent-client conversations list --user ada
    """
    if context.invoked_subcommand is not None:
        return
    work = partial(_conversations, limit=limit, as_json=as_json)
    Connection(context, redis_url, debug=debug).run(work)


def agents(
    context: typer.Context,
    *,
    as_json: AsJson = False,
    redis_url: RedisUrl = None,
    debug: Debug = False,
) -> None:
    """List the agents that live workers serve.

    These are the names that `submit` takes.

    Example:
      agent-client agents --json | jq -r .name
    """
    Connection(context, redis_url, debug=debug).run(partial(_agents, as_json=as_json))


async def _history(
    client: "AsyncAgentClient", *, conversation_id: str, part: dict[str, Any], as_json: bool
) -> ExitCode:
    from agent_client.cli.output import message_json, print_json
    from shared.message import Role

    if part["roles"]:
        part["roles"] = [Role(name.value) for name in part["roles"]]
    messages = await client.history(conversation_id, **part)
    if as_json:
        for message in messages:
            print_json(message_json(message))
    elif not messages:
        typer.echo("There are no such messages.", err=True)
    elif sys.stdout.isatty():
        _print_conversation(messages)
        if len(messages) == part["limit"] and part["after"] is None and messages[0].cursor:
            older = ["agent-client", "history", conversation_id, "--before", messages[0].cursor]
            typer.echo(f"\nThere may be older ones: {shlex.join(older)}", err=True)
    else:
        from agent_client.live_view.plain import message_line

        for message in messages:
            typer.echo(message_line(message, with_date=True))
    return ExitCode.OK


def _print_conversation(messages: Sequence["Message"]) -> None:
    from rich.console import Console

    from agent_client.live_view.screen import draw_message

    console = Console()
    for message in messages:
        console.print(draw_message(message))


async def _conversations(client: "AsyncAgentClient", *, limit: int, as_json: bool) -> ExitCode:
    from agent_client.cli.output import print_json

    found = await client.conversations(limit=limit)
    if not found and not as_json:
        typer.echo("There are no conversations yet.", err=True)
    for conversation_id in found:
        if as_json:
            print_json({"conversation_id": conversation_id})
        else:
            typer.echo(conversation_id)
    return ExitCode.OK


async def _agents(client: "AsyncAgentClient", *, as_json: bool) -> ExitCode:
    from agent_client.cli.output import print_models, print_table

    found = await client.agents()
    if as_json:
        print_models(found)
        return ExitCode.OK
    workers = Counter(agent.name for worker in await client.workers() for agent in worker.agents)
    titles = ("agent", "workers", "model", "description", "tools")
    rows = [
        (
            agent.name,
            str(workers[agent.name]),
            agent.model or "",
            agent.description or "",
            ", ".join(agent.tools),
        )
        for agent in found
    ]
    print_table(titles, rows, empty="No worker is alive; start one: agent-worker start MODULE")
    return ExitCode.OK
