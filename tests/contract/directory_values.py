"""Sessions for the contract of directories."""

from uuid import uuid4

from shared.backend import Backend
from shared.directory.protocol import ConversationDirectory
from shared.directory.session import SessionId
from tests.contract.values import AGENT


def directory_of(backend: Backend) -> ConversationDirectory:
    """The directory of a backend."""
    return backend.opened_directory()


def session(channel: str | None = None, *, user: str | None = None) -> SessionId:
    """A session that no other test has; in a channel of its own unless one is given."""
    name = uuid4().hex[:8]
    return SessionId.of_user(channel or f"web-{name}", user or f"ada-{name}", AGENT)
