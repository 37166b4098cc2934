"""`agent-client conversations ...` and `agent-client run`."""

import asyncio
from collections.abc import Iterator

import pytest

from agent_client import AsyncAgentClient, ConversationRecord, Run, Settings
from agent_client.cli.exit_code import ExitCode
from tests.unit.client.cli_stage import HOSTILE, Stage, answer, lines
from tests.unit.client.puppet import AGENT

ADA = f"web:ada:{AGENT}"


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    stage.play = answer
    asyncio.run(open_session(stage, "ada"))
    stage.invoke("submit", AGENT, "hello", "--conversation", ADA)
    yield stage
    asyncio.run(stage.backend.aclose())


async def open_session(stage: Stage, user: str, title: str = "Tea") -> ConversationRecord:
    async with AsyncAgentClient(Settings(), backend=stage.backend, dispatcher=stage) as client:
        return await client.managed.open(channel="web", user=user, agent=AGENT, title=title)


def test_records_are_listed_and_filtered(stage: Stage) -> None:
    """Tab-separated; or as JSON that reads back, with the cursor of the next page at its end."""
    asyncio.run(open_session(stage, "eve", HOSTILE))
    row = stage.invoke("conversations", "list", "--user", "ada").stdout.rstrip("\n").split("\t")
    assert (row[0], row[1], row[2], row[3], row[-1]) == (ADA, "active", "4", "1", "Tea")
    assert row[4] == "unknown", "a puppet has no price, and is not free"
    assert "\x1b" not in stage.invoke("conversations", "list").stdout
    first, cursor = lines(stage.invoke("conversations", "list", "--limit", "1", "--json"))
    assert ConversationRecord.model_validate(first).id == f"web:eve:{AGENT}"
    rest = lines(stage.invoke("conversations", "list", "--json", "--after", cursor["next"]))
    assert [each["id"] for each in rest] == [ADA]
    assert stage.invoke("conversations", "list", "--closed").stdout == ""
    assert stage.invoke("conversations", "list", "--before", "1").stdout == ""
    assert len(lines(stage.invoke("conversations", "list", "--within", "1", "--json"))) == 2


def test_a_record_is_shown(stage: Stage) -> None:
    """Each field that holds something on a line of its own; all of them as JSON."""
    shown = stage.invoke("conversations", "show", ADA)
    assert {"id\t" + ADA, "message_count\t4", "runs\t1"} <= set(shown.stdout.splitlines())
    [body] = lines(stage.invoke("conversations", "show", ADA, "--json"))
    assert (body["active"], body["cost"], body["agent"]) == (True, None, AGENT)
    assert stage.invoke("conversations", "show", "web:bob:clerk").exit_code == ExitCode.NOT_FOUND
    assert stage.invoke("conversations", "show", "plain").exit_code == ExitCode.USAGE


def test_a_session_is_closed_reset_and_forked(stage: Stage) -> None:
    """Each prints the record that it leads to."""
    [message] = lines(stage.invoke("history", ADA, "--limit", "1", "--json"))
    [forked] = lines(stage.invoke("conversations", "fork", ADA, message["id"], "--json"))
    assert (forked["id"], forked["parent"]["conversation_id"]) == (f"{ADA}:2", ADA)
    [reset] = lines(stage.invoke("conversations", "reset", forked["id"], "--json"))
    assert reset["id"] == f"{ADA}:3"
    [closed] = lines(stage.invoke("conversations", "deactivate", reset["id"], "--json"))
    assert closed["active"] is False
    refused = stage.invoke("submit", AGENT, "hello", "--conversation", closed["id"])
    assert refused.exit_code == ExitCode.USAGE
    assert "open its session again" in refused.stderr
    assert stage.invoke("conversations", "fork", ADA, "nobody").exit_code == ExitCode.USAGE


def test_an_archive_that_is_not_there_is_a_wrong_set_up(stage: Stage) -> None:
    """Nothing changes."""
    result = stage.invoke("conversations", "archive", ADA)
    assert result.exit_code == ExitCode.USAGE
    assert "AGENTS_ARCHIVE_URL" in result.stderr
    [body] = lines(stage.invoke("conversations", "show", ADA, "--json"))
    assert (body["active"], body["work"]) == (True, None)


def test_a_purge_asks_first(stage: Stage) -> None:
    """Whoever does not say yes deletes nothing; a script says it beforehand."""
    refused = stage.invoke("conversations", "purge", ADA, stdin="n\n")
    assert refused.exit_code == ExitCode.CANCELLED
    assert len(lines(stage.invoke("history", ADA, "--json"))) == 4
    agreed = stage.invoke("conversations", "purge", ADA, stdin="y\n")
    assert agreed.stdout.endswith(f"{ADA}\t4 messages\t1 runs\n")
    asyncio.run(open_session(stage, "ada"))
    [body] = lines(stage.invoke("conversations", "purge", "--user", "ada", "--yes", "--json"))
    assert body == {"conversation_id": ADA, "messages": 0, "runs": 0}


@pytest.mark.parametrize("arguments", [(), (ADA, "--user", "ada")])
def test_a_purge_names_one_thing(stage: Stage, arguments: tuple[str, ...]) -> None:
    """Not nothing, and not two."""
    result = stage.invoke("conversations", "purge", *arguments, "--yes")
    assert result.exit_code == ExitCode.USAGE
    assert len(lines(stage.invoke("history", ADA, "--json"))) == 4


def test_tidying_says_what_it_did(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the settings of the environment."""
    assert stage.invoke("conversations", "tidy").stdout == ""
    monkeypatch.setenv("AGENTS_RETENTION", '[{"action": "purge", "after_days": 1e-9}]')
    assert stage.invoke("conversations", "tidy").stdout == f"purged\t{ADA}\n"
    [body] = lines(stage.invoke("conversations", "tidy", "--json"))
    assert not any(body.values())


def test_plain_conversations_are_listed_as_before(stage: Stage) -> None:
    """Ids of those that had a run, managed or not."""
    stage.invoke("submit", AGENT, "hello", "--conversation", "plain")
    assert stage.invoke("conversations").stdout == f"plain\n{ADA}\n"
    assert stage.invoke("conversations", "--limit", "1").stdout == "plain\n"


def test_a_run_is_shown_with_what_it_took(stage: Stage) -> None:
    """Times, tokens, cost, error."""
    run_id = stage.rung[0]
    [body] = lines(stage.invoke("run", run_id, "--json"))
    assert Run.model_validate(body) == stage.record(run_id)
    assert body["spending"]["cost"] is None
    shown = stage.invoke("run", run_id).stdout.splitlines()
    assert f"id\t{run_id}" in shown
    assert "spending.known_cost\t0" in shown
    missing = f"{run_id[:-1]}{'0' if run_id[-1] != '0' else '1'}"
    assert stage.invoke("run", missing).exit_code == ExitCode.NOT_FOUND
