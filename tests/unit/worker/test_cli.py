"""`agent-worker`: what it serves and says, and the exit codes that health checks rely on."""

import asyncio
import json
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import pytest
from structlog.testing import capture_logs
from typer.testing import CliRunner, Result

from agent_worker.cli import app
from agent_worker.cli.display import masked_url, show_ready
from agent_worker.cli.report import ExitCode
from agent_worker.definition import AgentDefinition
from agent_worker.supervision.lifeline import Lifeline
from shared.backend import Backend
from shared.errors import StoreUnavailableError
from shared.memory_backend import build_memory_backend
from shared.run import AgentInfo, WorkerInfo
from shared.settings import Settings
from tests.unit.worker.scripted import ScriptedEngine

MODULE = """
from agent_worker import serve

async def desk(request):
    \"\"\"Answers what it is asked.\"\"\"
    return "done"

support = serve(desk, name="support")
billing = serve(desk, name="billing")
"""


class Served:
    """Stands in for `run_worker`, and remembers what it was to serve."""

    def __init__(self) -> None:
        self.settings = Settings()
        self.names: list[str] = []
        self.code = 0

    def __call__(
        self,
        settings: Settings,
        definitions: Sequence[AgentDefinition],
        *,
        on_announced: Callable[[], None] | None,
        on_ready: Callable[[str], None],
    ) -> int:
        self.settings = settings
        self.names = [definition.name for definition in definitions]
        if on_announced is not None:
            on_announced()
        on_ready("worker-1")
        return self.code


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Served:
    served = Served()
    monkeypatch.setattr("agent_worker.worker.run_worker", served)
    # The set-up of logging is the process's, and in a test that is pytest's.
    monkeypatch.setattr("shared.log.configure_logging", lambda *_: None)
    return served


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a module with two agents, in the current folder."""
    name = "agents_of_a_test"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield name
    sys.modules.pop(name, None)


@pytest.fixture
def backend() -> Backend:
    return build_memory_backend(Settings())


def invoke(*arguments: str, backend: Backend | None = None) -> Result:
    return CliRunner().invoke(app, list(arguments), obj=lambda _: backend)


def announce(backend: Backend, worker_id: str, hostname: str, *agents: str) -> None:
    """Let a worker beat once."""
    info = WorkerInfo(
        id=worker_id,
        hostname=hostname,
        pid=1,
        version="1",
        concurrency=10,
        agents=tuple(AgentInfo(name=name, queue="agents", tools=("search",)) for name in agents),
        started_at=datetime.now(UTC),
        active_runs=3,
    )
    asyncio.run(backend.ledger.beat(info))


# --- start ---


def test_start_serves_the_agents_of_its_modules(served: Served, module: str) -> None:
    """Modules are found in the current folder; what the worker returns is the exit code."""
    served.code = 1
    result = invoke("start", module)
    assert served.names == ["support", "billing"]
    assert result.exit_code == 1


def test_options_of_start_override_the_environment(
    served: Served, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is said on the command line counts more than AGENTS_..., which counts for the rest."""
    monkeypatch.setenv("AGENTS_CONCURRENCY", "7")
    monkeypatch.setenv("AGENTS_LEASE_S", "9")
    options = ("--concurrency", "50", "--log-level", "error", "--log-format", "json")
    urls = ("--redis-url", "redis://cache/1", "--broker-url", "amqp://rabbit//")
    assert invoke("start", module, *options, *urls).exit_code == ExitCode.OK
    settings = served.settings
    assert (settings.concurrency, settings.lease_s) == (50, 9.0)
    assert (settings.log_level, settings.log_format) == ("error", "json")
    assert settings.redis_url.get_secret_value() == "redis://cache/1"
    assert settings.effective_broker_url == "amqp://rabbit//"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import not_there_at_all", "not_there_at_all"),
        ("agents = []", "There is no agent"),
        (
            "from agent_worker import serve\nasync def f(r): ...\na = serve(f, name='../x')",
            "agent name",
        ),
    ],
)
def test_a_module_that_cannot_be_served_is_one_clear_line(
    served: Served, module: str, source: str, message: str
) -> None:
    """Exit code 2, what is wrong, no traceback; and no worker was started."""
    Path(f"{module}.py").write_text(source)
    result = invoke("start", module)
    assert result.exit_code == ExitCode.USAGE
    assert message in result.stderr
    assert result.stderr.startswith("Error: ")
    assert len(result.stderr.splitlines()) == 1
    assert served.names == []


def test_a_wrong_setting_is_named_and_its_value_is_not(
    served: Served, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A password in the wrong variable must not end up in a log."""
    monkeypatch.setenv("AGENTS_CONCURRENCY", "hunter2")
    result = invoke("start", module)
    assert result.exit_code == ExitCode.USAGE
    assert result.stderr.startswith("Error: AGENTS_CONCURRENCY: ")
    assert "hunter2" not in result.stderr


def test_settings_that_contradict_each_other_are_explained(
    served: Served, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line names both of them, without the words of a validation library."""
    monkeypatch.setenv("AGENTS_LEASE_S", "1")
    result = invoke("start", module)
    assert result.exit_code == ExitCode.USAGE
    assert result.stderr.startswith("Error: AGENTS_HEARTBEAT_S (1.0) must be at most a third")


def test_debug_shows_the_traceback(served: Served, module: str) -> None:
    """Whoever looks for a defect in an agent's module sees where it is."""
    Path(f"{module}.py").write_text("1 / 0")
    result = invoke("start", module, "--debug")
    assert result.exit_code == ExitCode.USAGE
    assert "ZeroDivisionError" in result.stderr
    assert "Traceback" in result.stderr


# --- several processes ---


class Supervised:
    """Stands in for `Supervisor`, and remembers what it was to keep alive."""

    def __init__(self) -> None:
        self.command: Sequence[str] = ()
        self.processes = 0
        self.options: dict[str, float] = {}

    def __call__(self, command: Sequence[str], processes: int, **options: float) -> Self:
        self.command, self.processes, self.options = command, processes, options
        return self

    def run(self) -> int:
        return 1


@pytest.fixture
def supervised(served: Served, monkeypatch: pytest.MonkeyPatch) -> Supervised:
    supervised = Supervised()
    monkeypatch.setattr("agent_worker.supervision.supervisor.Supervisor", supervised)
    monkeypatch.setattr("agent_worker.supervision.supervisor.usable_cores", lambda: 3)
    return supervised


def test_several_processes_are_this_command_once_more_for_each(
    served: Served, supervised: Supervised, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The supervisor neither serves nor loads a module; its exit code is the program's."""
    monkeypatch.setattr(
        sys, "orig_argv", ["python", "-X", "dev", "-m", "agent_worker.cli", "start"]
    )
    monkeypatch.setenv("AGENTS_HANDOVER_GRACE_S", "7")
    assert invoke("start", module, "--processes", "4").exit_code == 1
    assert supervised.processes == 4
    assert supervised.command == [sys.executable, "-X", "dev", "-m", "agent_worker.cli", "start"]
    assert supervised.options == {"grace_s": 7.0, "refusal_code": ExitCode.USAGE}
    assert served.names == []
    assert module not in sys.modules


@pytest.mark.parametrize(("cores", "expected"), [(3, 3), (1, 0)])
def test_no_number_of_processes_is_one_for_each_core(
    supervised: Supervised, module: str, monkeypatch: pytest.MonkeyPatch, cores: int, expected: int
) -> None:
    """And where there is one core, nothing has to be supervised."""
    monkeypatch.setenv("AGENTS_PROCESSES", "0")
    monkeypatch.setattr("agent_worker.supervision.supervisor.usable_cores", lambda: cores)
    invoke("start", module)
    assert supervised.processes == expected


def test_a_process_that_is_supervised_serves(
    served: Served, supervised: Supervised, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is started with the same arguments, and says when it has come up."""
    said: list[str] = []
    lifeline = SimpleNamespace(
        watch=lambda: said.append("watched"), report_up=lambda: said.append("up")
    )
    monkeypatch.setattr(Lifeline, "from_environment", lambda: lifeline)
    assert invoke("start", module, "--processes", "4").exit_code == ExitCode.OK
    assert (served.names, supervised.processes) == (["support", "billing"], 0)
    assert said == ["watched", "up"]


# --- what is served and where ---


def definition() -> AgentDefinition:
    return AgentDefinition("support", ScriptedEngine([], tools={"search": _never}))


async def _never(_: str) -> str:
    raise AssertionError("nothing is executed here")


def test_a_ready_worker_logs_what_it_serves_and_where(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a terminal it is one entry, and no password is in it."""
    monkeypatch.setattr(sys, "stderr", StringIO())
    urls: dict[str, Any] = {
        "redis_url": "redis://me:s3cret@cache/0",
        "broker_url": "amqp://u:s3cret@mq//",
    }
    settings = Settings.model_validate({**urls, "concurrency": 42})
    with capture_logs() as entries:
        show_ready(settings, [definition()], "worker-1")
    [entry] = entries
    assert entry["event"] == "worker.serving"
    assert (entry["worker"], entry["concurrency"], entry["queues"]) == ("worker-1", "42", "agents")
    assert (entry["redis"], entry["broker"]) == ("redis://me:***@cache/0", "amqp://u:***@mq//")
    assert entry["agents"] == [{"name": "support", "queue": "agents", "tools": ["search"]}]


@pytest.mark.parametrize("width", ["40", "100"])
def test_on_a_terminal_it_is_a_panel_that_fits(monkeypatch: pytest.MonkeyPatch, width: str) -> None:
    """Agents, tools, queues, services and concurrency at a glance, and no password."""

    class Terminal(StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", width)
    monkeypatch.setenv("NO_COLOR", "1")
    settings = Settings.model_validate({"redis_url": "redis://me:s3cret@cache/0"})
    show_ready(settings, [definition()], "worker-1")
    shown = re.sub(r"\x1b\[\d*m", "", terminal.getvalue())
    assert all(
        fact in shown for fact in ("support", "search", "worker-1", "200", "redis://me:***@cache/0")
    )
    assert "s3cret" not in shown
    assert max(map(len, shown.splitlines())) <= int(width)


def test_one_of_many_processes_shows_no_panel(monkeypatch: pytest.MonkeyPatch) -> None:
    """They share a terminal, which a panel for each would fill."""

    class Terminal(StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    with capture_logs() as entries:
        show_ready(Settings(), [definition()], "worker-1", is_one_of_many=True)
    assert [entry["event"] for entry in entries] == ["worker.serving"]


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("redis://localhost:6379/0", "redis://localhost:6379/0"),
        ("redis://:s3cret@host/0", "redis://:***@host/0"),
        (
            "rediss://me:s3cret@host:1/0?ssl_cert_reqs=none",
            "rediss://me:***@host:1/0?ssl_cert_reqs=none",
        ),
        ("redis://me:s3/c@ret@host/0", "redis://me:***@host/0"),
        ("amqp://u:s3cret@mq//", "amqp://u:***@mq//"),
        ("sentinel://:s3cret@a:1;sentinel://:s3cret@b:1", "sentinel://:***@b:1"),
        ("redis://host/0?password=s3cret&db=1", "redis://host/0?password=***&db=1"),
    ],
)
def test_no_url_is_shown_with_its_password(url: str, masked: str) -> None:
    """Wherever it stands, quoted or not; the rest of the URL still says where the service is."""
    assert masked_url(url) == masked


# --- agents and ping ---


def test_agents_of_modules_are_listed_without_any_service(served: Served, module: str) -> None:
    """A module can be checked in CI, where neither Redis nor a broker runs."""
    result = invoke("agents", module)
    assert [line.split("\t")[0] for line in result.stdout.splitlines()] == ["billing", "support"]
    bodies = [json.loads(line) for line in invoke("agents", module, "--json").stdout.splitlines()]
    assert [AgentInfo.model_validate(body).name for body in bodies] == ["billing", "support"]
    assert bodies[0]["description"] == "Answers what it is asked."


def test_agents_of_live_workers_are_listed_once(served: Served, backend: Backend) -> None:
    """Two workers that serve one agent make one line."""
    announce(backend, "w1", "here", "support", "billing")
    announce(backend, "w2", "there", "support")
    result = invoke("agents", backend=backend)
    assert result.stdout == "billing\t\tagents\tsearch\nsupport\t\tagents\tsearch\n"


def test_ping_fails_without_a_live_worker(served: Served, backend: Backend) -> None:
    """The code tells an unhealthy container from one whose Redis is away."""
    result = invoke("ping", backend=backend)
    assert result.exit_code == ExitCode.FAILED
    assert result.stderr == "No worker is alive; start one: agent-worker start MODULE\n"
    announce(backend, "w1", "another-host")
    result = invoke("ping", "--here", backend=backend)
    assert (result.exit_code, result.stderr) == (ExitCode.FAILED, "No such worker is alive.\n")


def test_ping_finds_a_worker_anywhere_here_or_by_id(served: Served, backend: Backend) -> None:
    """A health check asks for this host's worker, so another host's must not answer for it."""
    announce(backend, "w-there", "another-host")
    assert invoke("ping", backend=backend).exit_code == ExitCode.OK
    assert invoke("ping", "--here", backend=backend).exit_code == ExitCode.FAILED
    announce(backend, "w-here", socket.gethostname())
    here = invoke("ping", "--here", backend=backend)
    assert here.stdout == "w-here is alive, with 3 of 10 runs (release 1, format 1)\n"
    assert invoke("ping", "--worker", "w-there", backend=backend).exit_code == ExitCode.OK
    assert invoke("ping", "--worker", "w-gone", backend=backend).exit_code == ExitCode.FAILED
    body = json.loads(invoke("ping", "--worker", "w-here", "--json", backend=backend).stdout)
    assert WorkerInfo.model_validate(body).active_runs == 3


def test_ping_tells_that_redis_is_away(
    served: Served, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 4 and one line: whether the worker lives is not known then."""

    async def unavailable() -> list[WorkerInfo]:
        raise StoreUnavailableError("Redis is away.")

    monkeypatch.setattr(backend.ledger, "list_workers", unavailable)
    result = invoke("ping", "--here", backend=backend)
    assert (result.exit_code, result.stderr) == (ExitCode.UNAVAILABLE, "Error: Redis is away.\n")


def test_what_workers_announce_cannot_reach_the_terminal(served: Served, backend: Backend) -> None:
    """Anybody who can write to Redis can announce a name; none of it is obeyed."""
    announce(backend, "\x1b]0;pwned\x07\u202ew", "host", "\x1b[2Jagent")
    for command in ("ping", "agents"):
        assert not any(char in invoke(command, backend=backend).stdout for char in "\x1b\x07\u202e")


# --- the program ---


def test_every_help_documents_the_exit_codes_and_has_an_example() -> None:
    """A command can be used without reading its source."""
    for command in ("start", "agents", "ping"):
        text = invoke(command, "--help").stdout
        assert "4  Redis does not answer" in text
        assert f"  agent-worker {command}" in text


def test_the_program_loads_neither_celery_nor_redis_before_a_command_runs() -> None:
    """A health check every few seconds must not load what it does not need."""
    program = (
        "import sys; from agent_worker.cli import app\n"
        "heavy = {'redis', 'celery', 'kombu', 'pydantic_ai', 'openai', 'rich'}\n"
        "sys.exit(', '.join(sorted(heavy & set(sys.modules))) or 0)"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
