"""The commands: `start`, `agents`, `ping`, `prepare`."""

import asyncio
import json
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

import typer

from agent_worker.cli.display import NO_WORKER, announced, print_agents, printable, show_ready
from agent_worker.cli.report import DESCRIPTION, ExitCode, errors_reported
from shared.command_line import (
    AsJson,
    BrokerUrl,
    Debug,
    RedisUrl,
    new_program,
    version_printer,
)

if TYPE_CHECKING:
    from agent_worker.definition import AgentDefinition
    from agent_worker.supervision.lifeline import Lifeline
    from shared.backend import Backend
    from shared.run import WorkerInfo
    from shared.settings import Settings

Answer = TypeVar("Answer")
OpenBackend = Callable[["Settings"], "Backend"]
"""Opens the stores. A test passes one in as the context's `obj`."""

app = new_program()


@app.callback(epilog=DESCRIPTION)
def agent_worker(
    *,
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=version_printer("agent-worker"),
            is_eager=True,
            help="Print the version.",
        ),
    ] = False,
) -> None:
    """Execute agent runs that clients submit.

    A worker serves the agents of the modules it is pointed at.

    Examples:
      agent-worker start my_project.agents
      agent-worker agents my_project.agents
      agent-worker ping --here
    """


@app.command(epilog=DESCRIPTION)
def start(
    modules: Annotated[
        list[str],
        typer.Argument(metavar="MODULE", help="Python modules that hold agents."),
    ],
    *,
    processes: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Worker processes; 0: one for each core. Default: AGENTS_PROCESSES, or 1.",
        ),
    ] = None,
    concurrency: Annotated[
        int | None,
        typer.Option(
            min=1, help="Runs in flight in each process. Default: AGENTS_CONCURRENCY, or 200."
        ),
    ] = None,
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"] | None,
        typer.Option(help="The least severe entry that is written. Default: info."),
    ] = None,
    log_format: Annotated[
        Literal["auto", "json", "console"] | None,
        typer.Option(help="Default: auto, which is JSON where there is no terminal."),
    ] = None,
    redis_url: RedisUrl = None,
    broker_url: BrokerUrl = None,
    debug: Debug = False,
) -> None:
    """Serve the agents of some modules until told to stop.

    Modules are found as by `python -m`: in the current folder, then where Python
    looks. SIGTERM or Ctrl-C hands all runs over to other workers within seconds;
    a second Ctrl-C does not wait for running tools, a third one for nothing.

    One process uses one core. With several, a further process starts them, passes
    signals on and replaces those that die.

    Examples:
      agent-worker start my_project.agents
      agent-worker start my_project.agents --processes 4
      agent-worker start billing.agents support.agents --concurrency 500
      AGENTS_REDIS_URL=redis://cache:6379/0 agent-worker start agents --log-format json
    """
    with errors_reported(debug=debug):
        from agent_worker.supervision.lifeline import Lifeline
        from agent_worker.supervision.supervisor import usable_cores

        settings = _set_up(
            processes=processes,
            concurrency=concurrency,
            log_level=log_level,
            log_format=log_format,
            redis_url=redis_url,
            broker_url=broker_url,
        )
        lifeline = Lifeline.from_environment()
        count = settings.processes or usable_cores()
        if lifeline is None and count > 1:
            raise typer.Exit(_supervise(settings, count))
        raise typer.Exit(_serve(settings, modules, lifeline))


@app.command(epilog=DESCRIPTION)
def agents(
    context: typer.Context,
    modules: Annotated[
        list[str] | None,
        typer.Argument(metavar="[MODULE]", help="Modules to look into, without serving them."),
    ] = None,
    *,
    as_json: AsJson = False,
    redis_url: RedisUrl = None,
    debug: Debug = False,
) -> None:
    """List what modules hold, or without modules, what live workers serve.

    Looking into modules needs neither Redis nor a broker.

    Examples:
      agent-worker agents my_project.agents
      agent-worker agents --json
    """
    with errors_reported(debug=debug):
        settings = _set_up(redis_url=redis_url)
        if modules:
            found = list(announced(settings, _load(modules)).agents)
        else:
            workers = _live_workers(context.obj, settings)
            found = list({agent.name: agent for one in workers for agent in one.agents}.values())
        found.sort(key=lambda agent: agent.name)
        if as_json:
            for agent in found:
                typer.echo(json.dumps(agent.model_dump(mode="json")))
        else:
            print_agents(found)


@app.command(epilog=DESCRIPTION)
def ping(
    context: typer.Context,
    *,
    worker: Annotated[
        str | None, typer.Option(metavar="ID", help="Only the worker with this id.")
    ] = None,
    here: Annotated[
        bool, typer.Option("--here", help="Only workers on this host, or in this container.")
    ] = False,
    as_json: AsJson = False,
    redis_url: RedisUrl = None,
    debug: Debug = False,
) -> None:
    """Ask whether a worker is alive, by its heartbeat in Redis.

    Prints those that are; with none, the exit code is 1. As a container's health
    check use `agent-worker ping --here`.

    Examples:
      agent-worker ping --here
      agent-worker ping --json | jq .active_runs
    """
    with errors_reported(debug=debug):
        found = [
            one
            for one in _live_workers(context.obj, _set_up(redis_url=redis_url))
            if worker in (None, one.id) and (not here or one.hostname == socket.gethostname())
        ]
        for one in found:
            text = (
                f"{one.id} is alive, with {one.active_runs} of {one.concurrency} runs "
                f"(release {one.version}, format {one.format_version})"
            )
            typer.echo(json.dumps(one.model_dump(mode="json")) if as_json else printable(text))
        if not found:
            is_any_meant = worker is None and not here
            typer.echo(NO_WORKER if is_any_meant else "No such worker is alive.", err=True)
            raise typer.Exit(ExitCode.FAILED)


@app.command(epilog=DESCRIPTION)
def prepare(context: typer.Context, *, redis_url: RedisUrl = None, debug: Debug = False) -> None:
    """Make the tables that AGENTS_CONVERSATION_URL needs, or bring them up to date.

    Workers and clients do it by themselves where their user may. Where it may not,
    run this as one that does, once and with each release that changes them.

    Example:
      AGENTS_CONVERSATION_URL=postgresql://owner@db/app agent-worker prepare
    """
    with errors_reported(debug=debug):
        settings = _set_up(redis_url=redis_url)
        _ask(context.obj, settings, lambda backend: backend.prepare())
        typer.echo("Everything is there.")


def _set_up(**given: str | int | None) -> "Settings":
    """Read the settings and send log entries to standard error."""
    from shared.log import configure_logging
    from shared.settings import read_settings

    settings = read_settings(**given)
    configure_logging(settings)
    return settings


def _supervise(settings: "Settings", processes: int) -> int:
    """Let processes of this very command serve. No agent is loaded here."""
    from agent_worker.supervision.supervisor import Supervisor

    command = [sys.executable, *sys.orig_argv[1:]]
    supervisor = Supervisor(
        command,
        processes,
        grace_s=settings.handover_grace_s,
        refusal_code=ExitCode.USAGE,
    )
    return supervisor.run()


def _serve(settings: "Settings", modules: Sequence[str], lifeline: "Lifeline | None") -> int:
    """Be a worker, alone or one of several that are supervised."""
    from agent_worker.worker import run_worker

    if lifeline is not None:
        lifeline.watch()
    definitions = _load(modules)
    return run_worker(
        settings,
        definitions,
        on_announced=lifeline.report_up if lifeline is not None else None,
        on_ready=partial(show_ready, settings, definitions, is_one_of_many=lifeline is not None),
    )


def _load(modules: Sequence[str]) -> list["AgentDefinition"]:
    from agent_worker.registry import load_agents

    return list(load_agents(modules).values())


def _live_workers(open_backend: OpenBackend | None, settings: "Settings") -> list["WorkerInfo"]:
    return _ask(open_backend, settings, lambda backend: backend.ledger.list_workers())


def _ask(
    open_backend: OpenBackend | None,
    settings: "Settings",
    question: Callable[["Backend"], Awaitable[Answer]],
) -> Answer:
    from shared.backend_building import build_backend

    async def ask() -> Answer:
        backend = (open_backend or build_backend)(settings)
        try:
            return await question(backend)
        finally:
            await backend.aclose()

    return asyncio.run(ask())


def main() -> None:
    """Entry point of the program."""
    app(prog_name="agent-worker")
