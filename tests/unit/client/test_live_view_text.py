"""Text for terminals: harmless, short, and still what was said."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_client.live_view.text import call_text, clean, duration_text, one_line


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ✓ 东京 👩‍👩‍👧\nnext", "plain ✓ 东京 👩‍👩‍👧\nnext"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1bPq#0\x1b\\sixel", "sixel"),
        ("\x1b(0charset\x1bc", "charset"),
        ("\x1b]never ended", "␛]never ended"),
        ("a\x1b", "a␛"),
        ("one\r\ntwo\rthree\u2028four", "one\ntwo\nthree\nfour"),
        ("bell\x07 null\x00 \x9b1m", "bell␇ null␀ "),
        ("\u202egnp.exe", "gnp.exe"),
        ("half \ud83d", "half \ufffd"),
    ],
)
def test_nothing_that_a_terminal_obeys_is_left(text: str, shown: str) -> None:
    """Escape sequences vanish, lone control characters turn into pictures, text stays."""
    assert clean(text) == shown


@given(st.text(st.characters(), max_size=60))
def test_no_text_whatsoever_leaves_a_control_character(text: str) -> None:
    """Of all control characters only the line break is left."""
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", clean(text))


@given(st.text(max_size=400), st.integers(1, 80))
def test_one_line_is_one_line_and_short_enough(text: str, limit: int) -> None:
    """A line never breaks and never exceeds its limit."""
    line = one_line(text, limit)
    assert len(line) <= limit
    assert len(line.splitlines()) <= 1


def test_what_was_cut_off_ends_with_an_ellipsis() -> None:
    """A reader can tell a short text from the beginning of a long one."""
    assert one_line("word " * 5000, 12) == "word word w…"
    assert one_line("word word wo", 12) == "word word wo"


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (
            '{"query": "rings", "limit": 3, "deep": {"a": [1]}}',
            't(query="rings", limit=3, deep={"a": [1]})',
        ),
        ("{}", "t()"),
        ("", "t()"),
        ("not json", "t(not json)"),
        ('["a", 1]', 't(["a", 1])'),
        ('{"x": "\\u001b[2J"}', 't(x="\\u001b[2J")'),
    ],
)
def test_arguments_are_shown_as_in_a_call(arguments: str, shown: str) -> None:
    """JSON objects read like keyword arguments, anything else is shown as it was written."""
    assert call_text("t", arguments, 100) == shown


def test_one_long_argument_leaves_room_for_the_next() -> None:
    """The second argument may be the one that tells two calls apart."""
    shown = call_text("t", '{"code": "' + "x" * 5000 + '", "path": "a.py"}', 200)
    assert shown.endswith('…, path="a.py")')


def test_arguments_that_no_parser_survives_are_shown_as_they_begin() -> None:
    """Nesting deeper than Python's stack is no reason to stop watching."""
    assert call_text("t", '{"a":' + "[" * 40_000, 30).startswith('t({"a":[[[')


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(-1, "0.0s"), (0.84, "0.8s"), (59.97, "1m00s"), (125, "2m05s"), (3720, "1h02m")],
)
def test_durations_are_short(seconds: float, shown: str) -> None:
    """Tenths matter for seconds and no longer for hours."""
    assert duration_text(seconds) == shown
