"""A cluster of three primaries without replicas."""

from pathlib import Path
from typing import Final

from redis import Redis

from tests.celery_nodes.local import wait_until
from tests.services import RedisServer

SLOTS: Final = 16384
FORMED_S: Final = 30.0


class RedisCluster:
    """Three Redis processes that share the slots, none of them with a replica."""

    def __init__(
        self, binary: Path, folder: Path, *, nodes: int = 3, is_durable: bool = False
    ) -> None:
        options = {"cluster-enabled": "yes", "cluster-node-timeout": "1000"}
        self.nodes = [
            RedisServer(binary, folder / f"node-{number}", is_durable=is_durable, options=options)
            for number in range(nodes)
        ]

    @property
    def url(self) -> str:
        """All of its nodes."""
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)
        return f"redis+cluster://{hosts}"

    def start(self) -> None:
        """Start the nodes, give each its part of the slots, and wait until all agree."""
        for node in self.nodes:
            node.start()
        share = SLOTS // len(self.nodes) + 1
        for number, node in enumerate(self.nodes):
            first, last = number * share, min((number + 1) * share, SLOTS) - 1
            with Redis(port=node.port) as client:
                client.execute_command("CLUSTER", "ADDSLOTS", *range(first, last + 1))
                client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        with Redis(port=self.nodes[0].port) as client:
            for node in self.nodes[1:]:
                client.execute_command("CLUSTER", "MEET", "127.0.0.1", node.port)
        self.wait_agreed()

    def wait_agreed(self) -> None:
        """Wait until every node serves and knows every other."""
        wait_until(lambda: all(self._agrees(node) for node in self.nodes), FORMED_S)

    def stop(self) -> None:
        """Stop the nodes."""
        for node in self.nodes:
            node.stop()

    def _agrees(self, node: RedisServer) -> bool:
        with Redis(port=node.port, decode_responses=True) as client:
            info = str(client.execute_command("CLUSTER", "INFO"))
        return "cluster_state:ok" in info and f"cluster_known_nodes:{len(self.nodes)}" in info
