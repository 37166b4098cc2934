"""What somebody else, or a broken disk, may leave where something of ours should be."""

import json
from collections.abc import Iterator
from typing import Any, Final

from hypothesis import strategies as st

GARBAGE: Final = (
    b"",
    b"\xff\xfe{",
    b"\xc0\xae\xc0\xae",  # overlong UTF-8
    b"\xed\xa0\x80",  # half a surrogate pair, encoded
    b"\x00",
    b"x",
    b"-1",
    b"1e400",
    b"nan",
    b"9" * 30,
    b"9" * 5_000,
    b"[" * 100_000,
    b"{",
    b"null",
    b"{}",
    b"[]",
    b'{"a":NaN,"b":Infinity}',
    b'{"role":"user","role":"bot"}',
    b'"\\ud800"',
    b"\xef\xbb\xbf{}",
    b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94.",  # a pickle
    b"A" * 1_000_000,
)
"""Values of no field."""

_ODD: Final[tuple[Any, ...]] = (
    None, True, -1, 2**70, float("nan"), float("inf"), "", "\0", "\ud800", [], {}, [[]], "x" * 9_999
)  # fmt: skip


@st.composite
def damaged(draw: st.DrawFn, stored: bytes) -> bytes:
    """The bytes of something that was stored, after something happened to them."""
    return draw(
        st.one_of(
            st.builds(_flipped, st.just(stored), st.integers(0, len(stored) * 8 - 1)),
            st.integers(0, len(stored)).map(lambda length: stored[:length]),
            st.builds(_with_inside, st.just(stored), st.integers(0, len(stored)), st.binary()),
            st.sampled_from(GARBAGE),
            st.sampled_from(list(_swapped(stored))),
        )
    )


def _flipped(stored: bytes, bit: int) -> bytes:
    changed = bytearray(stored)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def _with_inside(stored: bytes, place: int, more: bytes) -> bytes:
    return stored[:place] + more + stored[place:]


def _swapped(stored: bytes) -> Iterator[bytes]:
    """JSON with one of its values replaced by one of another type, or deeply nested, or gone."""
    body = json.loads(stored)
    deep: Any = "in"
    for _ in range(300):
        deep = [deep]
    for path in _paths(body):
        for odd in (*_ODD, deep, ...):
            yield json.dumps(_replaced(body, path, odd)).encode(errors="surrogatepass")


def _paths(value: Any) -> Iterator[tuple[Any, ...]]:
    keys = value.keys() if isinstance(value, dict) else range(len(value))
    for key in keys:
        yield (key,)
        if isinstance(value[key], dict | list):
            yield from ((key, *rest) for rest in _paths(value[key]))


def _replaced(value: Any, path: tuple[Any, ...], odd: Any) -> Any:
    """A copy with something else at a place; with `...`, nothing at all."""
    if not path:
        return odd
    copy = value.copy()
    if len(path) == 1 and odd is ...:
        del copy[path[0]]
    else:
        copy[path[0]] = _replaced(value[path[0]], path[1:], odd)
    return copy
