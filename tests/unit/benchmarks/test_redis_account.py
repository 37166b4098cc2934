"""The account of what is asked of Redis: commands, however they are cut up, and round trips."""

from hashlib import sha1

import pytest

from benchmarks.redis_account import Account, Bill, take_commands
from shared.redis_client import script_source


def packed(*words: bytes) -> bytes:
    """A command as a client sends it."""
    lines = [b"*%d" % len(words)]
    for word in words:
        lines += [b"$%d" % len(word), word]
    return b"\r\n".join([*lines, b""])


def digest_of(source: bytes) -> bytes:
    """As Redis names a script."""
    return sha1(source, usedforsecurity=False).hexdigest().encode()


GET = packed(b"GET", b"a")
SET = packed(b"SET", b"a", b"two\r\nlines, *2")


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_commands_are_found_however_the_network_cuts_them(size: int) -> None:
    """Line ends and stars within a value are part of it."""
    data = GET + SET + GET
    buffer = bytearray()
    found: list[tuple[bytes, ...]] = []
    for start in range(0, len(data), size):
        buffer += data[start : start + size]
        found += take_commands(buffer)
    assert found == [(b"GET", b"a"), (b"SET", b"a", b"two\r\nlines, *2"), (b"GET", b"a")]
    assert not buffer


def test_what_is_sent_before_an_answer_is_one_round_trip() -> None:
    """A pipeline, that is, also one that comes in pieces."""
    account = Account()
    account.hear_request(1, GET + SET)
    account.hear_request(1, GET)
    account.hear_answer(1, b"$-1\r\n")
    account.hear_answer(1, b"+OK\r\n")
    account.hear_request(1, GET)
    bill = Bill.of(account.commands)
    assert (bill.commands, bill.round_trips) == (4, 2)
    assert bill.kinds == {"GET": 3, "SET": 1}


def test_each_connection_has_round_trips_of_its_own() -> None:
    """Another one's answer ends none of them."""
    account = Account()
    account.hear_request(1, GET)
    account.hear_request(2, GET)
    account.hear_answer(2, b"$-1\r\n")
    account.hear_request(1, SET)
    account.hear_request(2, SET)
    assert Bill.of(account.commands).round_trips == 3


def test_a_command_that_is_not_whole_is_not_counted_yet() -> None:
    """Nobody knows what it will be."""
    account = Account()
    account.hear_request(1, GET[:-3])
    assert Bill.of(account.commands).commands == 0
    account.hear_request(1, GET[-3:])
    assert [command.words for command in account.commands] == [(b"GET", b"a")]


def test_scripts_go_by_their_names_whether_sent_whole_or_by_digest() -> None:
    """So a script counts as what it does."""
    source = script_source("conversation", "append").encode()
    account = Account()
    account.hear_request(1, packed(b"EVAL", source, b"0"))
    account.hear_request(1, packed(b"evalsha", digest_of(source), b"0"))
    account.hear_request(1, packed(b"EVALSHA", b"0" * 40, b"0"))
    kinds = [command.kind for command in account.commands]
    assert kinds == ["conversation/append", "conversation/append", "EVALSHA"]


def test_a_command_is_about_what_its_words_hold() -> None:
    """Keys hold ids in the middle."""
    account = Account()
    account.hear_request(1, packed(b"HGETALL", b"{agents:1}:run:run-1-abc"))
    [command] = account.commands
    assert command.is_about("elsewhere", "run-1-abc")
    assert not command.is_about("elsewhere")
