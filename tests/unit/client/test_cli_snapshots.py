"""`agent-client snapshot`, `export` and `import`, over stores in memory."""

import asyncio
import json
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent_client.cli.exit_code import ExitCode
from shared.card.value import AgentCard, PromptCard, ToolCard
from shared.testing.conversation.value import imported, texts
from tests.unit.client.cli_stage import CONVERSATION, HOSTILE, Stage, answer, lines
from tests.unit.client.puppet import AGENT

CARD = AgentCard(
    agent=AGENT,
    provider="openai",
    model="openai:gpt-5.2",
    prompts=(PromptCard(text=f"Be {HOSTILE} brief."), PromptCard(is_dynamic=True, name="today")),
    tools=(ToolCard(name="search", description="Finds."),),
)


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    asyncio.run(stage.backend.aclose())


@pytest.fixture
def snapshot_id(stage: Stage) -> str:
    """Of a conversation with one run."""
    asyncio.run(stage.backend.cards.put(CARD))
    stage.play = answer
    stage.invoke("submit", AGENT, "hello", "--conversation", CONVERSATION)
    result = stage.invoke("snapshot", "save", CONVERSATION)
    assert result.exit_code == ExitCode.OK, result.output
    return result.stdout.strip()


def messages_of(stage: Stage, name: str) -> list[str]:
    return texts(asyncio.run(stage.backend.conversations.list_messages(name)))


def test_save_prints_the_id_and_list_what_it_is_of(stage: Stage, snapshot_id: str) -> None:
    """For cut and awk, and as JSON."""
    [row] = stage.invoke("snapshot", "list").stdout.splitlines()
    assert row.split("\t")[:5] == [snapshot_id, AGENT, "openai", "openai:gpt-5.2", "4"]
    [info] = lines(stage.invoke("snapshot", "list", "--agent", AGENT, "--json"))
    assert (info["id"], info["conversation_id"], info["messages"]) == (snapshot_id, CONVERSATION, 4)
    for filters in (("--agent", "x"), ("--conversation", "x"), ("--before", snapshot_id)):
        assert stage.invoke("snapshot", "list", *filters).stdout == ""


def test_show_prints_all_that_it_holds(stage: Stage, snapshot_id: str) -> None:
    """Nothing in it reaches a terminal's controls."""
    shown = stage.invoke("snapshot", "show", snapshot_id).stdout
    for part in ("[bold]text[/bold]", "computed for each run, by today", "tool: search: Finds."):
        assert part in shown
    assert "\x1b" not in shown
    assert "pwned" not in shown
    [body] = lines(stage.invoke("snapshot", "show", snapshot_id, "--json"))
    assert [message["role"] for message in body["history"]] == [
        "user",
        "assistant",
        "tool",
        "assistant",
    ]
    assert body["tools"] == [{"name": "search", "description": "Finds.", "parameters": {}}]


def test_restore_prints_where_to(stage: Stage, snapshot_id: str) -> None:
    """A new conversation, or one that is named; others only to be replaced."""
    new = stage.invoke("snapshot", "restore", snapshot_id).stdout.strip()
    assert new == f"restored:{snapshot_id}"
    assert messages_of(stage, new) == messages_of(stage, CONVERSATION)
    asyncio.run(stage.backend.conversations.append("web:eve", [imported("hi")]))
    refused = stage.invoke("snapshot", "restore", snapshot_id, "--to", "web:eve")
    assert refused.exit_code == ExitCode.USAGE
    assert messages_of(stage, "web:eve") == ["hi"]
    done = stage.invoke("snapshot", "restore", snapshot_id, "--to", "web:eve", "--replace")
    assert done.stdout == "web:eve\n"
    assert messages_of(stage, "web:eve") == messages_of(stage, CONVERSATION)


def test_a_mismatch_is_named_and_can_be_allowed(stage: Stage, snapshot_id: str) -> None:
    """With the tool that is missing."""
    asyncio.run(stage.backend.cards.put(CARD.model_copy(update={"tools": ()})))
    refused = stage.invoke("snapshot", "restore", snapshot_id)
    assert refused.exit_code == ExitCode.USAGE
    assert "search" in refused.stderr
    allowed = stage.invoke("snapshot", "restore", snapshot_id, "--allow-mismatch", "--json")
    assert lines(allowed) == [{"conversation_id": f"restored:{snapshot_id}"}]


def test_delete_says_what_was_not_there(stage: Stage, snapshot_id: str) -> None:
    """By its exit code, too."""
    assert stage.invoke("snapshot", "delete", snapshot_id).exit_code == ExitCode.OK
    again = stage.invoke("snapshot", "delete", snapshot_id)
    assert again.exit_code == ExitCode.NOT_FOUND
    assert stage.invoke("snapshot", "show", snapshot_id).exit_code == ExitCode.NOT_FOUND
    assert stage.invoke("snapshot", "delete", "../x").exit_code == ExitCode.USAGE
    assert stage.invoke("snapshot", "save", "web:nobody").exit_code == ExitCode.NOT_FOUND


def test_a_snapshot_without_prompts_and_tools_says_so(stage: Stage) -> None:
    """No worker has told them."""
    asyncio.run(stage.backend.conversations.append("web:old", [imported("hi")]))
    result = stage.invoke("snapshot", "save", "web:old")
    assert result.exit_code == ExitCode.OK
    assert "not in it" in result.stderr


def test_what_is_exported_can_be_imported(stage: Stage, snapshot_id: str, tmp_path: Path) -> None:
    """A file for its owner only; what is lost is said; a second import changes nothing."""
    file = tmp_path / "chats.jsonl"
    result = stage.invoke("export", "--all", "--output", str(file))
    assert result.exit_code == ExitCode.OK, result.output
    assert result.stdout == ""
    assert "1 conversations, 4 messages" in result.stderr
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["chats.jsonl"]
    elsewhere = Stage()
    for expected in ("1 conversations imported, 4 messages; 0", "0 conversations imported"):
        imported_now = elsewhere.invoke("import", str(file))
        assert imported_now.exit_code == ExitCode.OK, imported_now.output
        assert expected in imported_now.stderr
    assert messages_of(elsewhere, CONVERSATION) == messages_of(stage, CONVERSATION)


def test_export_writes_to_standard_output_and_import_reads_standard_input(stage: Stage) -> None:
    """So that one can be piped into the other; without ids, as for fine-tuning."""
    asyncio.run(stage.backend.conversations.append("web:a", [imported("hé")]))
    exported = stage.invoke("export", "--conversation", "web:a", "--without-ids").stdout
    assert json.loads(exported) == {"messages": [{"role": "user", "content": "hé"}]}
    elsewhere = Stage()
    checked = elsewhere.invoke("import", "-", "--check", stdin=exported)
    assert "1 conversations could be imported" in checked.stderr
    assert lines(elsewhere.invoke("conversations", "--json")) == []
    assert elsewhere.invoke("import", "-", stdin=exported).exit_code == ExitCode.OK
    again = elsewhere.invoke("export", "--all", "--without-ids").stdout
    assert again == exported


def test_a_malformed_file_is_named_line_by_line(stage: Stage, tmp_path: Path) -> None:
    """And nothing of it is imported; a repair says what it did."""
    file = tmp_path / "chats.jsonl"
    call = {"id": "", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    good = {"messages": [{"role": "user", "content": "hi"}]}
    bad = {"messages": [*good["messages"], {"role": "assistant", "tool_calls": [call]}]}
    file.write_text(f"{json.dumps(good)}\n{json.dumps(bad)}\n")
    refused = stage.invoke("import", str(file))
    assert refused.exit_code == ExitCode.USAGE
    assert "line 2: message 1: call without id" in refused.stderr
    assert "Nothing was imported: 2 faults." in refused.stderr
    assert stage.invoke("export", "--all").stdout == ""
    repaired = stage.invoke("import", str(file), "--repair")
    assert repaired.exit_code == ExitCode.OK
    assert "given the id" in repaired.stderr
    assert "2 conversations imported, 4 messages" in repaired.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("export",),
        ("export", "--all", "--conversation", "web:a"),
        ("export", "--all", "--output", "/nowhere/chats.jsonl"),
        ("import", "/nowhere/chats.jsonl"),
        ("import", "-", "--to", "env:NOBODY_HAS_SET_THIS"),
        ("migrate", "env:NOBODY_HAS_SET_THIS", "env:NOR_THIS", "--all"),
        ("migrate", "redis://a", "redis://b"),
        ("migrate", "carrier-pigeon://a", "redis://b", "--all"),
    ],
)
def test_wrong_usage_has_its_exit_code(stage: Stage, arguments: tuple[str, ...]) -> None:
    """And leaves no file."""
    assert stage.invoke(*arguments, stdin="").exit_code == ExitCode.USAGE


def test_a_conversation_that_is_not_there_is_named(stage: Stage, tmp_path: Path) -> None:
    """And no file is made of what there was before it."""
    file = tmp_path / "chats.jsonl"
    asyncio.run(stage.backend.conversations.append("web:a", [imported("x")]))
    result = stage.invoke(
        "export", "--conversation", "web:a", "--conversation", "web:b", "--output", str(file)
    )
    assert result.exit_code == ExitCode.NOT_FOUND
    assert list(tmp_path.iterdir()) == []
