"""What Celery is told of the broker."""

from pathlib import Path
from typing import Any

import pytest

from shared.celery_app import create_celery_app
from shared.celery_broker import broker_url, tls_options, transport, transport_options
from shared.settings import Settings


def settings(**given: Any) -> Settings:
    return Settings.model_validate(given)


def test_sentinels_are_named_as_celery_wants_them() -> None:
    """Each with user and password, since a connection is made from any of them."""
    given = settings(
        redis_url="redis+sentinel://a:1,b:2/name/3",
        redis_username="me",
        redis_password="p/w",
        sentinel_password="of sentinels",
    )
    assert broker_url(given) == "sentinel://me:p%2Fw@a:1/3;sentinel://me:p%2Fw@b:2/3"
    options = transport_options(given, for_sending=True)
    assert options["master_name"] == "name"
    assert options["sentinel_kwargs"]["password"] == "of sentinels"


@pytest.mark.parametrize(
    ("scheme", "is_ours"),
    [("redis", True), ("rediss", True), ("redis+sentinel", False), ("amqp", False)],
)
def test_the_transport_is_ours_where_redis_is_one_server(scheme: str, *, is_ours: bool) -> None:
    """Elsewhere it is the one that Celery finds by the URL."""
    chosen = transport(settings(broker_url=f"{scheme}://host/name"))
    assert (chosen is not None) is is_ours


@pytest.mark.parametrize("scheme", ["redis", "redis+sentinel", "amqp"])
def test_no_tls_is_no_tls(scheme: str) -> None:
    """Nothing is set where the URL does not ask for it."""
    assert tls_options(settings(broker_url=f"{scheme}://host/name")) is False


@pytest.mark.parametrize("scheme", ["rediss", "rediss+sentinel", "amqps"])
def test_certificates_are_always_verified(scheme: str, tmp_path: Path) -> None:
    """Celery would verify none by itself."""
    ca_file = tmp_path / "ca.pem"
    ca_file.touch()
    given = settings(broker_url=f"{scheme}://host/name", tls_ca_file=ca_file)
    options = tls_options(given)
    assert isinstance(options, dict)
    requirement = options.get("ssl_cert_reqs", options.get("cert_reqs"))
    assert str(getattr(requirement, "name", requirement)) in {"required", "CERT_REQUIRED"}
    assert str(ca_file) in options.values()
    assert create_celery_app(given).conf.broker_use_ssl == options


def test_celery_has_credentials_that_the_url_has_not() -> None:
    """They are settings of their own."""
    given = settings(broker_url="amqp://host//", broker_username="me", broker_password="p@w")
    assert broker_url(given) == "amqp://me:p%40w@host//"
