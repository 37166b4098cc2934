"""TLS from the settings, in the words of each library. Certificates are always verified."""

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from shared.settings import Settings


def redis_tls(settings: Settings) -> dict[str, Any]:
    """For redis-py, and for kombu where the broker is Redis."""
    return {
        "ssl_cert_reqs": "required",
        "ssl_check_hostname": settings.tls_check_hostname,
        **_given(
            {
                "ssl_ca_certs": settings.tls_ca_file,
                "ssl_certfile": settings.tls_cert_file,
                "ssl_keyfile": settings.tls_key_file,
            }
        ),
    }


def amqp_tls(settings: Settings) -> dict[str, Any]:
    """For kombu where the broker is RabbitMQ."""
    host = urlsplit(settings.effective_broker_url).hostname
    return {
        "cert_reqs": ssl.CERT_REQUIRED,
        # Without a name none is compared. Left to look in the URL, kombu takes an address instead.
        **({"server_hostname": host} if settings.tls_check_hostname else {}),
        **_given(
            {
                "ca_certs": settings.tls_ca_file,
                "certfile": settings.tls_cert_file,
                "keyfile": settings.tls_key_file,
            }
        ),
    }


def _given(files: Mapping[str, Path | None]) -> dict[str, str]:
    return {name: str(path) for name, path in files.items() if path is not None}
