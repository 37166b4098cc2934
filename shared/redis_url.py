"""Where a Redis is: what its URL says, in the three forms that there are.

    redis://user:password@host:6379/0                one server; rediss:// for TLS
    redis+sentinel://host:26379,host:26379/name/0    the primary that sentinels know under a name
    redis+cluster://host:6379,host:6379              a cluster, found through any of its nodes

`rediss+sentinel://` and `rediss+cluster://` are those over TLS. User and password in the URL are
those of the data, never of the sentinels.
"""

from dataclasses import dataclass, field
from typing import Final, Literal
from urllib.parse import SplitResult, quote, unquote, urlsplit, urlunsplit

Topology = Literal["server", "sentinel", "cluster"]

_PORTS: Final[dict[Topology, int]] = {"server": 6379, "sentinel": 26379, "cluster": 6379}
_SCHEMES: Final[dict[str, tuple[Topology, bool]]] = {
    "redis": ("server", False),
    "rediss": ("server", True),
    "unix": ("server", False),
    "redis+sentinel": ("sentinel", False),
    "rediss+sentinel": ("sentinel", True),
    "redis+cluster": ("cluster", False),
    "rediss+cluster": ("cluster", True),
}


@dataclass(frozen=True, slots=True)
class RedisPlace:
    """A URL, taken apart.

    Attributes:
        topology: One server, a primary behind sentinels, or a cluster.
        hosts: The server, the sentinels, or some nodes of the cluster.
        primary: The name under which sentinels know the primary; empty elsewhere.
        database: Always 0 in a cluster.
    """

    topology: Topology
    hosts: tuple[tuple[str, int], ...]
    is_tls: bool
    username: str | None
    password: str | None = field(repr=False)
    primary: str
    database: int


def parse_redis_url(url: str) -> RedisPlace:
    """Take a URL apart.

    Raises:
        ValueError: It is none of the forms above. The message never quotes it, since what is out of
            place in it may be a part of a password.
    """
    parts = _split(url)
    if parts.scheme not in _SCHEMES:
        raise ValueError(f"it has to start with one of {', '.join(_SCHEMES)}, each with ://")
    if "ssl_" in parts.query:
        raise ValueError("TLS is set by AGENTS_TLS_CA_FILE and its like, not in the URL")
    topology, is_tls = _SCHEMES[parts.scheme]
    credentials, _, hosts = parts.netloc.rpartition("@")
    username, _, password = credentials.partition(":")
    path = [unquote(each) for each in parts.path.split("/") if each]
    primary = path.pop(0) if topology == "sentinel" and path else ""
    place = RedisPlace(
        topology=topology,
        hosts=tuple(_host(each, _PORTS[topology]) for each in hosts.split(",") if each),
        is_tls=is_tls,
        username=unquote(username) or None,
        password=unquote(password) or None,
        primary=primary,
        database=int(path[0]) if path and path[0].isdecimal() else 0,
    )
    if topology == "sentinel" and not primary:
        raise ValueError("the name of the primary is missing; it is the path: .../mymaster/0")
    if topology == "cluster" and place.database:
        raise ValueError("a cluster has database 0 only")
    if topology != "server" and not place.hosts:
        raise ValueError("it names no host")
    return place


def with_credentials(url: str, username: str | None, password: str | None) -> str:
    """The URL with user and password in it, as far as it has none of its own."""
    parts = _split(url)
    credentials, _, hosts = parts.netloc.rpartition("@")
    own_name, _, own_password = credentials.partition(":")
    name = own_name or quote(username or "", safe="")
    word = own_password or quote(password or "", safe="")
    if not name and not word:
        return url
    netloc = f"{name}:{word}@{hosts}" if word else f"{name}@{hosts}"
    return urlunsplit(SplitResult(parts.scheme, netloc, parts.path, parts.query, parts.fragment))


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:
        raise ValueError("it cannot be read") from None


def _host(text: str, default_port: int) -> tuple[str, int]:
    parts = _split(f"//{text}")
    try:
        return parts.hostname or "localhost", parts.port or default_port
    except ValueError:
        raise ValueError("a port in it is not a number") from None
