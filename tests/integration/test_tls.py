"""TLS to the store, to the broker, and to RabbitMQ: verified, or refused by name."""

import asyncio
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agent_client import AsyncAgentClient, RunStatus
from shared.dispatch.celery import CeleryDispatcher
from shared.errors import BrokerUnavailableError, ConfigurationError, StoreUnavailableError
from shared.ledger.protocol import WakeUp
from shared.redis_backend import build_redis_backend
from shared.settings import Settings
from tests.acceptance.conftest import play
from tests.contract.values import new_run
from tests.services import RedisServer, find_redis_binary, missing
from tests.topologies.deployment import RESULT_S, deploy
from tests.topologies.rabbitmq import RabbitMQ, free_port
from tests.topologies.tls import Authority

pytestmark = pytest.mark.integration


@dataclass(frozen=True)
class TlsRedis:
    """A server that wants a certificate of its clients and has one for `localhost` only."""

    port: int
    authority: Authority
    certificate: Path
    key: Path

    def settings(self, **others: Any) -> dict[str, Any]:
        """What is right, and what is to be otherwise."""
        return {
            "redis_url": f"rediss://localhost:{self.port}/0",
            "tls_ca_file": self.authority.certificate,
            "tls_cert_file": self.certificate,
            "tls_key_file": self.key,
            "redis_timeout_s": 5,
            **others,
        }


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("stranger"))


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[TlsRedis]:
    binary = find_redis_binary()
    if binary is None or not _knows_tls(binary):
        missing("there is no redis-server with TLS")
    certificate, key = authority.sign("DNS:localhost")
    port = free_port()
    options = {
        "tls-port": str(port),
        "tls-cert-file": str(certificate),
        "tls-key-file": str(key),
        "tls-ca-cert-file": str(authority.certificate),
        "tls-auth-clients": "yes",
    }
    server = RedisServer(binary, tmp_path_factory.mktemp("tls"), options=options)
    server.start()
    own_certificate, own_key = authority.sign("DNS:client")
    yield TlsRedis(port, authority, own_certificate, own_key)
    server.stop()


async def test_the_whole_system_over_tls(redis: TlsRedis, tmp_path: Path) -> None:
    """Commands, notifications and rings, with certificates on both sides."""
    async with deploy(tmp_path, redis.settings(pickup_s=3600), workers=1) as system:
        run = await system.client.submit("script", play([("note", "a")]))
        assert [message.position async for message in run.watch()] == [0, 1, 2, 3]
        assert (await run.result(timeout_s=RESULT_S)).status is RunStatus.COMPLETED


async def test_a_certificate_that_is_not_trusted_is_refused(
    redis: TlsRedis, stranger: Authority
) -> None:
    """By the store and by the broker, and the error of the store names the setting."""
    for ca_file in (None, stranger.certificate):
        settings = Settings(**redis.settings(tls_ca_file=ca_file))
        with pytest.raises(ConfigurationError, match="AGENTS_TLS_CA_FILE"):
            await _submit(settings)
        with pytest.raises(BrokerUnavailableError):
            await _ring(settings)


async def test_a_certificate_for_another_host_is_refused(redis: TlsRedis) -> None:
    """Unless names are not to be compared."""
    url = f"rediss://127.0.0.1:{redis.port}/0"
    settings = Settings(**redis.settings(redis_url=url))
    with pytest.raises(ConfigurationError, match="AGENTS_TLS_CHECK_HOSTNAME"):
        await _submit(settings)
    with pytest.raises(BrokerUnavailableError):
        await _ring(settings)
    # Under a prefix of its own, since Celery would take a connection that it tried before.
    others = {"tls_check_hostname": False, "key_prefix": "unchecked"}
    unchecked = Settings(**redis.settings(redis_url=url, **others))
    await _submit(unchecked)
    await _ring(unchecked)


async def test_a_client_without_a_certificate_is_refused_by_the_server(redis: TlsRedis) -> None:
    """The server's choice; to the client it is a connection that ends."""
    settings = Settings(**redis.settings(tls_cert_file=None, tls_key_file=None))
    with pytest.raises(StoreUnavailableError):
        await _submit(settings)


@pytest.mark.slow
async def test_rabbitmq_over_tls(authority: Authority, stranger: Authority, tmp_path: Path) -> None:
    """The same for amqps: the node's certificate and its name are verified."""
    certificate, key = authority.sign("DNS:localhost")
    port = free_port()
    node = RabbitMQ(
        tmp_path / "rabbitmq",
        [
            f"listeners.ssl.1 = 127.0.0.1:{port}",
            f"ssl_options.cacertfile = {authority.certificate}",
            f"ssl_options.certfile = {certificate}",
            f"ssl_options.keyfile = {key}",
        ],
    )

    def settings(host: str, ca: Authority) -> Settings:
        # A name of its own in each, since Celery would take a connection that it tried before.
        login = "guest:guest@" if ca is stranger else ""
        url = f"amqps://{login}{host}:{port}//"
        return Settings.model_validate(
            {"broker_url": url, "tls_ca_file": ca.certificate, "broker_timeout_s": 10}
        )

    try:
        await asyncio.to_thread(node.start)
        await _ring(settings("localhost", authority))
        with pytest.raises(BrokerUnavailableError):
            await _ring(settings("localhost", stranger))
        with pytest.raises(BrokerUnavailableError):
            await _ring(settings("127.0.0.1", authority))
    finally:
        await asyncio.to_thread(node.stop)


async def test_a_watcher_is_told_as_well(redis: TlsRedis, stranger: Authority) -> None:
    """A wrong certificate is not borne with as an outage is."""
    wrong = {"tls_ca_file": stranger.certificate, "redis_timeout_s": 1}
    settings = Settings(**redis.settings(**wrong))
    async with AsyncAgentClient(settings) as client:
        with pytest.raises(ConfigurationError, match="AGENTS_TLS_CA_FILE"):
            await client.run(new_run().id).result()


async def _submit(settings: Settings) -> None:
    backend = build_redis_backend(settings)
    try:
        await backend.ledger.submit(new_run())
    finally:
        await backend.aclose()


async def _ring(settings: Settings) -> None:
    dispatcher = CeleryDispatcher(settings)
    try:
        await dispatcher.ring([WakeUp(new_run().id, "nobody", 5)])
    finally:
        await dispatcher.aclose()


def _knows_tls(binary: Path) -> bool:
    """A server without TLS does not know the option, and says so."""
    asked = subprocess.run(
        [binary, "--port", "0", "--tls-port", "0", "--tls-prefer-server-ciphers", "maybe"],
        capture_output=True,
        text=True,
        timeout=10,
        check=False,
    )
    return "argument must be" in asked.stdout + asked.stderr
