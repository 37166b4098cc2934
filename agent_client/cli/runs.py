"""The commands about runs: `submit`, `watch`, `cancel`, `runs`, `run`."""

import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent_client.cli.connection import Connection
from agent_client.cli.exit_code import ExitCode
from agent_client.cli.option import OnBusy, RunId, Status
from shared.command_line import AsJson, BrokerUrl, Debug, RedisUrl

if TYPE_CHECKING:
    from agent_client.client import AsyncAgentClient
    from shared.run import Run


def submit(  # noqa: PLR0913 - one parameter for each option
    context: typer.Context,
    agent: Annotated[str, typer.Argument(metavar="AGENT", help="A name that workers serve.")],
    text: Annotated[
        str, typer.Argument(metavar="INPUT", help="What to ask; - reads standard input.")
    ],
    *,
    conversation: Annotated[
        str | None, typer.Option(metavar="ID", help="The conversation to go on with.")
    ] = None,
    idempotency_key: Annotated[
        str | None, typer.Option(metavar="KEY", help="Submitting again with it gives the same run.")
    ] = None,
    metadata: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE|JSON", help="For tools, not for the model; repeatable."),
    ] = None,
    priority: Annotated[int, typer.Option(min=0, max=9, help="0 is first, 9 is last.")] = 5,
    on_busy: Annotated[
        OnBusy, typer.Option(help="What to do while another run holds the conversation.")
    ] = OnBusy.enqueue,
    history_size: Annotated[
        int | None, typer.Option(min=1, help="Messages that the model sees, the input included.")
    ] = None,
    max_rounds: Annotated[int | None, typer.Option(min=1, help="Model calls in this run.")] = None,
    time_limit: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="How long the run may take.")
    ] = None,
    require_worker: Annotated[
        bool, typer.Option("--require-worker", help="Fail instead of waiting for a first worker.")
    ] = False,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Print the run's id and return at once.")
    ] = False,
    as_json: AsJson = False,
    redis_url: RedisUrl = None,
    broker_url: BrokerUrl = None,
    debug: Debug = False,
) -> None:
    """Hand a run to the workers and watch it live.

    Ctrl-C stops the watching, never the run; `agent-client watch` comes back to it.

    Examples:
      agent-client submit researcher "What is new in Redis 8?"
      agent-client submit support "And by train?" --conversation web:ada
      git diff | agent-client submit reviewer - --metadata branch=main
      id=$(agent-client submit researcher "Compare both" --detach)
    """
    request = {
        "agent": agent,
        "input": _read_input(text),
        "conversation_id": conversation,
        "idempotency_key": idempotency_key,
        "metadata": _parse_metadata(metadata or ()),
        "priority": priority,
        "on_busy": on_busy.value,
        "history_size": history_size,
        "max_rounds": max_rounds,
        "time_limit_s": time_limit,
        "require_worker": require_worker,
    }
    connection = Connection(context, redis_url, broker_url, debug)
    connection.run(partial(_submit, request=request, detach=detach, as_json=as_json))


def watch(
    context: typer.Context,
    run_id: RunId,
    *,
    after: Annotated[
        str | None,
        typer.Option(metavar="CURSOR", help="Go on behind an event: what Ctrl-C or --json gave."),
    ] = None,
    svg: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Also save how it looked, as an SVG image.", dir_okay=False
        ),
    ] = None,
    as_json: AsJson = False,
    redis_url: RedisUrl = None,
    debug: Debug = False,
) -> None:
    """Show a run live, from its beginning or from where you left, until it has ended.

    On a terminal it is a picture that moves, elsewhere one line for each event.
    Ctrl-C stops the watching, never the run.

    Examples:
      agent-client watch run-3-0192f0c1a2b37d4e5f60718293a4b5c6
      agent-client watch "$id" --after '5-0|12-0'
      agent-client watch "$id" --json | jq -r 'select(.type=="outcome").output'
      agent-client watch "$id" > run.log || echo "it did not complete"
    """
    connection = Connection(context, redis_url, debug=debug)
    connection.run(partial(_watch, run_id=run_id, cursor=after, svg=svg, as_json=as_json))


def cancel(
    context: typer.Context,
    run_id: RunId,
    *,
    as_json: AsJson = False,
    redis_url: RedisUrl = None,
    broker_url: BrokerUrl = None,
    debug: Debug = False,
) -> None:
    """Stop a run: at once if it waits, else as soon as its worker has tidied its history.

    Repeating it is harmless, and so is cancelling a run that has ended.

    Examples:
      agent-client cancel run-3-0192f0c1a2b37d4e5f60718293a4b5c6
      agent-client runs --status queued | cut -f1 | xargs -n1 agent-client cancel
    """
    connection = Connection(context, redis_url, broker_url, debug)
    connection.run(partial(_cancel, run_id=run_id, as_json=as_json))


def runs(  # noqa: PLR0913 - one parameter for each option
    context: typer.Context,
    *,
    conversation: Annotated[
        str | None, typer.Option(metavar="ID", help="Only runs of this conversation.")
    ] = None,
    status: Annotated[
        list[Status] | None, typer.Option(help="Only runs with this status; repeatable.")
    ] = None,
    agent: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only runs of this agent.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 50,
    before: Annotated[
        str | None, typer.Option(metavar="RUN_ID", help="Only older runs: for the next page.")
    ] = None,
    as_json: AsJson = False,
    redis_url: RedisUrl = None,
    debug: Debug = False,
) -> None:
    """List runs, the newest first.

    A table on a terminal, tab-separated columns elsewhere.

    Examples:
      agent-client runs --status running --status queued
      agent-client runs --agent researcher --json | jq -r 'select(.error).error.code'
    """
    filters = {
        "conversation_id": conversation,
        "status": status,
        "agent": agent,
        "limit": limit,
        "before": before,
    }
    connection = Connection(context, redis_url, debug=debug)
    connection.run(partial(_runs, filters=filters, as_json=as_json))


def run(
    context: typer.Context,
    run_id: RunId,
    *,
    as_json: AsJson = False,
    redis_url: RedisUrl = None,
    debug: Debug = False,
) -> None:
    """Show the record of a run: status, times, attempts, tokens, cost, error.

    The cost is empty where it is unknown; `unpriced` says why.

    Example:
      agent-client run "$id" --json | jq -r .spending.cost
    """
    Connection(context, redis_url, debug=debug).run(partial(_run, run_id=run_id, as_json=as_json))


async def _submit(
    client: "AsyncAgentClient", *, request: dict[str, Any], detach: bool, as_json: bool
) -> ExitCode:
    run = await client.submit(**request)
    if detach and as_json:
        from agent_client.cli.output import print_models

        print_models([await run.get()])
    elif detach:
        typer.echo(run.id)
    else:
        from agent_client.cli.following import follow

        return await follow(run, as_json=as_json)
    return ExitCode.OK


async def _watch(
    client: "AsyncAgentClient", *, run_id: str, cursor: str | None, svg: Path | None, as_json: bool
) -> ExitCode:
    from agent_client.cli.following import follow

    return await follow(client.run(run_id), cursor=cursor, svg=svg, as_json=as_json)


async def _cancel(client: "AsyncAgentClient", *, run_id: str, as_json: bool) -> ExitCode:
    from agent_client.cli.output import print_json
    from shared.run import CancelResult

    result = await client.run(run_id).cancel()
    if as_json:
        print_json({"run_id": run_id, "result": result.value})
        return ExitCode.OK
    words = {
        CancelResult.CANCELLED: "Cancelled; it had not started.",
        CancelResult.REQUESTED: "Its worker was told to stop.",
        CancelResult.ALREADY_REQUESTED: "It was cancelled before; its worker is stopping it.",
        CancelResult.ALREADY_ENDED: "It had ended already; nothing changed.",
    }
    typer.echo(words[result])
    return ExitCode.OK


async def _runs(client: "AsyncAgentClient", *, filters: dict[str, Any], as_json: bool) -> ExitCode:
    from agent_client.cli.output import print_models, print_table
    from shared.run import RunStatus

    if filters["status"]:
        filters["status"] = [RunStatus(name.value) for name in filters["status"]]
    found = await client.runs(**filters)
    if as_json:
        print_models(found)
    else:
        titles = ("run", "status", "agent", "took", "error", "conversation", "submitted")
        print_table(titles, map(_row, found), empty="There are no such runs.")
    return ExitCode.OK


async def _run(client: "AsyncAgentClient", *, run_id: str, as_json: bool) -> ExitCode:
    from agent_client.cli.output import print_fields, print_models

    found = await client.run(run_id).get()
    if as_json:
        print_models([found])
    else:
        print_fields(found)
    return ExitCode.OK


def _row(run: "Run") -> tuple[str, ...]:
    from agent_client.live_view.text import duration_text

    took = ""
    if run.started_at is not None and run.finished_at is not None:
        took = duration_text((run.finished_at - run.started_at).total_seconds())
    return (
        run.id,
        run.status.value,
        run.agent,
        took,
        run.error.code if run.error is not None else "",
        run.conversation_id or "",
        f"{run.created_at.astimezone():%Y-%m-%d %H:%M:%S}",
    )


def _read_input(text: str) -> str:
    if text != "-":
        return text
    try:
        read = sys.stdin.read().removesuffix("\n")
    except UnicodeDecodeError as error:
        raise typer.BadParameter(f"standard input is not text ({error}).") from error
    if not read:
        raise typer.BadParameter("standard input is empty.")
    return read


def _parse_metadata(items: Sequence[str]) -> dict[str, Any]:
    """``key=value`` gives a string; a JSON object may give anything. Later ones win."""
    metadata: dict[str, Any] = {}
    for item in items:
        name, separator, value = item.partition("=")
        if item.lstrip().startswith("{"):
            metadata |= _parse_object(item)
        elif separator and name:
            metadata[name] = value
        else:
            raise typer.BadParameter(f"--metadata {item!r}: neither KEY=VALUE nor a JSON object.")
    return metadata


def _parse_object(item: str) -> dict[str, Any]:
    try:
        value = json.loads(item)
    except (ValueError, RecursionError) as error:
        raise typer.BadParameter(f"--metadata is not valid JSON: {error}.") from error
    return dict(value)  # what starts with a brace and can be read is an object
