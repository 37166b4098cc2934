"""A PostgreSQL server of one's own, to be stopped, killed, frozen and started again."""

import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Self
from uuid import uuid4

import psycopg
from psycopg import sql

from shared.postgres_schema import schema_name
from tests.services import missing
from tests.topologies.rabbitmq import free_port

FOLDER_VARIABLE: Final = "AGENTS_TEST_POSTGRES_BIN"
"""Names the folder with `initdb` and `postgres`, for example those of another version."""
START_S: Final = 60.0
_DEBIAN: Final = Path("/usr/lib/postgresql")
_DOCUMENT: Final = Path(__file__).parents[2] / "docs" / "postgresql.md"
QUICK: Final[Mapping[str, str]] = {"fsync": "off", "full_page_writes": "off"}
"""For tests that lose no power. A killed server comes back with all that it committed."""


def find_postgres() -> Path | None:
    """The folder with the server's programs: the one asked for, on the PATH, or Debian's newest."""
    if asked_for := os.environ.get(FOLDER_VARIABLE):
        return Path(asked_for)
    if found := shutil.which("initdb"):
        return Path(found).parent
    versions = [each.parent for each in _DEBIAN.glob("*/bin/initdb")]
    return max(versions, key=lambda each: int(each.parent.name), default=None)


class PostgresServer:
    """A server on loopback whose data lasts as long as this object.

    `options` are settings of the server. The user `postgres` may do everything without a password;
    all others give one.
    """

    def __init__(self, options: Mapping[str, str] | None = None) -> None:
        programs = find_postgres()
        if programs is None:
            missing("there is no PostgreSQL: neither initdb on the PATH nor one of Debian's")
        self._programs = programs
        self._options = {**QUICK, "max_connections": "200", **(options or {})}
        # Not in a folder of pytest's: the server may not be root, and only root could get there.
        self._folder = Path(tempfile.mkdtemp(prefix="agents-postgres-"))
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        self._become: dict[str, Any] = {}
        if os.geteuid() == 0:
            owner = _owner()
            os.chown(self._folder, owner.pw_uid, owner.pw_gid)
            self._become = {
                "user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": [],
            }  # fmt: skip
        self._make()

    @property
    def url(self) -> str:
        """The database of the user that may do everything."""
        return self.url_at(self.port)

    def url_at(self, port: int) -> str:
        """The same through another port, say that of a proxy."""
        return f"postgresql://postgres@127.0.0.1:{port}/postgres"

    @property
    def is_running(self) -> bool:
        """Whether the process exists."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> Self:
        """Start it on the port and with the data of before, and wait until it serves."""
        settings = {
            "port": str(self.port),
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(self._folder),
            **self._options,
        }
        given = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", self._folder / "data", *given],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._folder,
                **self._become,
            )
        deadline = time.monotonic() + START_S
        while not self._serves():
            assert time.monotonic() < deadline, self.log()[-2000:]
            assert self.is_running, self.log()[-2000:]
            time.sleep(0.05)
        return self

    def stop(self) -> None:
        """End it as an administrator does who does not wait for clients."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """End it as a power cut does, but for its disk: nobody says goodbye."""
        self._end(signal.SIGQUIT)

    def restart(self) -> None:
        """Stop and start; clients lose their connections."""
        self.stop()
        self.start()

    def freeze(self) -> None:
        """Stop all of its processes: connections stay, and nothing answers."""
        self._send(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let them go on."""
        self._send(signal.SIGCONT)

    def remove(self) -> None:
        """End it and delete its data."""
        self.thaw()
        self._end(signal.SIGINT)
        shutil.rmtree(self._folder, ignore_errors=True)

    def log(self) -> str:
        """What it has said so far."""
        return (self._folder / "log").read_text(errors="replace")

    def execute(self, statement: str | sql.Composed, *values: Any) -> list[tuple[Any, ...]]:
        """Execute a statement as the user that may do everything."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(statement, values or None)
            return cursor.fetchall() if cursor.description else []

    def _make(self) -> None:
        subprocess.run(
            [
                *(self._programs / "initdb", "-D", self._folder / "data", "--no-sync", "-U"),
                *("postgres", "-E", "UTF8", "--locale", "C", "--auth=trust"),
            ],
            check=True,
            capture_output=True,
            cwd=self._folder,
            **self._become,
        )
        rules = "host all postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
        (self._folder / "data" / "pg_hba.conf").write_text(rules)

    def _serves(self) -> bool:
        try:
            psycopg.connect(self.url, connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def _pids(self) -> list[int]:
        if self._process is None or not self.is_running:
            return []
        parent = self._process.pid
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        return [parent, *map(int, children)]

    def _send(self, number: signal.Signals) -> None:
        for pid in self._pids():
            with suppress(ProcessLookupError):  # it served a connection that was closed just now
                os.kill(pid, number)

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None and self.is_running:
            self._process.send_signal(number)
            self._process.wait(30)


def _owner() -> pwd.struct_passwd:
    """Whom the server runs as, where the tests run as root."""
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        missing("PostgreSQL does not run as root, and there is no user postgres")


@contextmanager
def run_postgres(options: Mapping[str, str] | None = None) -> Iterator[PostgresServer]:
    """A server for the length of a block."""
    server = PostgresServer(options)
    try:
        yield server.start()
    finally:
        server.remove()


class Users:
    """The two users that docs/postgresql.md tells to make, for one key prefix.

    `owner` may make the schema, `user` may use it.
    """

    def __init__(self, server: PostgresServer, key_prefix: str) -> None:
        self._server = server
        self._names = {"owner": f"owner-{uuid4().hex}", "user": f"user-{uuid4().hex}"}
        self._schema = schema_name(key_prefix)
        self._run("users")

    @property
    def owner_url(self) -> str:
        """What whoever prepares the schema is told."""
        return self._url("owner")

    @property
    def url(self) -> str:
        """What clients and workers are told."""
        return self._url("user")

    def grant(self) -> None:
        """Give the user the rights that the document says are enough."""
        self._run("grants")

    def execute(self, statement: str) -> None:
        """Execute a statement in which {user}, {owner} and {schema} stand for names."""
        names = {**self._names, "schema": self._schema}
        quoted = {name: sql.Identifier(value) for name, value in names.items()}
        self._server.execute(sql.SQL(statement).format(**quoted))

    def remove(self) -> None:
        """Remove the users and all that is theirs."""
        for name in self._names.values():
            self._server.execute(
                sql.SQL("DROP OWNED BY {0} CASCADE; DROP ROLE {0}").format(sql.Identifier(name))
            )

    def _url(self, who: str) -> str:
        name = self._names[who]
        return f"postgresql://{name}:open%2Fsesame@127.0.0.1:{self._server.port}/postgres"

    def _run(self, part: str) -> None:
        text = _DOCUMENT.read_text().split(f"<!-- {part} -->")[1].split(f"<!-- /{part} -->")[0]
        text = re.sub("```(sql)?", "", text)
        for ours, theirs in (
            ("agents_owner", "{owner}"),
            ("agents_user", "{user}"),
            ('"agents"', "{schema}"),
            ("DATABASE app", "DATABASE postgres"),
            ("'PASSWORD'", "'open/sesame'"),
        ):
            text = text.replace(ours, theirs)
        self.execute(text)
