import asyncio
import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest

from tests.model_server import (
    ModelServer,
    ModelServerProcess,
    Stats,
    create_app,
    replay_model,
    script_model,
    slow_model,
)
from tests.model_server.chat import Answer
from tests.unit.model_server.sample import MESSAGES, RECORDING, ask, assistant, said, user

CROWD = 2000


def _write(folder: Path, *, replay_len: int) -> Path:
    path = folder / "some.jsonl"
    row = {
        "id": RECORDING.id,
        "source": RECORDING.source,
        "model": RECORDING.model,
        "messages": MESSAGES,
        "meta": {"replay_len": replay_len},
    }
    path.write_text(json.dumps(row) + "\n")
    return path


async def _ask_bare(server: ModelServerProcess, model: str) -> bytes:
    """Ask over a connection of its own, with as little client as there can be."""
    host, port = server.url.removeprefix("http://").split(":")
    body = json.dumps({"model": model, "messages": [user("hello")]}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n"
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        return await reader.read()
    finally:
        writer.close()


def test_counts_tell_what_was_asked_and_how(server: ModelServer) -> None:
    """Requests, streams and failures, by the names that /stats has."""
    ask(server.base_url, "echo", [user("a")])
    ask(server.base_url, "echo", [user("a")], stream=True)
    ask(server.base_url, "absent", [user("a")])
    assert httpx.get(f"{server.url}/stats").json() == {
        "requests": 3,
        "streamed": 1,
        "mismatches": 0,
        "broken_histories": 0,
        "errors": 1,
        "in_flight": 0,
        "max_in_flight": 1,
    }


def test_counts_can_be_started_anew(server: ModelServer) -> None:
    """After a warm-up, say; what was remembered of the requests goes too."""
    ask(server.base_url, "echo", [user("a")])
    server.reset()
    assert server.stats() == Stats()
    assert server.requests() == []


def test_the_last_requests_can_be_looked_at() -> None:
    """As many as the app keeps, oldest first, so a test sees what a model was shown."""
    with ModelServer(create_app(keep_requests=2)) as server:
        for text in "abc":
            ask(server.base_url, "echo", [user(text)], temperature=0)
        assert [request["messages"] for request in server.requests()] == [[user("b")], [user("c")]]
        assert server.requests()[0]["temperature"] == 0


def test_latency_comes_before_every_answer() -> None:
    """Also before that of a script with a delay of its own."""
    with ModelServer(create_app(latency_s=0.1)) as server:
        for model, least_s in (("echo", 0.1), (script_model(Answer("b", delay_s=0.1)), 0.2)):
            begun = time.monotonic()
            ask(server.base_url, model, [user("a")])
            assert time.monotonic() - begun >= least_s


def test_chunks_come_one_after_the_other() -> None:
    """With a delay between them the first is there long before the last."""
    with ModelServer(create_app(chunk_delay_s=0.05)) as server:
        body = {"model": "echo", "messages": [user("word " * 20)], "stream": True}
        arrived = []
        with httpx.stream("POST", f"{server.base_url}/chat/completions", json=body) as response:
            arrived = [time.monotonic() for line in response.iter_lines() if line]
        assert len(arrived) > 4
        assert arrived[-1] - arrived[0] >= 0.05 * (len(arrived) - 2)


def test_a_server_stops_at_once_though_requests_hang() -> None:
    """Whoever waits loses the connection, and nobody waits for him."""
    ended: list[str] = []

    def wait_in_vain() -> None:
        try:
            ask(server.base_url, "hang", [user("a")])
        except httpx.HTTPError as failure:
            ended.append(type(failure).__name__)

    with ModelServer() as server:
        waiting = threading.Thread(target=wait_in_vain)
        waiting.start()
        server.wait_until(lambda stats: stats.in_flight == 1)
        begun = time.monotonic()
    waiting.join(10)
    assert ended == ["RemoteProtocolError"]
    assert time.monotonic() - begun < 5


def test_a_process_replays_the_files_that_it_is_given(tmp_path: Path) -> None:
    """It finds a free port itself, answers from the file, and is gone after the block."""
    with ModelServerProcess([_write(tmp_path, replay_len=12)], keep_requests=1) as server:
        answer = said(ask(server.base_url, replay_model(RECORDING.id), [user("How is Rome?")]))
        assert answer == RECORDING.messages[2]
        assert server.stats().requests == len(server.requests()) == 1
        url = server.url
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/stats")


def test_a_file_that_cannot_be_replayed_ends_the_process(tmp_path: Path) -> None:
    """The message names recording and fault, and the one who waits for the URL is told."""
    path = _write(tmp_path, replay_len=0)
    command = [sys.executable, "-m", "tests.model_server", "--recordings", str(path)]
    ended = subprocess.run(
        command, cwd=Path(__file__).parents[3], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert f"{RECORDING.id} cannot be replayed: no complete run" in ended.stderr
    with (
        pytest.raises(RuntimeError, match="ended with status 1 before it was up"),
        ModelServerProcess([path]),
    ):
        pytest.fail("the block was entered")


@pytest.mark.slow
async def test_two_thousand_requests_wait_side_by_side() -> None:
    """All are in flight at once, all leave together, and later ones are answered in time."""
    with ModelServerProcess() as server:
        waiting = [asyncio.create_task(_ask_bare(server, "hang")) for _ in range(CROWD)]
        await asyncio.to_thread(server.wait_until, lambda stats: stats.in_flight == CROWD)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        await asyncio.to_thread(server.wait_until, lambda stats: stats.in_flight == 0)
        asking = [_ask_bare(server, slow_model(0.5)) for _ in range(CROWD)]
        replies = await asyncio.gather(*asking)
        assert sum(reply.startswith(b"HTTP/1.1 200") for reply in replies) == CROWD
        assert server.stats().max_in_flight >= CROWD


def test_waiting_for_counts_ends_with_them_or_with_a_timeout(server: ModelServer) -> None:
    """A condition that never comes true is told with the counts that were there instead."""
    ask(server.base_url, "echo", [user("a")])
    assert server.wait_until(lambda stats: stats.requests == 1).errors == 0
    with pytest.raises(TimeoutError, match="requests=1"):
        server.wait_until(lambda stats: stats.requests == 2, timeout_s=0.05)


def test_an_answer_with_text_and_calls_keeps_both(server: ModelServer) -> None:
    """Some models explain what they are about to do."""
    place = 7
    reply = said(ask(server.base_url, replay_model(RECORDING.id), MESSAGES[:place]))
    assert reply == assistant("Let me look again.", ("c", "clock", "{}"))
