"""`agent-client`: what each command prints, and the exit codes that scripts rely on."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agent_client import Settings
from agent_client.cli import app
from agent_client.cli.exit_code import ExitCode
from agent_client.cli.option import OnBusy, RoleName, Status
from shared.event import MessageEvent, stored_event_adapter
from shared.message import Message, Role, tool_result_draft
from shared.run import BusyPolicy, Outcome, Run, RunStatus
from tests.unit.client.cli_stage import (
    ASKS,
    CALL,
    CONVERSATION,
    HOSTILE,
    Play,
    Stage,
    answer,
    be_cancelled,
    fail,
    lines,
)
from tests.unit.client.puppet import AGENT, Puppet

MANAGING = ("list", "show", "deactivate", "reset", "fork", "archive", "purge", "tidy")


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    asyncio.run(stage.backend.aclose())


def test_submit_watches_until_the_answer(stage: Stage) -> None:
    """Without a terminal: a line for each event in order, then the answer as it is."""
    stage.play = answer
    result = stage.invoke("submit", AGENT, "hello")
    assert result.exit_code == ExitCode.OK
    who_and_what = [line[14:] for line in result.stdout.splitlines()]
    assert who_and_what[:4] == [
        "status     queued",
        "status     running on puppet-1",
        "user       hello",
        'assistant  calls search(query="rings")',
    ]
    assert "found" in who_and_what[4]
    assert result.stdout.endswith("\n\ndone\n")


def test_detach_prints_the_run_id_and_nothing_else(stage: Stage) -> None:
    """So that a script can write run=$(agent-client submit ... --detach)."""
    result = stage.invoke("submit", AGENT, "hello", "--detach")
    assert result.stdout.splitlines() == stage.rung
    assert stage.record(result.stdout.strip()).status is RunStatus.QUEUED


def test_detach_with_json_prints_the_record(stage: Stage) -> None:
    """The line is a stored run, with the names that `runs --json` has."""
    result = stage.invoke("submit", AGENT, "hello", "--detach", "--json")
    [body] = lines(result)
    assert Run.model_validate(body) == stage.record(body["id"])


def test_every_option_of_submit_reaches_the_run(stage: Stage) -> None:
    """What is said on the command line is in the ledger."""
    run = stage.record(
        stage.submit(
            "hello",
            *("--conversation", CONVERSATION, "--idempotency-key", "order-1", "--priority", "2"),
            *("--on-busy", "interrupt", "--history-size", "7", "--max-rounds", "3"),
            *("--time-limit", "2.5", "--metadata", "user=ada", "--metadata", '{"n": 1, "x": null}'),
        )
    )
    assert (run.conversation_id, run.idempotency_key, run.priority) == (CONVERSATION, "order-1", 2)
    assert run.on_busy is BusyPolicy.INTERRUPT
    options = run.options
    assert (options.history_size, options.max_rounds, options.time_limit_s) == (7, 3, 2.5)
    assert run.metadata == {"user": "ada", "n": 1, "x": None}


def test_a_dash_reads_the_input_from_standard_input(stage: Stage) -> None:
    """A pipe ends with a line break that is not part of what was said; others are."""
    result = stage.invoke("submit", AGENT, "-", "--detach", stdin="one\ntwo\n")
    assert stage.record(result.stdout.strip()).input == "one\ntwo"


@pytest.mark.parametrize(
    ("arguments", "stdin", "message"),
    [
        (["-"], "", "empty"),
        (["-"], b"\xff\xfe", "not text"),
        (["hello", "--metadata", "novalue"], None, "KEY=VALUE"),
        (["hello", "--metadata", '{"a": '], None, "not valid JSON"),
        (["hello", "--priority", "10"], None, "--priority"),
        (["hello", "--on-busy", "shout"], None, "--on-busy"),
        (["hello", "--conversation", "../etc"], None, "conversation id"),
    ],
)
def test_bad_input_is_refused_before_anything_is_stored(
    stage: Stage, arguments: list[str], stdin: str | bytes | None, message: str
) -> None:
    """Exit code 2 and a line that names the culprit; the ledger stays empty."""
    result = stage.invoke("submit", AGENT, *arguments, "--detach", stdin=stdin)
    assert result.exit_code == ExitCode.USAGE
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert asyncio.run(stage.backend.ledger.list_runs()) == []


@pytest.mark.parametrize(
    ("play", "code", "said"),
    [
        (answer, ExitCode.OK, "completed"),
        (fail, ExitCode.FAILED, "model_error: It broke."),
        (be_cancelled, ExitCode.CANCELLED, "cancelled"),
    ],
)
def test_the_exit_code_tells_how_the_run_ended(
    stage: Stage, play: Play, code: ExitCode, said: str
) -> None:
    """A script needs no output to know; watching a run that has ended tells the same."""
    stage.play = play
    submitted = stage.invoke("submit", AGENT, "hello")
    watched = stage.invoke("watch", stage.rung[0])
    assert (submitted.exit_code, watched.exit_code) == (code, code)
    assert said in submitted.stdout
    assert said in watched.stdout


def test_json_events_are_stored_events_and_the_outcome_is_last(stage: Stage) -> None:
    """Each line reads back as what it was, messages with all they hold; each event has a cursor."""
    stage.play = answer
    bodies = lines(stage.invoke("submit", AGENT, "hello", "--json"))
    kinds = [body["type"] for body in bodies]
    assert kinds[:3] == ["status", "status", "message"]
    assert kinds[-2:] == ["status", "outcome"]
    assert all(body["cursor"] for body in bodies[:-1])
    for body in bodies[:-1]:
        if body["type"] != "message":
            assert stored_event_adapter.validate_python(body).run_id == stage.rung[0]
    messages = [MessageEvent.model_validate(body).message for body in bodies if "message" in body]
    stored = asyncio.run(stage.client(Settings()).run(stage.rung[0]).history())
    assert messages == stored
    del bodies[-1]["type"]
    assert Outcome.model_validate(bodies[-1]) == stage.record(stage.rung[0]).outcome


def test_ctrl_c_stops_the_watching_and_says_how_to_come_back(stage: Stage) -> None:
    """The run goes on, and the printed command shows exactly what was not shown yet."""

    async def interrupt_after_the_call(puppet: Puppet, run_id: str) -> None:
        await puppet.write(run_id, ASKS)
        for _ in range(20):  # let the watcher read it
            await asyncio.sleep(0)
        signal.raise_signal(signal.SIGINT)

    stage.play = interrupt_after_the_call
    result = stage.invoke("submit", AGENT, "hello")
    run_id = stage.rung[0]
    assert result.exit_code == ExitCode.INTERRUPTED
    assert "the run goes on" in result.stderr
    assert stage.record(run_id).status is RunStatus.RUNNING

    [command] = [line.split() for line in result.stderr.splitlines() if "agent-client" in line]
    assert command[:4] == ["agent-client", "watch", run_id, "--after"]
    asyncio.run(stage.puppet.write(run_id, tool_result_draft(CALL, "found")))
    asyncio.run(stage.puppet.finish(run_id))
    rest = stage.invoke("watch", run_id, "--after", command[4].strip("'"))
    assert rest.exit_code == ExitCode.OK
    assert [line[14:].split()[0] for line in rest.stdout.splitlines()[:3]] == [
        "tool",
        "status",
        "run",
    ]


def test_a_watch_can_leave_an_image_behind(stage: Stage, tmp_path: Path) -> None:
    """The image holds the answer; a place that cannot be written to is a usage error."""
    stage.play = answer
    stage.invoke("submit", AGENT, "hello")
    image = tmp_path / "run.svg"
    assert stage.invoke("watch", stage.rung[0], "--svg", str(image)).exit_code == ExitCode.OK
    assert "search" in image.read_text()
    nowhere = str(tmp_path / "missing" / "run.svg")
    assert stage.invoke("watch", stage.rung[0], "--svg", nowhere).exit_code == ExitCode.USAGE


def test_history_as_json_round_trips_to_messages(stage: Stage) -> None:
    """Each line is a stored message and its cursor: nothing is lost on the way."""
    stage.play = answer
    stage.invoke("submit", AGENT, "hello", "--conversation", CONVERSATION)
    result = stage.invoke("history", CONVERSATION, "--json")
    stored = asyncio.run(stage.client(Settings()).history(CONVERSATION))
    assert len(stored) == 4
    assert [Message.model_validate(body) for body in lines(result)] == stored
    assert all(message.cursor for message in stored)


def test_history_can_be_filtered_and_paged(stage: Stage) -> None:
    """Roles, limits and both directions arrive at the store."""
    stage.play = answer
    stage.invoke("submit", AGENT, "hello", "--conversation", CONVERSATION)

    def texts(*arguments: str) -> list[str]:
        result = stage.invoke("history", CONVERSATION, "--json", *arguments)
        return [Message.model_validate(body).text for body in lines(result)]

    cursors = [body["cursor"] for body in lines(stage.invoke("history", CONVERSATION, "--json"))]
    assert texts("--role", "user", "--role", "tool") == ["hello", "found"]
    assert texts("--limit", "1") == ["done"]
    assert texts("--after", cursors[0], "--limit", "2") == ["", "found"]
    assert texts("--before", cursors[2], "--limit", "1") == [""]


def test_history_for_people_has_a_date_and_no_control_characters(stage: Stage) -> None:
    """What a user sent yesterday must not take over the terminal of whoever looks today."""
    stage.play = answer
    stage.invoke("submit", AGENT, HOSTILE, "--conversation", CONVERSATION)
    result = stage.invoke("history", CONVERSATION)
    assert not any(char in result.stdout for char in "\x1b\x07\x9b")
    assert "[bold]text[/bold]" in result.stdout
    date = f"{asyncio.run(stage.client(Settings()).history(CONVERSATION))[0].created_at:%Y-}"
    assert all(line.startswith(date) for line in result.stdout.splitlines())


def test_runs_are_filtered_and_their_json_round_trips(stage: Stage) -> None:
    """A line of `runs --json` is the record; without it, columns are separated by tabs."""
    done = stage.submit("one", "--conversation", CONVERSATION)
    asyncio.run(stage._play(fail, done))
    waiting = stage.submit("two")
    [body] = lines(stage.invoke("runs", "--status", "failed", "--status", "running", "--json"))
    assert Run.model_validate(body) == stage.record(done)
    row = stage.invoke("runs", "--conversation", CONVERSATION).stdout.rstrip("\n").split("\t")
    assert row[:3] == [done, "failed", AGENT]
    assert row[4:6] == ["model_error", CONVERSATION]
    newest = stage.invoke("runs", "--limit", "1").stdout
    assert newest.startswith(waiting)
    assert stage.invoke("runs", "--before", waiting).stdout.startswith(done)
    assert stage.invoke("runs", "--agent", "nobody").stdout == ""


@pytest.mark.parametrize("command", [("history", "nobody"), ("conversations",)])
def test_nothing_to_list_is_said_apart_from_the_output(
    stage: Stage, command: tuple[str, ...]
) -> None:
    """A person learns that it is empty and not broken; a script reads nothing."""
    result = stage.invoke(*command)
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr.startswith("There are no ")
    assert stage.invoke(*command, "--json").output == ""


def test_conversations_and_agents_are_listed(stage: Stage) -> None:
    """Ids one to a line; agents as live workers announce them."""
    stage.submit("hello", "--conversation", CONVERSATION)
    assert stage.invoke("conversations").stdout == f"{CONVERSATION}\n"
    listed = lines(stage.invoke("conversations", "--json"))
    assert listed == [{"conversation_id": CONVERSATION}]
    assert stage.invoke("agents").stdout.split("\t")[:2] == [AGENT, "1"]
    assert [body["name"] for body in lines(stage.invoke("agents", "--json"))] == [AGENT]


def test_cancel_says_what_it_found(stage: Stage) -> None:
    """The first cancel stops a run that waits; the second one finds it ended."""
    run_id = stage.submit()
    assert "had not started" in stage.invoke("cancel", run_id).stdout
    assert stage.record(run_id).status is RunStatus.CANCELLED
    again = stage.invoke("cancel", run_id, "--json")
    assert lines(again) == [{"run_id": run_id, "result": "already_ended"}]


def test_every_help_documents_the_exit_codes_and_has_an_example() -> None:
    """A command can be used without reading its source."""
    for command in (
        *("submit", "watch", "history", "runs", "run", "cancel", "conversations", "agents"),
        *(f"conversations {verb}" for verb in MANAGING),
    ):
        text = CliRunner().invoke(app, [*command.split(), "--help"]).stdout
        assert "130  Ctrl-C" in text
        assert f"  agent-client {command}" in text
        assert "--json" in text


def test_options_accept_exactly_the_values_that_there_are() -> None:
    """The names are repeated so that --help is quick; they must not drift apart."""
    for repeated, original in ((OnBusy, BusyPolicy), (Status, RunStatus), (RoleName, Role)):
        assert {each.value for each in repeated} == {each.value for each in original}


def test_the_program_loads_nothing_heavy_before_a_command_runs() -> None:
    """`--help` and completion stay quick: no Redis, no Celery, no pydantic, no LLM library."""
    program = (
        "import sys; from agent_client.cli import app\n"
        "heavy = {'pydantic', 'redis', 'celery', 'kombu', 'structlog', 'pydantic_ai', 'openai'}\n"
        "sys.exit(', '.join(sorted(heavy & set(sys.modules))) or 0)"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
