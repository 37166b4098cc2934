"""What becomes of a run that cannot be opened.

It ends failed, with a code that says why; or it is given back, where only this worker lacks what it
takes. It is never shown to a model with holes in it, and never taken up without end.
"""

from types import MappingProxyType
from typing import Final

from shared.errors import SealError, SealKeyError, SealLimitError, TamperedError, UnsealedError
from shared.run import RunError

KEY_TRIES: Final = 5
"""So many leases a run may have had when a worker that lacks the key gives it back to the others.

Workers may be told of a new key one after the other; a key that nobody has must not keep a caller
waiting for ever.
"""

_CODES: Final[tuple[tuple[type[SealError], str], ...]] = (
    (SealKeyError, "key_missing"),
    (TamperedError, "seal_broken"),
    (UnsealedError, "not_encrypted"),
    (SealLimitError, "seal_limit"),
)

PLAIN_ERRORS: Final = MappingProxyType(
    {
        "record_unreadable": "What is stored of this run cannot be read, so that no worker can "
        "execute it.",
        "key_missing": "The workers that took this run have no key to open it. Set "
        "AGENTS_ENCRYPTION_KEYS of all workers to the keys of those who submit.",
    }
)
"""What ledgers and workers without keys say of a run in clear, by code. These words are shown, not
those that are stored: anybody may have written them."""


def failure_of(error: SealError) -> RunError:
    """How a run fails whose input or history cannot be opened."""
    code = next((code for kind, code in _CODES if isinstance(error, kind)), "sealed")
    return RunError(code=code, message=str(error))


def is_for_others(error: SealError, attempts: int) -> bool:
    """Whether another worker may be able to open it, and should be given the run.

    `attempts` counts the leases of the run, this one included.
    """
    return isinstance(error, SealKeyError) and attempts < KEY_TRIES
