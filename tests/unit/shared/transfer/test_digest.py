"""The digest: the same for the same messages, another one for anything else."""

import hashlib
from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from shared.codec import decode_message, encode
from shared.message import EngineData, Message, Role
from shared.transfer.digest import ConversationDigest, StoreDigest, canonical, digest_of

NOON = datetime(2026, 5, 4, 12, 0, 0, 5, tzinfo=UTC)
PLAIN = Message(id="a", role=Role.USER, content="hé", created_at=NOON)
FORM = (
    b'{"content":"h\\u00e9","created_at":"2026-05-04T12:00:00.000005+00:00","id":"a",'
    b'"kind":"message","position":0,"role":"user","version":1}'
)


def test_the_canonical_form_is_fixed() -> None:
    """It is compared over years and releases, so it may not change."""
    assert canonical(PLAIN) == FORM
    digest = hashlib.sha256(b"agents-conversation-1\n" + len(FORM).to_bytes(8, "big") + FORM)
    assert digest_of([PLAIN]) == digest.hexdigest()


def test_cursors_and_zones_do_not_count() -> None:
    """The same moment in another zone is the same moment, and each store has its own cursors."""
    elsewhere = NOON.astimezone(timezone(timedelta(hours=9)))
    assert canonical(PLAIN.model_copy(update={"created_at": elsewhere}).at("7-1")) == FORM


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=9,
)
written = st.builds(
    Message,
    id=st.text(min_size=1, max_size=9),
    role=st.sampled_from(Role),
    content=st.none() | st.text(max_size=20),
    run_id=st.none() | st.text(min_size=1, max_size=9),
    position=st.integers(0, 99),
    metadata=st.dictionaries(st.text(max_size=5), json_values, max_size=3),
    engine=st.none()
    | st.builds(EngineData, name=st.just("x"), version=st.just(1), data=json_values),
    created_at=st.datetimes(timezones=st.just(UTC)),
)


@given(written)
def test_a_message_that_was_stored_and_read_has_the_form_of_before(message: Message) -> None:
    """Whatever it holds."""
    assert canonical(decode_message(encode(message), cursor="1")) == canonical(message)


@given(st.lists(written, max_size=4), st.lists(written, max_size=4))
def test_other_messages_and_another_order_have_another_digest(
    first: list[Message], second: list[Message]
) -> None:
    """The lengths keep two messages apart from one that looks like both."""
    are_equal = [*map(canonical, first)] == [*map(canonical, second)]
    assert (digest_of(first) == digest_of(second)) == are_equal


def test_messages_added_one_by_one_give_the_same() -> None:
    """As a reader of pages does it."""
    digest = ConversationDigest()
    digest.add(FORM)
    digest.add(FORM)
    assert (digest.hex(), digest.messages, digest.size) == (
        digest_of([PLAIN, PLAIN]),
        2,
        2 * len(FORM),
    )


def test_the_order_of_conversations_does_not_count_and_their_names_do() -> None:
    """Several are moved at a time."""
    sums = []
    for pairs in ([("a", "1"), ("b", "2")], [("b", "2"), ("a", "1")], [("a", "2"), ("b", "1")]):
        total = StoreDigest()
        for name, digest in pairs:
            total.add(name, digest)
        sums.append(total.hex())
    assert sums[0] == sums[1] != sums[2]
