"""Errors of `agent-client`: one line on standard error, and a code for each kind."""

import asyncio
from collections.abc import Iterator
from types import TracebackType
from typing import Self

import pytest
from typer.testing import CliRunner

from agent_client import AsyncAgentClient, Settings
from agent_client.cli import app
from agent_client.cli.exit_code import ExitCode
from shared import errors
from shared.run import Run
from tests.unit.client.cli_stage import CONVERSATION, HOSTILE, Stage
from tests.unit.client.puppet import AGENT


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    asyncio.run(stage.backend.aclose())


class Broken:
    """A client whose every question ends with one error."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass

    async def runs(self, **_: object) -> list[Run]:
        raise self._error


ERRORS = [
    (errors.RunFailedError, ExitCode.FAILED),
    (errors.ResultTimeoutError, ExitCode.FAILED),
    (errors.CorruptEntryError, ExitCode.FAILED),
    (errors.NewerVersionError, ExitCode.FAILED),
    (errors.ConfigurationError, ExitCode.USAGE),
    (errors.InvalidIdError, ExitCode.USAGE),
    (errors.NotDistributedError, ExitCode.USAGE),
    (errors.ConversationBusyError, ExitCode.USAGE),
    (errors.IdempotencyConflictError, ExitCode.USAGE),
    (errors.InvalidCursorError, ExitCode.USAGE),
    (errors.PayloadTooLargeError, ExitCode.USAGE),
    (errors.RunCancelledError, ExitCode.CANCELLED),
    (errors.NoWorkerError, ExitCode.UNAVAILABLE),
    (errors.StoreUnavailableError, ExitCode.UNAVAILABLE),
    (errors.BrokerUnavailableError, ExitCode.UNAVAILABLE),
    (errors.UnknownRunError, ExitCode.NOT_FOUND),
    (errors.UnknownAgentError, ExitCode.NOT_FOUND),
]


@pytest.mark.parametrize(("kind", "code"), ERRORS)
def test_each_error_has_its_exit_code_and_one_line(
    stage: Stage, kind: type[errors.AgentsError], code: ExitCode
) -> None:
    """On standard error stands what to do next; no traceback, and nothing on standard output."""
    broken = Broken(kind("Do that next."))
    result = CliRunner().invoke(app, ["runs"], obj=lambda _: broken)
    assert result.exit_code == code
    assert result.stderr == "Error: Do that next.\n"
    assert result.stdout == ""


def test_debug_adds_the_traceback(stage: Stage) -> None:
    """Whoever looks for a defect sees where the error comes from; the exit code stays."""
    broken = Broken(errors.StoreUnavailableError("Redis is away."))
    result = CliRunner().invoke(app, ["runs", "--debug"], obj=lambda _: broken)
    assert result.exit_code == ExitCode.UNAVAILABLE
    assert "Traceback" in result.stderr
    assert result.stderr.endswith("Error: Redis is away.\n")


def test_errors_hold_no_control_characters(stage: Stage) -> None:
    """An error may quote what somebody else wrote."""
    broken = Broken(errors.RequestError(f"Bad: {HOSTILE}"))
    result = CliRunner().invoke(app, ["runs"], obj=lambda _: broken)
    assert not any(char in result.stderr for char in "\x1b\x07\x9b")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["submit", "unknown", "hello"], ExitCode.NOT_FOUND),
        (["watch", f"run-3-{'0' * 32}"], ExitCode.NOT_FOUND),
        (["watch", "not-a-run"], ExitCode.USAGE),
        (["cancel", f"run-3-{'0' * 32}"], ExitCode.NOT_FOUND),
        (["history", CONVERSATION, "--after", "nonsense"], ExitCode.USAGE),
        (["history", "no spaces"], ExitCode.USAGE),
    ],
)
def test_what_is_not_there_or_not_an_id_is_told_apart(
    stage: Stage, arguments: list[str], code: ExitCode
) -> None:
    """5 for something that does not exist, 2 for something that cannot exist."""
    result = stage.invoke(*arguments)
    assert result.exit_code == code, result.output
    assert result.stderr.startswith("Error: ")


def test_a_wrong_cursor_is_a_usage_error_of_watch(stage: Stage) -> None:
    """The message says which cursor belongs where."""
    result = stage.invoke("watch", stage.submit(), "--after", "5-0")
    assert result.exit_code == ExitCode.USAGE
    assert "cursor" in result.stderr


def test_a_busy_conversation_rejects_if_asked_to(stage: Stage) -> None:
    """`--on-busy reject` is an error for the second, and the first is not touched."""
    first = stage.submit("one", "--conversation", CONVERSATION)
    options = ("--conversation", CONVERSATION, "--on-busy", "reject")
    result = stage.invoke("submit", AGENT, "two", *options)
    assert result.exit_code == ExitCode.USAGE
    assert [run.id for run in asyncio.run(stage.backend.ledger.list_runs())] == [first]


def test_no_worker_and_no_broker_are_told_as_unavailable(stage: Stage) -> None:
    """A script may try again later, and nothing was stored."""
    arguments = ["submit", AGENT, "hello", "--require-worker"]
    nobody = CliRunner().invoke(app, arguments, obj=stage.client)
    stage.is_broken = True
    mute = stage.invoke("submit", AGENT, "hello")
    assert (nobody.exit_code, mute.exit_code) == (ExitCode.UNAVAILABLE, ExitCode.UNAVAILABLE)
    assert asyncio.run(stage.backend.ledger.list_runs()) == []


def test_a_bad_setting_is_named_without_its_value(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A password that ended up in the wrong variable must not end up in a log."""
    monkeypatch.setenv("AGENTS_CONCURRENCY", "hunter2")
    result = stage.invoke("runs")
    assert result.exit_code == ExitCode.USAGE
    assert "AGENTS_CONCURRENCY" in result.stderr
    assert "hunter2" not in result.stderr


def test_urls_on_the_command_line_override_the_environment(stage: Stage) -> None:
    """The client is built with what was given, and with the environment's rest."""
    seen: list[Settings] = []

    def open_client(settings: Settings) -> AsyncAgentClient:
        seen.append(settings)
        return stage.client(settings)

    urls = ["--redis-url", "redis://cache/1", "--broker-url", "amqp://rabbit//"]
    CliRunner().invoke(app, ["submit", AGENT, "hello", "--detach", *urls], obj=open_client)
    assert seen[0].redis_url.get_secret_value() == "redis://cache/1"
    assert seen[0].effective_broker_url == "amqp://rabbit//"
