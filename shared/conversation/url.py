"""Conversations by URL: one table says which scheme leads to which store.

    memory://                          this process
    file:///var/lib/chats              a folder; file:chats is one below the working directory
    sqlite:///chat.db                  a file below the working directory
    sqlite:////var/lib/chat.db         the same by an absolute path: four slashes
    redis://host:6379/0                and all other forms of `shared.redis_url`
    postgresql://host:5432/database    with parameters of libpq; takes the extra `postgres`

Other distributions add schemes of their own with an entry point in the group
`celery_agents.conversations`: its name is the scheme, and it names a function that takes the URL
and the settings and returns a store.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import Final

from shared.conversation.protocol import ConversationStore
from shared.errors import ConfigurationError, NotDistributedError
from shared.settings import Settings, read_settings

ENTRY_POINTS: Final = "celery_agents.conversations"

Opener = Callable[[str, Settings], ConversationStore]
"""Opens the store of a URL. What it opens, `aclose` gives back."""


@dataclass(frozen=True, slots=True)
class Scheme:
    """What a URL that begins with it leads to.

    Attributes:
        opener: ``module:function`` of an `Opener`, imported when it is first needed.
        is_distributed: Whether workers on other machines see the same conversations.
        extra: The extra of this distribution that has what the opener imports, if that is one.
    """

    opener: str
    is_distributed: bool
    extra: str | None = None


_POSTGRES: Final = Scheme(
    "shared.conversation.postgres:open_postgres", is_distributed=True, extra="postgres"
)
_REDIS: Final = Scheme("shared.redis_backend:open_redis_conversations", is_distributed=True)

_DIRECT: Final = {
    "memory": Scheme("shared.memory_backend:open_memory_conversations", is_distributed=False),
    "file": Scheme("shared.conversation.file:open_url", is_distributed=False),
    "sqlite": Scheme("shared.conversation.sqlite:open_url", is_distributed=False),
    "redis": _REDIS,
    "rediss": _REDIS,
    "redis+sentinel": _REDIS,
    "rediss+sentinel": _REDIS,
    "redis+cluster": _REDIS,
    "rediss+cluster": _REDIS,
    "unix": _REDIS,
    "postgresql": _POSTGRES,
    "postgres": _POSTGRES,
}
_AT_OPENAI: Final = {
    f"openai+{name}": Scheme(
        "shared.conversation.openai_url:open_url",
        is_distributed=index.is_distributed,
        extra="openai",
    )
    for name, index in _DIRECT.items()
}
"""Contents at OpenAI; what follows the plus is the URL of the index."""

SCHEMES: Final[Mapping[str, Scheme]] = MappingProxyType(_DIRECT | _AT_OPENAI)

_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,60}):")


def conversation_from_url(url: str, settings: Settings | None = None) -> ConversationStore:
    """Open the conversations that a URL names; whoever gets them closes them with `aclose`.

    Nothing connects to a server before the first use; files and folders are made at once. Settings
    (TLS, time limits, retention) come from the environment unless given.

    Raises:
        ConfigurationError: No such scheme, an extra that is not installed, a path or a URL that
            cannot be used. The message never quotes the URL, which may hold a password.
    """
    check_url(url)
    opener = _find_opener(_scheme_of(url))
    return opener(url, settings if settings is not None else read_settings())


def check_url(url: str) -> None:
    """Whether somebody knows the scheme of a URL. Opens nothing and imports nothing.

    Raises:
        ConfigurationError: Nobody does.
    """
    scheme = _scheme_of(url)
    if scheme in SCHEMES or _entry_points(scheme):
        return
    raise ConfigurationError(
        f"Nobody keeps conversations under {scheme}:. Known are {', '.join(sorted(_known()))}; "
        f"another distribution can add one with an entry point in the group {ENTRY_POINTS}."
    )


def check_distributed(url: str) -> None:
    """Whether workers in other processes can use what a URL names, as far as the URL tells.

    Raises:
        ConfigurationError: Nobody knows its scheme.
        NotDistributedError: They cannot.
    """
    check_url(url)
    scheme = SCHEMES.get(_scheme_of(url))
    if scheme is not None and not scheme.is_distributed:
        distributed = sorted(name for name, each in SCHEMES.items() if each.is_distributed)
        raise NotDistributedError(
            f"Conversations under {_scheme_of(url)}: are in this process or on this machine, where "
            "remote workers cannot see them. Use the Redis of the settings (backend='redis') or a "
            f"URL of {', '.join(distributed)}, or run everything in this process with "
            "AsyncAgentClient.local(...)."
        )


def _scheme_of(url: str) -> str:
    match = _SCHEME.match(url)
    if match is None:
        raise ConfigurationError(
            "The place of conversations is given as a URL, such as sqlite:///chat.db, "
            "file:///var/lib/chats or redis://localhost:6379/0; this one begins with no scheme."
        )
    return match[1].lower()


def _find_opener(scheme: str) -> Opener:
    known = SCHEMES.get(scheme)
    return _import_opener(scheme, known) if known is not None else _load_opener(scheme)


def _import_opener(scheme: str, known: Scheme) -> Opener:
    module, _, name = known.opener.partition(":")
    try:
        opener: Opener = getattr(import_module(module), name)
    except ImportError as error:
        if known.extra is None:
            raise
        raise ConfigurationError(
            f"Conversations under {scheme}: need what is not installed ({error.name}): pip install "
            f"'celery-agents[{known.extra}]'."
        ) from error
    return opener


def _load_opener(scheme: str) -> Opener:
    found = _entry_points(scheme)
    if len(found) > 1:
        named = ", ".join(sorted(each.value for each in found))
        raise ConfigurationError(
            f"Several distributions keep conversations under {scheme}: ({named}); uninstall all "
            "but one of them."
        )
    [point] = found
    try:
        opener: Opener = point.load()
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(
            f"{point.value}, which keeps conversations under {scheme}:, cannot be loaded "
            f"({error}); install what its distribution asks for."
        ) from error
    return opener


def _entry_points(scheme: str) -> list[EntryPoint]:
    return [point for point in entry_points(group=ENTRY_POINTS) if point.name.lower() == scheme]


def _known() -> set[str]:
    return {*SCHEMES, *(point.name for point in entry_points(group=ENTRY_POINTS))}
