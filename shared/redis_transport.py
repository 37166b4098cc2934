"""Kombu's transport over Redis, with one client for each channel.

Kombu makes a new client of redis-py for each message that it sends, takes or acknowledges. All of
them share a pool of connections, so nothing but the making of them tells them apart; and to make
one takes longer than all else that a ring costs its sender.
"""

from typing import Any

from kombu.transport import redis

from shared.identifier import new_tag

_Channel: Any = redis.Channel  # the stubs do not have it
_Transport: Any = redis.Transport


class Channel(_Channel):  # type: ignore[misc]  # see above
    """Kombu's channel. Clients of redis-py are safe to share between threads."""

    _kept: Any = None

    def _create_client(self, asynchronous: bool = False) -> Any:  # noqa: FBT001, FBT002  as kombu's
        if asynchronous:  # two in a channel's life, with a connection of their own each
            return super()._create_client(asynchronous=True)
        kept = self._kept
        if kept is None or kept.connection_pool is not self.pool:  # kombu has replaced the pool
            kept = self._kept = super()._create_client()
        return kept

    def _next_delivery_tag(self) -> str:
        return new_tag()


class Transport(_Transport):  # type: ignore[misc]  # see above
    """Kombu's transport, for channels as above."""

    Channel = Channel
