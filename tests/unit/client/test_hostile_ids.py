"""Every way in refuses what is no id, before it asks any service.

The services named here do not exist: an id that got through would be an error of theirs.
"""

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from agent_client import AsyncAgentClient, InvalidIdError
from agent_client.cli.program import app as cli
from agent_client.handle import AsyncRun
from examples.app_server.app import app as app_server
from shared.settings import Settings, read_settings

NOWHERE = "redis://127.0.0.1:9/0"

RUN = "run-3-" + "0123456789abcdef" * 2
NO_IDS = [
    "", " ", "a b", "a\tb", "a\nb", "a\n", "\na", "a\r", "a\x00b", "a\x7f", "a\u200bb", "a\u202eb",
    "../x", "a/../b", "a..b", "..", ".", "a/b", "a\\b", "/etc/passwd", "C:\\x", "{x}", "a{b}c", "}",
    "*", "a*", "a?b", "[ab]", "a%2e", "%00", "a'b", 'a"b', "a;b", "a|b", "a&b", "a<b>", "$(a)",
    "`a`", "~run", "~" + RUN, ":a", "a:", "-a", "a-", "@a", "=a",
    "\u00e9", "\u0430dmin", "\uff41", "\u0661", "\u2170", "\ud800", "a\U0001f600", "x" * 201,
]  # fmt: skip
"""Separators, control characters, patterns, look-alikes of letters and digits, and a long one."""

NO_RUN_IDS = [
    *NO_IDS, "run", "run-3", RUN.upper(), f"{RUN}\n", f" {RUN}", f"{RUN}0", RUN[:-1],
    "job" + RUN[3:], RUN.replace("run-3", "run-g"), RUN[:-1] + "\u0661", "some-conversation",
]  # fmt: skip

Call = Callable[[AsyncAgentClient, Any], Any]


@pytest.fixture
def settings() -> Settings:
    return read_settings(redis_url=NOWHERE, broker_url=NOWHERE, redis_timeout_s=0.2)


CALLS: dict[str, Call] = {
    "agent of submit": lambda client, value: client.submit(value, "hi"),
    "conversation of submit": lambda client, value: client.submit("a", "hi", conversation_id=value),
    "key of submit": lambda client, value: client.submit("a", "hi", idempotency_key=value),
    "conversation of runs": lambda client, value: client.runs(conversation_id=value),
    "agent of runs": lambda client, value: client.runs(agent=value),
    "history": lambda client, value: client.history(value),
    "clear": lambda client, value: client.clear(value),
    "watch_conversation": lambda client, value: anext(client.watch_conversation(value)),
}
RUN_CALLS: dict[str, Call] = {
    "run": lambda client, value: client.run(value).get(),
    "before of runs": lambda client, value: client.runs(before=value),
    "get": lambda client, value: AsyncRun(value, client._session).get(),
    "history of a run": lambda client, value: AsyncRun(value, client._session).history(),
    "cancel": lambda client, value: AsyncRun(value, client._session).cancel(),
    "result": lambda client, value: AsyncRun(value, client._session).result(),
    "watch": lambda client, value: anext(AsyncRun(value, client._session).watch()),
    "events": lambda client, value: anext(AsyncRun(value, client._session).events()),
}


@pytest.mark.parametrize("name", [*CALLS, *RUN_CALLS])
async def test_every_method_of_the_client_refuses_them(settings: Settings, name: str) -> None:
    """With the one named error."""
    call, values = (CALLS[name], NO_IDS) if name in CALLS else (RUN_CALLS[name], NO_RUN_IDS)
    async with AsyncAgentClient(settings, reconnect_s=0) as client:
        for value in [*values, 7, b"a", ["a"]]:
            with pytest.raises(InvalidIdError):
                await call(client, value)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.setenv("AGENTS_REDIS_URL", NOWHERE)
    with TestClient(app_server, raise_server_exceptions=False) as client:
        yield client


@pytest.mark.parametrize("value", [value for value in NO_RUN_IDS if value not in (".", "..")])
def test_the_app_server_refuses_them(server: TestClient, value: str) -> None:
    """In paths, in bodies and in headers: 404 where no route fits, else 422."""
    path = quote(value.encode(errors="surrogatepass"), safe="")
    answers = [
        server.get(f"/runs/{path}"),
        server.get(f"/runs/{path}/events"),
        server.post(f"/runs/{path}/cancel"),
    ]
    if value in NO_IDS:
        answers.append(server.get(f"/conversations/{path}/messages"))
        body = '{"agent": "a", "input": "hi", "conversation_id": %s}'
        written = '"' + "".join(f"\\u{ord(one):04x}" for one in value if ord(one) < 0x10000) + '"'
        answers.append(server.post("/runs", content=body % written))
    for answer in answers:
        assert answer.status_code in {404, 405, 422}, answer.text
        assert "Traceback" not in answer.text


@pytest.mark.parametrize("value", [value for value in NO_IDS if "\x00" not in value])
def test_the_command_line_refuses_them(value: str) -> None:
    """With an exit code for wrong usage, and one clear line."""
    value = value.encode(errors="surrogatepass").decode(errors="surrogateescape")
    commands = [
        ["history", "--", value],
        ["watch", "--", value],
        ["cancel", "--", value],
        ["runs", f"--conversation={value}"],
        ["runs", f"--before={value}"],
        ["submit", f"--conversation={value}", "a", "hi"],
        ["submit", f"--idempotency-key={value}", "a", "hi"],
        ["submit", "--", value, "hi"],
    ]
    for command in commands:
        ended = CliRunner(env={"AGENTS_REDIS_URL": NOWHERE}).invoke(cli, command)
        assert ended.exit_code == 2, (command, ended.output)
        assert "Traceback" not in ended.output
