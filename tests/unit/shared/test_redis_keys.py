"""No id can name what belongs to another one: keys and channels follow from ids one to one."""

from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from shared.errors import InvalidIdError
from shared.identifier import check_id, history_id, new_run_id, partition_of_history
from shared.redis_keys import Keys
from shared.run import RunStatus

WORDS = (
    "run", "conversation", "waiting", "interrupting", "runs", "conversations", "status", "ready",
    "leases", "holders", "cancelling", "events", "idempotency", "messages", "history", "workers",
    "worker", "record", "records", "by_user", "unfinished", "session", "notify", "control",
    "celery", "card", "snapshot", "snapshots_of", "p", "a", "0", "f", "queued",
)  # fmt: skip
"""What our own names are made of, so that ids try to look like them."""


def _is_id(value: str) -> bool:
    try:
        check_id(value, "id")
    except InvalidIdError:
        return False
    return True


ids = (
    st.from_regex(r"[A-Za-z0-9](?:[A-Za-z0-9._:@+=-]{0,20}[A-Za-z0-9])?", fullmatch=True)
    | st.lists(st.sampled_from(WORDS), min_size=1, max_size=5).map(":".join)
    | st.integers(0, 15).map(new_run_id)
).filter(_is_id)
run_ids = st.integers(0, 15).map(new_run_id)
histories = ids | run_ids.map(lambda run_id: history_id(run_id, None))
partitions = st.integers(0, 15)
snapshot_ids = st.uuids().map(str)
agents_of_versions = ids | st.tuples(st.integers(2, 99), ids).map(lambda it: f"{it[0]}!{it[1]}")


@st.composite
def names(draw: st.DrawFn) -> tuple[tuple[Any, ...], str]:
    """A key or channel, and what it belongs to."""
    keys = Keys("p")
    kind = draw(st.sampled_from(sorted(_KINDS)))
    arguments = tuple(draw(strategy) for strategy in _KINDS[kind][0])
    return (kind, *arguments), _KINDS[kind][1](keys, *arguments)


def _at(word: str) -> Any:
    """As scripts build it: the tag, a word, and an id at the end."""
    return lambda keys, partition, name: f"{keys.tag(partition)}:{word}:{name}"


def _alone(word: str) -> Any:
    return lambda keys, partition: f"{keys.tag(partition)}:{word}"


def _of_history(word: str) -> Any:
    return lambda keys, history: f"{keys.tag_of_history(history)}:{word}:{history}"


_KINDS: dict[str, tuple[tuple[st.SearchStrategy[Any], ...], Any]] = {
    "run": ((run_ids,), Keys.run),
    "events": ((run_ids,), Keys.events),
    "conversation": ((histories,), Keys.conversation),
    "runs": ((histories,), Keys.runs),
    "messages": ((histories,), Keys.messages),
    "history": ((histories,), Keys.history),
    "waiting": ((histories,), _of_history("waiting")),
    "interrupting": ((histories,), _of_history("interrupting")),
    "idempotency": (
        (partitions, st.just("") | ids, ids),
        lambda keys, partition, scope, key: keys.idempotency(keys.tag(partition), scope, key),
    ),
    "status": (
        (partitions, st.sampled_from(RunStatus)),
        lambda keys, partition, status: keys.status(keys.tag(partition), status),
    ),
    "record": ((ids,), Keys.record),
    "session": ((ids,), Keys.session),
    "records": ((partitions,), lambda keys, number: keys.records(keys.tag(number))),
    "open": ((partitions,), lambda keys, number: keys.open(keys.tag(number))),
    "here": ((partitions,), lambda keys, number: keys.here(keys.tag(number))),
    "unfinished": ((partitions,), lambda keys, number: keys.unfinished(keys.tag(number))),
    "by_user": (
        (partitions, ids),
        lambda keys, partition, name: keys.by_user(keys.tag(partition), name),
    ),
    "by_agent": (
        (partitions, ids),
        lambda keys, partition, name: keys.by_agent(keys.tag(partition), name),
    ),
    "by_channel": (
        (partitions, ids),
        lambda keys, partition, name: keys.by_channel(keys.tag(partition), name),
    ),
    "conversations": ((partitions,), lambda keys, number: keys.conversations(keys.tag(number))),
    "ready": (
        (partitions, agents_of_versions),
        lambda keys, partition, name: keys.ready(keys.tag(partition), name),
    ),
    "suspects": (
        (partitions, agents_of_versions),
        lambda keys, partition, name: keys.suspects(keys.tag(partition), name),
    ),
    # One key for all conversations of a partition, named by any of them.
    "histories": (
        (partitions,),
        lambda keys, number: keys.all_histories()[number],
    ),
    "newer": ((partitions,), lambda keys, number: keys.newer(keys.tag(number))),
    "leases": ((partitions, ids), _at("leases")),
    "holders": ((partitions,), _alone("holders")),
    "cancelling": ((partitions,), _alone("cancelling")),
    "workers": ((), lambda keys: keys.workers),
    "worker": ((ids,), Keys.worker),
    "card": ((ids,), Keys.card),
    "snapshot": ((snapshot_ids,), Keys.snapshot),
    "snapshots": ((partitions,), lambda keys, number: keys.snapshots(keys.tag(number))),
    "snapshots_of": (
        (partitions, ids),
        lambda keys, partition, name: keys.snapshots_of(keys.tag(partition), name),
    ),
    "snapshots_by": (
        (partitions, ids),
        lambda keys, partition, name: keys.snapshots_by(keys.tag(partition), name),
    ),
    "run_channel": ((run_ids,), Keys.run_channel),
    "history_channel": ((histories,), Keys.history_channel),
    "control_channel": ((ids,), Keys.control_channel),
}


def test_all_keys_are_among_them() -> None:
    """Whoever adds a key adds it here."""
    made = {name for name, value in vars(Keys).items() if callable(value) and name[0] != "_"}
    made |= {name for name, value in vars(Keys).items() if isinstance(value, property)}
    assert made - {
        "tag",
        "tags",
        "tag_of_run",
        "tag_of_history",
        "tag_of_snapshot",
        "all_histories",
    } <= set(_KINDS)


@given(first=names(), second=names())
def test_two_things_never_share_a_name(
    first: tuple[tuple[Any, ...], str], second: tuple[tuple[Any, ...], str]
) -> None:
    """Whatever the ids look like."""
    assert (first[0] == second[0]) == (first[1] == second[1])


@given(history=histories, other=histories)
def test_a_name_lies_in_the_slot_of_its_partition(history: str, other: str) -> None:
    """The first braces are ours, so no id can move its keys to another node of a cluster."""
    keys = Keys("p")
    for name in (keys.messages(history), keys.history_channel(history)):
        tag = name[name.index("{") + 1 : name.index("}")]
        assert tag == f"p:{partition_of_history(history):x}"
        assert name.count("{") == name.count("}") == 1
    assume(history != other)
    assert keys.messages(history) != keys.messages(other)


@given(first=ids, second=ids, partition=partitions)
def test_systems_with_different_prefixes_share_no_partition(
    first: str, second: str, partition: int
) -> None:
    """Many of them may live in one Redis."""
    assume(first != second)
    tags = {Keys(first).tag(number) for number in range(16)}
    assert Keys(second).tag(partition) not in tags


@pytest.mark.parametrize(
    "value",
    [
        "~run-3-" + "0123456789abcdef" * 2,
        "x}:run:y",
        "{p:3}",
        "a:run:{b}",
        "*",
        "a*",
        "a?",
        "a\nb",
        "a\x00b",
        "é",
    ],
)
def test_what_could_look_like_another_key_is_no_id(value: str) -> None:
    """Hash tags, patterns, the histories of runs that are alone, and what ends a line."""
    assert not _is_id(value)
