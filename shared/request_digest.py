"""Requests: what makes two of them the same."""

import hashlib
import json

from shared.codec import storable
from shared.run import NewRun


def asked_for(new: NewRun) -> str:
    """Agent and input, as JSON."""
    return json.dumps(storable(new.model_dump(mode="json", include={"agent", "input"})))


def request_digest(new: NewRun) -> str:
    """What two requests under one idempotency key have in common if they are the same request.

    Who encrypts the input brings a digest that tells nothing about it.
    """
    if new.request_digest is not None:
        return new.request_digest
    return hashlib.blake2b(asked_for(new).encode(), digest_size=16).hexdigest()
