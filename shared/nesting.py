"""How deep JSON may be nested. Parsers refuse more, so it would be stored and never read."""

from typing import Final

MAX_DEPTH: Final = 64
"""Lists and objects in each other. Parsers follow some two hundred, and what is stored wraps it."""


def is_too_deep(value: object) -> bool:
    """Whether lists and dictionaries are nested deeper than `MAX_DEPTH`. A circle is."""
    pending: list[tuple[object, int]] = [(value, 0)]
    while pending:
        item, depth = pending.pop()
        if not isinstance(item, dict | list | tuple):
            continue
        if depth == MAX_DEPTH:
            return True
        inside = item.values() if isinstance(item, dict) else item
        pending += [(inner, depth + 1) for inner in inside]
    return False
