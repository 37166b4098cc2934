"""Between one layer and the next: sealed bytes as a `Sealed` and back."""

import base64
from collections.abc import Sequence

from shared.message import Sealed
from shared.sealing.key_ring import decoded


def as_sealed(layers: Sequence[str], data: bytes) -> Sealed:
    """Bytes to which `layers` were done, none of which needs a key."""
    return Sealed(layers=tuple(layers), data=base64.b64encode(data).decode("ascii"))


def bytes_of(sealed: Sealed, where: str) -> bytes:
    """The bytes again. Raises `TamperedError` if that is not what is there."""
    return decoded(sealed, where)
