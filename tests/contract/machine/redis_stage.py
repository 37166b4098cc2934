"""Redis on the stage: its clock moved, all of its keys read at once."""

import json
from typing import Any, Final

from pydantic import SecretStr
from redis.asyncio import Redis

from shared.backend import Backend
from shared.backend_building import build_backend
from shared.codec import decode_message
from shared.ledger.redis_record import read_run
from shared.message import Message
from shared.run import Run, RunStatus
from shared.settings import Settings
from tests.contract.machine.snapshot import Snapshot

_AGE: Final = """
-- Move every time back that a script compares with the present one: heartbeats, leases, and from
-- when on a run is overdue. ARGV: prefix of the keys, ms.
for _, key in ipairs(redis.call('KEYS', '*' .. ARGV[1] .. '*')) do
  if string.find(key, ':workers$') or string.find(key, '}:leases:')
      or string.find(key, '}:ready:') or string.find(key, '}:suspects:') then
    for _, member in ipairs(redis.call('ZRANGE', key, 0, -1)) do
      redis.call('ZINCRBY', key, -ARGV[2], member)
    end
  end
end
"""

_DUMP: Final = """
-- All keys with what they hold, but for logs of events. ARGV: prefix of the keys.
local found = {}
for _, key in ipairs(redis.call('KEYS', '*' .. ARGV[1] .. '*')) do
  local kind = redis.call('TYPE', key).ok
  local value = kind
  if kind == 'hash' then
    value = redis.call('HGETALL', key)
  elseif kind == 'zset' then
    value = redis.call('ZRANGE', key, 0, -1)
  elseif kind == 'list' then
    value = redis.call('LRANGE', key, 0, -1)
  elseif kind == 'set' then
    value = redis.call('SMEMBERS', key)
  elseif kind == 'string' then
    value = redis.call('GET', key)
  elseif string.find(key, '}:messages:') then
    value = {}
    for _, entry in ipairs(redis.call('XRANGE', key, '-', '+')) do
      value[#value + 1] = {entry[1], entry[2][10]}
    end
  end
  found[#found + 1] = {key, value}
end
return cjson.encode(found)
"""

_NOT_READ: Final = frozenset({"conversations", "idempotency", "events", "history"})
"""Words of keys that the reference covers, or that expire by themselves."""


class RedisStage:
    """A server of one's own: it is emptied when a store is opened.

    Scripts take the time from the server, where nobody can move it. So all that they compare with
    it is moved the other way, which is the same to them. What expires by itself (records of ended
    runs, idempotency keys) does not, and lives long enough here.
    """

    def __init__(self, url: str, settings: dict[str, Any]) -> None:
        self.settings = Settings(
            **settings,
            redis_url=SecretStr(url),
            redis_timeout_s=60.0,  # what is lost is for the machine to say, not for a busy computer
            key_prefix="machine",
        )
        self._backend = build_backend(self.settings)
        self._client: Redis = Redis.from_url(url, decode_responses=True)
        self._age = self._client.register_script(_AGE)
        self._dump = self._client.register_script(_DUMP)
        self._runs: dict[str, tuple[object, Run]] = {}
        self._messages: dict[tuple[str, str], Message] = {}

    async def open(self) -> Backend:
        await self._client.flushdb()
        self._runs.clear()
        self._messages.clear()
        return self._backend

    async def pass_time(self, seconds: float) -> None:
        await self._age(args=[self.settings.key_prefix, int(seconds * 1000)])

    async def look(self) -> Snapshot:
        return _Reading(json.loads(await self._dump(args=[self.settings.key_prefix])), self).result

    async def aclose(self) -> None:
        await self._backend.aclose()
        await self._client.aclose()

    def run(self, run_id: str, stored: list[str]) -> Run:
        """A record, decoded only if it has changed."""
        known = self._runs.get(run_id)
        if known is None or known[0] != stored:
            known = self._runs[run_id] = (stored, read_run(run_id, stored))
        return known[1]

    def message(self, history: str, cursor: str, stored: str) -> Message:
        """A message; entries of a stream never change."""
        if (history, cursor) not in self._messages:
            self._messages[history, cursor] = decode_message(stored, cursor=cursor)
        return self._messages[history, cursor]


class _Reading:
    """Sorts keys by the word behind their hash tag, see `shared.redis_keys`."""

    def __init__(self, keys: list[tuple[str, Any]], stage: RedisStage) -> None:
        self._stage = stage
        self._runs: dict[str, Run] = {}
        self._messages: dict[str, list[Message]] = {}
        self._ready: list[str] = []
        self._suspects: list[str] = []
        self._leases: dict[str, frozenset[str]] = {}
        self._holders: list[str] = []
        self._active: dict[str, str] = {}
        self._interrupting: dict[str, list[str]] = {}
        self._waiting: dict[str, list[str]] = {}
        self._cancelling: list[str] = []
        self._by_status: dict[RunStatus, frozenset[str]] = {}
        self._by_history: dict[str, frozenset[str]] = {}
        self._listed: list[str] = []
        self._forgotten: list[str] = []
        for key, value in keys:
            if key.startswith("{"):
                word, _, rest = key.partition("}:")[2].partition(":")
                self._read(word, rest, value)

    @property
    def result(self) -> Snapshot:
        lines = {*self._interrupting, *self._waiting}
        return Snapshot(
            runs=self._runs,
            messages=self._messages,
            ready=frozenset(self._ready),
            suspects=frozenset(self._suspects),
            leases=self._leases,
            holders=frozenset(self._holders),
            active=self._active,
            waiting={
                name: self._interrupting.get(name, []) + self._waiting.get(name, [])
                for name in lines
            },
            cancelling=frozenset(self._cancelling),
            by_status=self._by_status,
            by_history=self._by_history,
            listed=frozenset(self._listed),
            forgotten=frozenset(self._forgotten),
        )

    def _read(self, word: str, rest: str, value: Any) -> None:
        match word:
            case "run":
                self._runs[rest] = self._stage.run(rest, value)
            case "messages":
                self._messages[rest] = [self._stage.message(rest, *entry) for entry in value]
            case "ready" | "suspects":
                self._ready += value
                if word == "suspects":
                    self._suspects += value
            case "cancelling":
                self._cancelling += value
            case "holders":
                self._holders += value
            case "conversation":
                fields = dict(zip(value[::2], value[1::2], strict=True))
                if "active" in fields:
                    self._active[rest] = fields["active"]
            case _:
                self._read_group(word, rest, value)

    def _read_group(self, word: str, rest: str, value: Any) -> None:
        match word:
            case "leases":
                self._leases[rest] = self._leases.get(rest, frozenset()) | frozenset(value)
            case "interrupting":
                self._interrupting[rest] = value
            case "waiting":
                self._waiting[rest] = value
            case "status":
                status = RunStatus(rest)
                self._by_status[status] = self._by_status.get(status, frozenset()) | set(value)
            case "runs":
                self._by_history[rest] = frozenset(value)
            case "histories":
                self._listed += value
            case _ if word not in _NOT_READ:
                self._forgotten.append(word)
