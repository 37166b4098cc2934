"""Settings: every knob, from the environment (prefix ``AGENTS_``) or passed in."""

from pathlib import Path
from typing import Any, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, FilePath, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.encryption_key import Plaintext, parse_keys
from shared.errors import ConfigurationError
from shared.identifier import check_id
from shared.redis_url import with_credentials
from shared.retention import RetentionRule
from shared.run import DEFAULT_HISTORY_SIZE

_BROKERS: Final = (
    "redis://",
    "rediss://",
    "redis+sentinel://",
    "rediss+sentinel://",
    "amqp://",
    "amqps://",
)
_CLUSTERS: Final = ("redis+cluster://", "rediss+cluster://")
_OVER_TLS: Final = ("rediss://", "rediss+sentinel://", "rediss+cluster://", "amqps://")


OversizePolicy = Literal["cut", "fail"]
"""What becomes of a tool result that is too large."""


def read_settings(**given: Any) -> "Settings":
    """The settings of the environment, with what is given (and not None) in their place.

    Raises:
        ConfigurationError: A setting that is not valid. Its value, which may hold a password, is
            not in the message.
    """
    try:
        return Settings.model_validate(
            {name: value for name, value in given.items() if value is not None}
        )
    except ValidationError as error:
        first = error.errors()[0]  # its message never quotes the value
        name = "AGENTS_" + ".".join(map(str, first["loc"])).upper() + ": " if first["loc"] else ""
        raise ConfigurationError(name + first["msg"].removeprefix("Value error, ")) from error


class Settings(BaseSettings):
    """Read from the environment when built. Clients and workers of one system share one set."""

    model_config = SettingsConfigDict(
        env_prefix="AGENTS_",
        frozen=True,
        extra="ignore",
        validate_default=True,
        hide_input_in_errors=True,  # a broker's URL holds a password
    )

    redis_url: SecretStr = Field(
        default=SecretStr("redis://localhost:6379/0"),
        description="Redis (or Valkey) that keeps runs and conversations: redis://, "
        "redis+sentinel:// or redis+cluster://; rediss for TLS.",
    )
    redis_username: str | None = Field(
        default=None, description="The ACL user at Redis, where the URL names none."
    )
    redis_password: SecretStr | None = Field(
        default=None, description="Its password, where the URL has none."
    )
    sentinel_username: str | None = Field(default=None, description="The user at the sentinels.")
    sentinel_password: SecretStr | None = Field(
        default=None, description="The password of the sentinels."
    )
    broker_url: SecretStr | None = Field(
        default=None,
        description="Celery's broker: redis://, redis+sentinel:// or amqp://; rediss and amqps for "
        "TLS. Unset: the same Redis.",
    )
    broker_username: str | None = Field(
        default=None, description="The user at the broker, where its URL names none."
    )
    broker_password: SecretStr | None = Field(
        default=None, description="Its password, where the URL has none."
    )
    tls_ca_file: FilePath | None = Field(
        default=None,
        description="Certificates (PEM) to trust. Unset: those that the system trusts.",
    )
    tls_cert_file: FilePath | None = Field(
        default=None, description="The certificate (PEM) that is shown to Redis and the broker."
    )
    tls_key_file: FilePath | None = Field(default=None, description="The key of that certificate.")
    tls_check_hostname: bool = Field(
        default=True, description="Whether a certificate has to be for the host that was called."
    )
    redis_wait_replicas: int = Field(
        default=0,
        ge=0,
        description="Replicas that must have a change of a run or history before it counts.",
    )
    redis_wait_timeout_s: float = Field(
        default=1.0, gt=0, description="How long a change may take to reach them."
    )
    conversation_url: SecretStr | None = Field(
        default=None,
        description="Where conversations are kept, if not beside the runs: postgresql://. Unset: "
        "in the Redis of the runs.",
    )
    conversation_timeout_s: float = Field(
        default=5.0, gt=0, description="Connecting to PostgreSQL and one answer of it."
    )
    conversation_connections: int = Field(
        default=8,
        ge=1,
        description="Connections of a process to PostgreSQL, besides one to listen.",
    )
    key_prefix: str = Field(
        default="agents",
        description="What every Redis key and every Celery queue starts with, and the schema in "
        "PostgreSQL.",
    )
    queue_per_agent: bool = Field(
        default=False,
        description="One Celery queue for each agent, for workers that serve different agents.",
    )

    lease_s: float = Field(
        default=4.0, gt=0, description="A worker that has not beaten for so long loses its runs."
    )
    heartbeat_s: float = Field(
        default=1.0, gt=0, description="How often a worker beats. At most a third of the lease."
    )
    sweep_s: float = Field(
        default=0.5, gt=0, description="How often a worker looks for runs that nobody works on."
    )
    pickup_s: float = Field(
        default=2.0,
        gt=0,
        description="A ready run that no wake-up reached after so long is picked up by a sweep.",
    )
    max_crashes: int = Field(
        default=3,
        ge=1,
        description="A run whose worker died this often, no message stored in between, is failed.",
    )

    processes: int = Field(
        default=1,
        ge=0,
        description="Worker processes that `agent-worker start` starts; 0: one for each core.",
    )
    concurrency: int = Field(default=200, ge=1, description="Runs in flight in a worker process.")
    history_size: int = Field(
        default=DEFAULT_HISTORY_SIZE,
        ge=1,
        description="Messages that a model sees, its input included.",
    )
    max_rounds: int = Field(default=50, ge=1, description="Model calls in one run.")
    time_limit_s: float = Field(
        default=3600.0, gt=0, description="How long one lease of a run may take."
    )
    model_timeout_s: float = Field(default=300.0, gt=0, description="One model call.")
    tool_timeout_s: float = Field(default=120.0, gt=0, description="One tool call.")
    model_retries: int = Field(
        default=5, ge=0, description="Further tries of a model call after a transient error."
    )
    handover_grace_s: float = Field(
        default=5.0, ge=0, description="How long running tools may go on after SIGTERM."
    )

    run_ttl_s: float = Field(
        default=7 * 86400.0, gt=0, description="How long an ended run can be looked up."
    )
    event_ttl_s: float = Field(
        default=900.0, gt=0, description="How long status changes and text deltas can be read."
    )
    conversation_ttl_s: float | None = Field(
        default=None,
        gt=0,
        description="A conversation in Redis or PostgreSQL is forgotten so long after its last "
        "message. Unset: never. At least AGENTS_TIME_LIMIT_S.",
    )
    conversation_idle_s: float | None = Field(
        default=None,
        gt=0,
        description="A managed conversation without activity for so long is closed; the next input "
        "begins a new one. Unset: never.",
    )
    retention: tuple[RetentionRule, ...] = Field(
        default=(),
        description="What becomes of managed conversations, as JSON: "
        '[{"action": "purge", "after_days": 90, "channel": "web", "agent": "x"}] (or archive).',
    )
    archive_url: SecretStr | None = Field(
        default=None,
        description="Where conversations are archived: a store by its URL, which clients and "
        "workers reach. The same for as long as anything is in it.",
    )
    tidy_s: float = Field(
        default=60.0,
        gt=0,
        description="How often a worker looks for conversations that are idle or past retention.",
    )
    conversation_max_messages: int | None = Field(
        default=None,
        ge=1,
        description="Messages that a conversation in Redis or PostgreSQL keeps; older ones are "
        "removed where no call loses its result. Unset: all.",
    )
    snapshot_folder: Path | None = Field(
        default=None,
        description="Snapshots are files in this folder of the machine that takes them. Unset: "
        "they are in Redis.",
    )
    announce_prompts: bool = Field(
        default=True,
        description="Whether workers tell the system prompts and tools of their agents, in Redis: "
        "snapshots hold them, and are checked against them.",
    )
    idempotency_ttl_s: float = Field(
        default=86400.0, gt=0, description="How long an idempotency key is remembered."
    )
    max_input_bytes: int = Field(
        default=1_000_000, ge=1, description="The largest input of a run, as JSON."
    )
    max_metadata_bytes: int = Field(
        default=16_384, ge=1, description="The largest metadata of a run, as JSON."
    )
    max_message_bytes: int = Field(
        default=4_000_000,
        ge=10_000,
        description="The largest message of a run, as JSON; a larger answer fails the run.",
    )
    max_result_bytes: int = Field(
        default=262_144, ge=1_000, description="The largest result of a tool."
    )
    oversize_result: OversizePolicy = Field(
        default="cut",
        description="A larger result: cut (the model is told what is missing), or fail (the call).",
    )
    shorten_results_bytes: int | None = Field(
        default=None,
        ge=1_000,
        description="What a model is shown of a result that is stored whole. Unset: all of it.",
    )

    encryption_keys: SecretStr | None = Field(
        default=None,
        description="Keys that encrypt what is said, as id:key,id2:key2, each of 32 bytes in "
        "base64 or hex. The first one writes, all of them read. Unset: nothing is encrypted.",
    )
    plaintext: Plaintext = Field(
        default="refuse",
        description="With keys, what is not encrypted: refuse; read (what is there of before); or "
        "write as well, so that keys only read. To turn encryption on step by step.",
    )
    compression: Literal["none", "zstd"] = Field(
        default="none",
        description="Whether messages are compressed where they are stored. What is compressed is "
        "read in any case.",
    )

    redis_timeout_s: float = Field(
        default=5.0, gt=0, description="Connecting to Redis and one answer of it."
    )
    broker_timeout_s: float = Field(
        default=5.0, gt=0, description="Handing one wake-up to the broker."
    )
    remote_control: bool = Field(
        default=False,
        description="Celery's remote control, as far as it only looks (celery inspect), and its "
        "events.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The least severe log entry that is written."
    )
    log_format: Literal["auto", "json", "console"] = Field(
        default="auto", description="auto: console on a terminal, JSON elsewhere."
    )

    @field_validator("encryption_keys")
    @classmethod
    def _check_encryption_keys(cls, keys: SecretStr | None) -> SecretStr | None:
        """A key that is no key would be found when the first message is stored."""
        if keys is not None:
            try:
                parse_keys(keys.get_secret_value())
            except ConfigurationError as error:
                raise ValueError(str(error)) from None
        return keys

    @field_validator("broker_url")
    @classmethod
    def _check_broker_url(cls, url: SecretStr | None) -> SecretStr | None:
        """Celery looks at it when a first message is sent, and fails in the words of a library."""
        if url and not url.get_secret_value().startswith(_BROKERS):
            raise ValueError(f"it has to start with one of {', '.join(_BROKERS)}")
        try:
            _ = url and urlsplit(url.get_secret_value()).port
        except ValueError:
            # Not quoted: what is in the place of the port may be a piece of the password.
            raise ValueError(
                "its port is no number. In a password, write characters like / ? # @ as %2F %3F "
                "%23 %40"
            ) from None
        return url

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_id(self.key_prefix, "key prefix (AGENTS_KEY_PREFIX)")
        if self.heartbeat_s * 3 > self.lease_s:
            raise ValueError(
                f"AGENTS_HEARTBEAT_S ({self.heartbeat_s}) must be at most a third of "
                f"AGENTS_LEASE_S ({self.lease_s}), or a late beat would cost a worker its runs."
            )
        if self.max_result_bytes * 2 > self.max_message_bytes:
            raise ValueError(
                f"AGENTS_MAX_RESULT_BYTES ({self.max_result_bytes}) must be at most half of "
                f"AGENTS_MAX_MESSAGE_BYTES ({self.max_message_bytes}): a result is a message."
            )
        return self

    @model_validator(mode="after")
    def _check_retention(self) -> Self:
        ttl_s, size = self.conversation_ttl_s, self.conversation_max_messages
        if ttl_s is not None and ttl_s < self.time_limit_s:
            raise ValueError(
                f"AGENTS_CONVERSATION_TTL_S ({ttl_s:g}) must be at least AGENTS_TIME_LIMIT_S "
                f"({self.time_limit_s:g}), or a run could lose its history while it is executed."
            )
        if size is not None and size < self.history_size:
            raise ValueError(
                f"AGENTS_CONVERSATION_MAX_MESSAGES ({size}) must be at least AGENTS_HISTORY_SIZE "
                f"({self.history_size}), or models would see less than they are meant to."
            )
        if self.archive_url is None and any(rule.action == "archive" for rule in self.retention):
            raise ValueError(
                "AGENTS_RETENTION archives conversations; say with AGENTS_ARCHIVE_URL where to."
            )
        return self

    @model_validator(mode="after")
    def _check_services(self) -> Self:
        redis, broker = self.redis_url.get_secret_value(), self.effective_broker_url
        if broker.startswith(_CLUSTERS):
            raise ValueError(
                "AGENTS_BROKER_URL is missing: Celery cannot use a Redis Cluster as its broker, so "
                "name a Redis of its own or RabbitMQ."
            )
        if self.redis_wait_replicas and self.redis_wait_timeout_s >= self.redis_timeout_s:
            raise ValueError(
                f"AGENTS_REDIS_WAIT_TIMEOUT_S ({self.redis_wait_timeout_s}) must be less than "
                f"AGENTS_REDIS_TIMEOUT_S ({self.redis_timeout_s}), or the answer would come too "
                "late to be heard."
            )
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            raise ValueError("AGENTS_TLS_CERT_FILE and AGENTS_TLS_KEY_FILE are set together.")
        files = self.tls_ca_file or self.tls_cert_file
        if files is not None and not any(url.startswith(_OVER_TLS) for url in (redis, broker)):
            raise ValueError(
                "TLS files are set, and neither URL is one over TLS; write rediss:// or amqps://."
            )
        return self

    @property
    def effective_redis_url(self) -> str:
        """The store's URL with user and password, in clear: to connect with, never for a log."""
        return with_credentials(
            self.redis_url.get_secret_value(), self.redis_username, _clear(self.redis_password)
        )

    @property
    def retake_s(self) -> float:
        """How long after it was taken back a run may wait for the worker that is rung for it."""
        return min(self.sweep_s, self.pickup_s)

    @property
    def max_unpacked_bytes(self) -> int:
        """What a compressed message may become: twice the largest one, as imports may be larger."""
        return self.max_message_bytes * 2

    @property
    def effective_broker_url(self) -> str:
        """The broker's URL, in clear: for the Celery app only, never for a log."""
        if not self.broker_url:
            return self.effective_redis_url
        return with_credentials(
            self.broker_url.get_secret_value(), self.broker_username, _clear(self.broker_password)
        )

    def queue_of(self, agent: str) -> str:
        """The Celery queue through which workers are rung for an agent's runs."""
        return f"{self.key_prefix}.{agent}" if self.queue_per_agent else self.key_prefix


def _clear(secret: SecretStr | None) -> str | None:
    return secret.get_secret_value() if secret is not None else None
