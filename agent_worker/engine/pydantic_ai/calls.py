"""Tool calls of one answer, and which result belongs to which of them.

Ids come from the provider. Careless ones repeat an id within one answer, or leave it empty, while
Pydantic AI pairs by id and refuses both. So inside of this engine the calls of one answer have
unique ids, which follow from the stored ones. What is stored is what the model wrote.
"""

from collections.abc import Iterable, Sequence


def unique_ids(ids: Iterable[str]) -> list[str]:
    """The same ids, made different from each other: the n-th repetition of `a` is ``a~n``.

    An empty id counts as ``call``. Equal input gives equal output, so that a run taken over finds
    the ids of the first attempt.
    """
    taken: set[str] = set()
    unique: list[str] = []
    for written in ids:
        name, repetition = written or "call", 0
        while name in taken:
            repetition += 1
            name = f"{written or 'call'}~{repetition}"
        taken.add(name)
        unique.append(name)
    return unique


class OpenCalls:
    """The calls of the latest answer that wait for their results."""

    def __init__(self, stored_ids: Sequence[str] = (), native_ids: Sequence[str] = ()) -> None:
        self._native_ids = native_ids
        self._waiting = dict(enumerate(stored_ids))

    def close(self, stored_id: str, index: int | None = None) -> int | None:
        """The index of the call that a result belongs to; from now on it is closed.

        Without an `index` it is the first one with this id that still waits. None: there is none.
        """
        if index is None or self._waiting.get(index) != stored_id:
            index = next((i for i, own in self._waiting.items() if own == stored_id), None)
        if index is not None:
            del self._waiting[index]
        return index

    def native_id(self, index: int | None, stored_id: str) -> str:
        """The id under which Pydantic AI knows the call."""
        return stored_id if index is None else self._native_ids[index]
