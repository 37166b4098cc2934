"""A primary, a replica and three sentinels."""

import socket
from pathlib import Path
from typing import Final

from redis import Redis
from redis.exceptions import RedisError

from shared.embedded_redis import EmbeddedRedis
from tests.celery_nodes.local import wait_until
from tests.services import RedisServer

PRIMARY: Final = "agents-primary"
DOWN_AFTER_MS: Final = 1000
READY_S: Final = 30.0


class Sentinels:
    """A primary with one replica, watched by three sentinels of which two have to agree."""

    def __init__(self, binary: Path, folder: Path, *, password: str = "") -> None:
        self._binary = binary
        self._folder = folder
        self._password = password
        self.primary = RedisServer(binary, folder / "first")
        self.replica: RedisServer | None = None
        self._sentinels: list[_Sentinel] = []

    @property
    def hosts(self) -> str:
        """The sentinels, as a URL lists them."""
        return ",".join(f"127.0.0.1:{each.port}" for each in self._sentinels)

    @property
    def url(self) -> str:
        """The primary, whichever it is."""
        return f"redis+sentinel://{self.hosts}/{PRIMARY}/0"

    def start(self) -> None:
        """Start everything; wait until sentinels know each other and the replica is in step."""
        self.primary.start()
        self.replica = RedisServer(self._binary, self._folder / "second")
        self.replica.start()
        with Redis(port=self.replica.port) as client:
            client.replicaof("127.0.0.1", self.primary.port)
        self._sentinels = [
            _Sentinel(
                self._binary, self._folder / f"sentinel-{n}", self.primary.port, self._password
            )
            for n in range(3)
        ]
        for sentinel in self._sentinels:
            sentinel.start()
        wait_until(lambda: all(each.knows_all() for each in self._sentinels), READY_S)
        wait_until(self._is_in_step, READY_S)

    def _is_in_step(self) -> bool:
        """Whether the replica has what the primary had when it came; that takes seconds."""
        assert self.replica is not None
        with Redis(port=self.replica.port, decode_responses=True) as client:
            return bool(client.info("replication")["master_link_status"] == "up")

    def bring_in_step(self) -> None:
        """Wait until the replica has everything that was written so far."""
        with Redis(port=self.primary.port) as client:
            client.set("in-step", 1)  # WAIT speaks of what its own connection has written
            assert client.wait(1, int(READY_S * 1000)) == 1

    def wait_failed_over(self) -> None:
        """Wait until the sentinels name the replica as the primary."""
        assert self.replica is not None
        expected = self.replica.port
        wait_until(
            lambda: all(each.primary_port() == expected for each in self._sentinels), READY_S
        )

    def stop(self) -> None:
        """Stop everything."""
        for server in (*self._sentinels, self.replica, self.primary):
            if server is not None:
                server.stop()


class _Sentinel(EmbeddedRedis):
    """A sentinel is a Redis server with another configuration, which it writes to."""

    def __init__(self, binary: Path, folder: Path, primary: int, password: str) -> None:
        super().__init__(folder, binary=binary)
        self._primary = primary
        self._password = password

    def _arguments(self, port: int) -> list[str]:
        path = self.data_dir / f"sentinel-{port}.conf"
        lines = [
            f"port {port}",
            "bind 127.0.0.1",
            f"dir {self.data_dir}",
            f"sentinel monitor {PRIMARY} 127.0.0.1 {self._primary} 2",
            f"sentinel down-after-milliseconds {PRIMARY} {DOWN_AFTER_MS}",
            f"sentinel failover-timeout {PRIMARY} 10000",
        ]
        if self._password:
            lines += [f"requirepass {self._password}", f"sentinel sentinel-pass {self._password}"]
        path.write_text("\n".join(lines) + "\n")
        return [str(path), "--sentinel"]

    def _answers(self, port: int) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    def _state(self) -> dict[str, object]:
        with Redis(port=self.port, password=self._password or None) as client:
            state: dict[str, object] = client.sentinel_master(PRIMARY)
        return state

    def knows_all(self) -> bool:
        """Whether it has found its two peers and the replica."""
        try:
            state = self._state()
        except (RedisError, OSError):
            return False
        return state["num-other-sentinels"] == 2 and state["num-slaves"] == 1

    def primary_port(self) -> object:
        """Where it says that the primary is."""
        return self._state()["port"]
