"""`agent-client migrate` between stores on this machine."""

import asyncio
import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent_client.cli.exit_code import ExitCode
from shared.conversation.protocol import ConversationStore
from shared.conversation.url import conversation_from_url
from shared.testing.conversation.value import imported
from shared.transfer.digest import digest_of
from tests.unit.client.cli_stage import Stage, lines

SECRET = "Zq5ecretQz"


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    asyncio.run(stage.backend.aclose())


@pytest.fixture
def urls(tmp_path: Path) -> tuple[str, str]:
    """A store with three conversations, and one that is not there yet."""
    source = f"sqlite:///{tmp_path / 'chats.db'}"
    asyncio.run(_fill(source))
    return source, f"file://{tmp_path / 'chats'}"


async def _fill(url: str) -> None:
    store = conversation_from_url(url)
    for number in range(3):
        texts = [imported(f"{number}.{each}") for each in range(10 * number + 1)]
        await store.append(f"web:{number}", texts)
    await store.aclose()


def digests(url: str) -> dict[str, str]:
    async def read() -> dict[str, str]:
        store = conversation_from_url(url)
        found = {
            name: digest_of(await store.list_messages(name))
            async for name in store.conversation_ids()
        }
        await store.aclose()
        return found

    return asyncio.run(read())


def test_all_conversations_are_moved_and_counted(stage: Stage, urls: tuple[str, str]) -> None:
    """For people, and as JSON; a second time there is nothing to write."""
    result = stage.invoke("migrate", *urls, "--all")
    assert result.exit_code == ExitCode.OK, result.output
    told = dict(line.split("\t") for line in result.stdout.splitlines())
    assert (told["conversations"], told["messages"], told["written"]) == ("3", "33", "33")
    assert digests(urls[0]) == digests(urls[1])
    [again] = lines(stage.invoke("migrate", *urls, "--all", "--json"))
    assert (again["conversations"], again["written"]) == (3, 0)
    assert again["digest"] == told["digest"]


def test_one_conversation_is_moved_and_one_that_is_not_there_is_named(
    stage: Stage, urls: tuple[str, str]
) -> None:
    """By its exit code, too."""
    assert stage.invoke("migrate", *urls, "--conversation", "web:1").exit_code == ExitCode.OK
    assert list(digests(urls[1])) == ["web:1"]
    result = stage.invoke("migrate", *urls, "--conversation", "web:9")
    assert result.exit_code == ExitCode.NOT_FOUND
    assert "web:9: UnknownConversationError" in result.stderr


def test_verifying_fails_where_something_is_missing(stage: Stage, urls: tuple[str, str]) -> None:
    """And writes nothing."""
    stage.invoke("migrate", *urls, "--conversation", "web:1")
    result = stage.invoke("migrate", *urls, "--all", "--verify-only", "--json")
    assert result.exit_code == ExitCode.FAILED
    [report] = lines(result)
    assert set(report["failures"]) == {"web:0", "web:2"}
    assert list(digests(urls[1])) == ["web:1"]


def test_what_is_something_else_is_named_and_replaced_when_asked_for(
    stage: Stage, urls: tuple[str, str]
) -> None:
    """The others are moved."""

    async def write(store: ConversationStore) -> None:
        await store.append("web:1", [imported("mine")])
        await store.aclose()

    asyncio.run(write(conversation_from_url(urls[1])))
    refused = stage.invoke("migrate", *urls, "--all")
    assert refused.exit_code == ExitCode.FAILED
    assert "web:1: TargetConflictError" in refused.stderr
    assert set(digests(urls[1])) == {"web:0", "web:1", "web:2"}
    assert stage.invoke("migrate", *urls, "--all", "--replace").exit_code == ExitCode.OK
    assert digests(urls[0]) == digests(urls[1])


def test_a_conversation_of_a_run_that_has_not_ended_is_refused(
    stage: Stage, urls: tuple[str, str]
) -> None:
    """The runs are asked about where they are, unless that is not wanted."""
    stage.submit("more", "--conversation", "web:1")
    refused = stage.invoke("migrate", *urls, "--all")
    assert refused.exit_code == ExitCode.FAILED
    assert "web:1: ConversationBusyError" in refused.stderr
    assert set(digests(urls[1])) == {"web:0", "web:2"}
    assert stage.invoke("migrate", *urls, "--all", "--ignore-runs").exit_code == ExitCode.OK


def run_program(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "agent_client.cli", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | environment,
    )


def test_urls_come_from_the_environment_and_are_never_shown(tmp_path: Path) -> None:
    """Not in a result, not in an error, not in a traceback."""
    url = f"sqlite:///{tmp_path / 'chats.db'}"
    asyncio.run(_fill(url))
    done = run_program(
        *("migrate", "env:FROM_HERE", "env:TO_THERE", "--all", "--ignore-runs"),
        FROM_HERE=url,
        TO_THERE=f"file://{tmp_path / 'chats'}",
    )
    assert done.returncode == 0, done.stderr
    for wrong in (f"redis://:{SECRET}@127.0.0.1:1/0", f"redis://:{SECRET}@[::/0", f"x:{SECRET}"):
        failed = run_program(
            *("migrate", "env:FROM_HERE", "env:TO_THERE", "--all", "--ignore-runs", "--debug"),
            FROM_HERE=url,
            TO_THERE=wrong,
            AGENTS_REDIS_TIMEOUT_S="0.5",
        )
        assert failed.returncode in (ExitCode.USAGE, ExitCode.UNAVAILABLE)
        assert SECRET not in failed.stdout + failed.stderr
        assert "Error:" in failed.stderr


def test_without_a_terminal_progress_is_plain_lines(
    stage: Stage, urls: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On standard error, so that the report can be read by a program."""
    monkeypatch.setattr("agent_client.cli.progress._EVERY_S", 0.0)
    result = stage.invoke("migrate", *urls, "--all", "--json")
    assert json.loads(result.stdout)["conversations"] == 3
    assert "Migrating: 3 of 3 conversations, 33 messages" in result.stderr
    assert "\x1b" not in result.stderr


def test_with_keys_both_sides_are_encrypted_unless_said_otherwise(
    stage: Stage, urls: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a plain store to an encrypted one and back; without the keys nothing can be read."""
    key = base64.b64encode(bytes(range(32))).decode()
    plain, sealed, back = *urls, f"sqlite:///{tmp_path / 'back.db'}"
    monkeypatch.setenv("AGENTS_ENCRYPTION_KEYS", f"test:{key}")
    assert stage.invoke("migrate", plain, sealed, "--all").exit_code == ExitCode.FAILED
    on = stage.invoke("migrate", plain, sealed, "--all", "--plain-source")
    assert on.exit_code == ExitCode.OK, on.output
    stored = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
    assert b"aes-256-gcm" in stored
    off = stage.invoke("migrate", sealed, back, "--all", "--plain-target")
    assert off.exit_code == ExitCode.OK, off.output
    assert digests(back) == digests(plain)
    monkeypatch.delenv("AGENTS_ENCRYPTION_KEYS")
    blind = stage.invoke("migrate", sealed, f"file://{tmp_path / 'never'}", "--all")
    assert blind.exit_code == ExitCode.FAILED
    assert "AGENTS_ENCRYPTION_KEYS" in blind.stderr
