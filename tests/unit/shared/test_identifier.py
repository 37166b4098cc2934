"""Ids: which are taken, which are refused, and where what they name lies."""

import multiprocessing
import random
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import ConfigurationError, InvalidIdError
from shared.identifier import (
    MAX_ID_LENGTH,
    PARTITIONS,
    check_id,
    history_id,
    is_alone,
    new_run_id,
    new_tag,
    partition_of,
    partition_of_history,
    partition_of_run,
)


class TestCheckId:
    @pytest.mark.parametrize(
        "value", ["a", "7", "slack:U123:support", "a@b.org", "A-1_2+3=4.5", "x" * MAX_ID_LENGTH]
    )
    def test_a_usual_id_is_returned(self, value: str) -> None:
        """Letters, digits and the separators people use are fine, up to the longest length."""
        assert check_id(value, "conversation id") == value

    @pytest.mark.parametrize(
        "value",
        [
            "",
            "..",
            "a/../b",
            "a..b",
            "a/b",
            "a\\b",
            "{a}",
            "a b",
            "a\n",
            "\na",
            "a\x00",
            "é",
            "-a",
            "a.",
            ":a",
            "~run",
            "*",
            "x" * (MAX_ID_LENGTH + 1),
            None,
            7,
            b"a",
        ],
    )
    def test_what_could_mean_something_else_is_refused(self, value: object) -> None:
        """Nothing that could leave a folder, a key, a hash tag or a channel; the error names it."""
        with pytest.raises(InvalidIdError, match="conversation id"):
            check_id(value, "conversation id")

    @given(value=st.text(max_size=30))
    def test_whatever_is_taken_is_harmless(self, value: str) -> None:
        """The rule, from the outside: a taken id has none of the characters that could do harm."""
        try:
            check_id(value, "agent name")
        except InvalidIdError:
            return
        assert value.isascii()
        assert not set(value) & set("/\\{}~*?[] \t\r\n\x00\"'<>|")
        assert ".." not in value
        assert value[0].isalnum()
        assert value[-1].isalnum()

    def test_it_is_an_error_of_the_set_up(self) -> None:
        """A caller may catch it as such, or as a ValueError."""
        assert issubclass(InvalidIdError, ConfigurationError)
        assert issubclass(InvalidIdError, ValueError)


class TestRunId:
    @pytest.mark.parametrize("partition", range(PARTITIONS))
    def test_it_names_its_partition(self, partition: int) -> None:
        """What a run id was made for is what is read from it."""
        assert partition_of_run(new_run_id(partition)) == partition

    def test_it_is_an_id(self) -> None:
        """It passes the rule for ids and has the documented form."""
        made = new_run_id(11)
        assert check_id(made, "run id") == made
        assert re.fullmatch(r"run-b-[0-9a-f]{12}7[0-9a-f]{19}", made)

    def test_ids_are_different_and_sort_by_time(self) -> None:
        """A thousand at once are a thousand, and a later one is greater."""
        many = {new_run_id(0) for _ in range(1000)}
        assert len(many) == 1000
        last = max(many)
        started = time.time_ns() // 1_000_000
        while time.time_ns() // 1_000_000 <= started:
            pass
        assert new_run_id(0) > last

    @pytest.mark.parametrize(
        "value",
        [
            "",
            "run-0",
            "run-g-" + "0" * 32,
            "run-0-" + "0" * 31,
            "run-0-" + "0" * 33,
            " run-0",
            None,
        ],
    )
    def test_anything_else_is_refused(self, value: object) -> None:
        """The error says what to pass instead."""
        with pytest.raises(InvalidIdError, match="submit"):
            partition_of_run(value)


class TestPartition:
    @given(name=st.text(min_size=1, max_size=50, alphabet="abcxyz0189:@._-"))
    def test_a_conversation_lies_in_one_partition(self, name: str) -> None:
        """Always the same, and one there is."""
        assert partition_of(name) == partition_of(name)
        assert 0 <= partition_of(name) < PARTITIONS
        assert partition_of_history(name) == partition_of(name)

    def test_partitions_are_part_of_the_stored_format(self) -> None:
        """These may never change: existing conversations would be looked for elsewhere."""
        assert PARTITIONS == 16
        assert [partition_of(name) for name in ("a", "support:ada", "x@y.z")] == [14, 12, 9]

    def test_all_partitions_are_used(self) -> None:
        """Conversations spread over every partition there is."""
        assert {partition_of(f"user-{number}") for number in range(500)} == set(range(PARTITIONS))

    def test_a_run_that_is_alone_has_a_history_of_its_own(self) -> None:
        """It lies with its run, and no conversation can have that name."""
        run_id = new_run_id(5)
        history = history_id(run_id, None)
        assert is_alone(history)
        assert partition_of_history(history) == 5
        with pytest.raises(InvalidIdError):
            check_id(history, "conversation id")

    def test_a_run_in_a_conversation_has_its_history(self) -> None:
        """The conversation's id is the history's."""
        assert history_id(new_run_id(0), "support") == "support"
        assert not is_alone("support")


def test_tags_do_not_come_twice_after_a_fork() -> None:
    """Workers may be forked from one process; a program may seed its random numbers."""
    with multiprocessing.get_context("fork").Pool(2, maxtasksperchild=1) as pool:
        tags = pool.map(_tags, range(4), chunksize=1)
    drawn = [tag for each in tags for tag in each] + _tags(0)
    assert len(set(drawn)) == len(drawn) == 50
    assert all(re.fullmatch("[0-9a-f]{32}", tag) for tag in drawn)


def _tags(_: int) -> list[str]:
    random.seed(1)
    return [new_tag() for _ in range(10)]
