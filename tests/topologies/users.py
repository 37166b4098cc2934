"""Users at Redis that may do what the documents say is enough, and no more."""

import re
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from redis import Redis

_OPERATIONS: Final = Path(__file__).parents[2] / "docs" / "operations.md"
PASSWORD: Final = "open/sesame@1"


def documented_rights(key_prefix: str) -> list[str]:
    """The rules of docs/operations.md for another key prefix, without their password."""
    block = _OPERATIONS.read_text().split("<!-- acl -->")[1].split("<!-- /acl -->")[0]
    rules = re.sub("```", "", block).replace("agents:", f"{key_prefix}:").split()
    return [rule for rule in rules if rule != ">PASSWORD"]


class User:
    """A user at the server of this URL, for one key prefix."""

    def __init__(self, url: str, key_prefix: str) -> None:
        self.name = f"user-{uuid4().hex}"
        self._admin: Any = Redis.from_url(url)
        self.allow(*documented_rights(key_prefix), f">{PASSWORD}")

    @property
    def settings(self) -> dict[str, Any]:
        """What a client or worker is told."""
        return {"redis_username": self.name, "redis_password": PASSWORD}

    def allow(self, *rules: str) -> None:
        """More rights, or fewer."""
        self._admin.execute_command("ACL", "SETUSER", self.name, *rules)

    def delete(self) -> None:
        """Remove it; its connections are closed."""
        self._admin.execute_command("ACL", "DELUSER", self.name)
        self._admin.close()
