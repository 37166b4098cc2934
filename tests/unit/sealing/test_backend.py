"""Sealing as settings ask for it, in every backend and in local mode."""

import subprocess
import sys
from typing import Any, Final

import pytest
from pydantic import SecretStr

from agent_client import AsyncAgentClient
from agent_worker import serve
from shared.backend import Backend
from shared.errors import ConfigurationError, SealKeyError
from shared.memory_backend import build_memory_backend
from shared.redis_backend import build_redis_backend
from shared.run import RunStatus
from shared.sealing.compressed import CompressedConversations
from shared.sealing.compression import decompress
from shared.sealing.encrypted import EncryptedConversations
from shared.sealing.guard import GuardedConversations
from shared.sealing.ledger import SealedRunLedger, innermost_ledger
from shared.sealing.wrapper import WrappedConversations, innermost
from shared.settings import Settings
from shared.testing.conversation.value import imported

KEYS: Final = SecretStr(f"k:{'0123456789abcdef' * 4}")


def layers(backend: Backend) -> list[type]:
    """The wrappers of the conversations, outermost first."""
    found: list[type] = []
    store = backend.conversations
    while isinstance(store, WrappedConversations):
        found.append(type(store))
        store = store.inner
    return found


@pytest.mark.parametrize("build", [build_memory_backend, build_redis_backend])
async def test_every_backend_is_wrapped_in_one_order(build: Any) -> None:
    """The guard outermost, with or without keys; what is compressed is read in any case."""
    plain = build(Settings())
    assert layers(plain) == [GuardedConversations, CompressedConversations]
    assert isinstance(plain.ledger, SealedRunLedger)
    sealed = build(Settings(encryption_keys=KEYS, compression="zstd"))
    assert layers(sealed) == [
        GuardedConversations, CompressedConversations, EncryptedConversations,
    ]  # fmt: skip
    for backend in (plain, sealed):
        await backend.aclose()


@pytest.mark.parametrize(
    ("module", "settings", "extra"),
    [
        ("cryptography.hazmat.primitives.ciphers.aead", {"encryption_keys": KEYS}, "encryption"),
        ("backports", {"compression": "zstd"}, "compression"),
    ],
)
def test_a_missing_library_is_named_when_built(
    monkeypatch: pytest.MonkeyPatch, module: str, settings: dict[str, Any], extra: str
) -> None:
    """With the extra to install; nothing is stored in clear instead."""
    if module == "backports" and sys.version_info >= (3, 14):
        pytest.skip("zstd is part of this Python")
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigurationError, match=rf"celery-agents\[{extra}\]"):
        build_memory_backend(Settings(**settings))
    build_memory_backend(Settings())


def test_a_library_that_only_readers_need_is_named_when_they_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is not damage: another process may have it."""
    if sys.version_info >= (3, 14):
        pytest.skip("zstd is part of this Python")
    monkeypatch.setitem(sys.modules, "backports", None)
    with pytest.raises(SealKeyError, match=r"celery-agents\[compression\]"):
        decompress("zstd", b"", limit=1, where="it")


def test_who_has_no_keys_loads_no_library() -> None:
    """Encryption costs nothing where it is off."""
    code = (
        "import sys; from shared.memory_backend import build_memory_backend as build; "
        "from shared.settings import Settings; build(Settings()); "
        "print({'cryptography', 'backports.zstd'} & set(sys.modules))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "set()"


async def test_local_mode_is_sealed_by_the_same_settings() -> None:
    """Client and worker of one process share the keys; the stores in memory hold no word."""

    async def echo(run: Any) -> str:
        return "answer: marker"

    settings = Settings(encryption_keys=KEYS, compression="zstd")
    async with AsyncAgentClient.local(serve(echo), settings=settings) as client:
        run = await client.submit("echo", "say marker", conversation_id="room")
        outcome = await run.result(timeout_s=20)
        assert (outcome.status, outcome.output) == (RunStatus.COMPLETED, "answer: marker")
        history = await client.history("room")
        assert [message.text for message in history] == ["say marker", "answer: marker"]
        backend = client._session.backend
        held = [innermost(backend.conversations), innermost_ledger(backend.ledger)]
        below: Any = held[0]
        ledger: Any = held[1]
        assert "marker" not in repr(below._logs) + repr(ledger._runs._runs)


async def test_limits_are_those_of_the_settings() -> None:
    """What may be unpacked is twice the largest message."""
    settings = Settings(
        compression="zstd", max_message_bytes=10_000, max_result_bytes=5_000, max_input_bytes=100
    )
    assert settings.max_unpacked_bytes == 20_000
    backend = build_memory_backend(settings)
    large = imported("words " * 5_000)
    await backend.conversations.append("room", [large])
    [read] = await backend.conversations.list_messages("room")
    assert read.text == large.text
