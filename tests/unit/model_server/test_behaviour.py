import asyncio
import time

import httpx
import pytest
from openai import APITimeoutError, AsyncOpenAI, InternalServerError

from tests.model_server import ModelServer, replay_model, slow_model, status_model
from tests.unit.model_server.sample import RECORDING, ask, refusal, said, user

HELLO = [user("hello")]


async def test_echo_says_what_the_user_said_last(client: AsyncOpenAI) -> None:
    """An answer in between does not count, and the usage is that of the texts."""
    completion = await client.chat.completions.create(
        model="echo",
        messages=[
            {"role": "user", "content": "first"},
            {"role": "assistant", "content": "yes"},
            {"role": "user", "content": "second"},
        ],
    )
    assert completion.choices[0].message.content == "second"
    assert completion.choices[0].finish_reason == "stop"
    assert completion.usage is not None
    assert completion.usage.prompt_tokens == 4  # 14 characters


async def test_a_streamed_answer_ends_with_its_usage(client: AsyncOpenAI) -> None:
    """The real client reads the events, and the text in them is whole."""
    stream = await client.chat.completions.create(
        model="echo",
        messages=[{"role": "user", "content": "word " * 30}],
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    texts = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(texts) == "word " * 30
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 76


def test_slow_answers_later(server: ModelServer) -> None:
    """As another model would, after the seconds in the name."""
    begun = time.monotonic()
    message = said(ask(server.base_url, slow_model(0.2), HELLO))
    assert message["content"] == "hello"
    assert time.monotonic() - begun >= 0.2


async def test_a_request_that_hangs_ends_when_its_client_leaves(
    server: ModelServer, client: AsyncOpenAI
) -> None:
    """The client gives up by its own timeout, and the server stops counting it."""
    with pytest.raises(APITimeoutError):
        await client.with_options(timeout=0.2, max_retries=0).chat.completions.create(
            model="hang", messages=[{"role": "user", "content": "hello"}]
        )
    stats = await asyncio.to_thread(server.wait_until, lambda stats: not stats.in_flight)
    assert stats.max_in_flight == 1


def test_a_limit_says_when_to_come_back(server: ModelServer) -> None:
    """429 carries Retry-After, and the third request is answered."""
    model = status_model(429, 2, "limit")
    responses = [ask(server.base_url, model, HELLO) for _ in range(3)]
    assert [response.status_code for response in responses] == [429, 429, 200]
    assert [response.headers.get("Retry-After") for response in responses] == ["0.01", "0.01", None]
    assert server.stats().errors == 2


async def test_the_real_client_retries_until_it_is_answered(client: AsyncOpenAI) -> None:
    """Its own retries, two by default, get over two failures and not over three."""
    for times in (2, 3):
        asking = client.chat.completions.create(
            model=status_model(429, times, f"retried {times}"),
            messages=[{"role": "user", "content": "hello"}],
        )
        if times == 2:
            assert (await asking).choices[0].message.content == "hello"
            continue
        with pytest.raises(Exception, match="failure 3 of 3"):
            await asking


async def test_a_server_error_is_seen_as_one(client: AsyncOpenAI) -> None:
    """Without retries 500 is the client's InternalServerError."""
    with pytest.raises(InternalServerError, match="failure 1 of 1"):
        await client.with_options(max_retries=0).chat.completions.create(
            model=status_model(500, 1, "broken"), messages=[{"role": "user", "content": "hello"}]
        )


def test_each_nonce_has_its_own_failures(server: ModelServer) -> None:
    """A test that fails on purpose does not use up the failures of another."""
    for nonce in ("one", "two"):
        responses = [ask(server.base_url, status_model(503, 1, nonce), HELLO) for _ in range(2)]
        assert [response.status_code for response in responses] == [503, 200]


def test_behaviours_stand_in_front_of_each_other(server: ModelServer) -> None:
    """A failure, then a delay, then the recorded answer."""
    model = status_model(500, 1, "chain", slow_model(0.01, replay_model(RECORDING.id)))
    messages = [user("How is Rome?")]
    assert ask(server.base_url, model, messages).status_code == 500
    assert said(ask(server.base_url, model, messages)) == RECORDING.messages[2]


@pytest.mark.parametrize(
    "model",
    [
        "",
        "gpt-4o",
        "slow:soon",
        "slow:0.1:nobody",
        "status:500:1",
        "status:200:1:n",
        "status:x:1:n",
    ],
)
def test_a_name_without_a_behaviour_is_not_found(server: ModelServer, model: str) -> None:
    """The message shows the name, or the form that it should have."""
    status, code, message = refusal(ask(server.base_url, model, HELLO))
    assert (status, code) == (404, "model_not_found")
    assert "begin with one of" in message or "not of the form" in message


@pytest.mark.parametrize(
    "body",
    [
        "no JSON",
        "[]",
        '{"model": "echo"}',
        '{"model": "echo", "messages": [{}]}',
        '{"model": "echo", "messages": [{"role": "assistant", "tool_calls": [{}]}]}',
    ],
)
def test_a_body_that_is_no_chat_request_is_refused(server: ModelServer, body: str) -> None:
    """The client's fault, said so, and nothing that brings the server down."""
    response = httpx.post(f"{server.base_url}/chat/completions", content=body)
    assert refusal(response)[:2] == (400, "invalid_request")
