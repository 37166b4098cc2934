"""Session ids: what is built can be read again, and nobody gets into somebody else's session."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from shared.directory.session import ConversationId, Mode, SessionId, is_managed_id
from shared.errors import InvalidIdError
from shared.identifier import check_id

components = st.from_regex(
    r"[A-Za-z0-9](?:[A-Za-z0-9._@+=-]{0,20}[A-Za-z0-9])?", fullmatch=True
).filter(lambda text: ".." not in text)
sessions = (
    st.builds(SessionId.of_user, components, components, components)
    | st.builds(SessionId.of_all, components, components)
    | st.builds(SessionId.of_trigger, components, components, components)
)
conversations = st.builds(ConversationId, sessions, st.integers(1, 999_999_999))


@given(conversation=conversations)
def test_what_is_built_is_read_again(conversation: ConversationId) -> None:
    """All parts come back, and the id is one that every store takes."""
    assert ConversationId.parse(str(conversation)) == conversation
    assert SessionId.parse(str(conversation.session)) == conversation.session
    assert check_id(str(conversation), "conversation id")
    assert is_managed_id(str(conversation))


@given(first=conversations, second=conversations)
def test_two_conversations_never_have_one_id(first: ConversationId, second: ConversationId) -> None:
    """Whatever users, triggers and agents are called."""
    assert (first == second) == (str(first) == str(second))


@given(text=st.text(max_size=30) | st.from_regex(r"[a-z@.:0-9]{1,30}", fullmatch=True))
def test_what_can_be_read_is_written_in_one_way(text: str) -> None:
    """There is no second spelling of an id, by which somebody could pass for another one."""
    try:
        conversation = ConversationId.parse(text)
    except InvalidIdError:
        return
    assert str(conversation) == text


@given(channel=components, agent=components, user=components)
def test_no_user_is_everybody_or_a_trigger(channel: str, agent: str, user: str) -> None:
    """The marks of shared and triggered sessions are no names."""
    mine = SessionId.of_user(channel, user, agent)
    assert mine.mode is Mode.PER_USER
    assert str(mine) != str(SessionId.of_all(channel, agent))
    assert str(mine) != str(SessionId.of_trigger(channel, user, agent))
    assume(user != "shared")
    for name in ("@shared", f"@trigger.{user}"):
        with pytest.raises(InvalidIdError):
            SessionId.of_user(channel, name, agent)


@pytest.mark.parametrize(
    "text",
    [
        "", ":", "::", "web", "web:ada", "web:ada:", ":ada:support", "web::support",
        "web:ada:support:", "web:ada:support:1", "web:ada:support:0", "web:ada:support:02",
        "web:ada:support:-2", "web:ada:support:2:3", "web:ada:support:two", "web:ada:support:٢",
        "web:ada:support:1000000000", "web:@all:support", "web:@shared.x:support",
        "web:@trigger:support", "web:@trigger.:support", "web:@trigger.@shared:support",
        "web:@shared:support:1", "web:ada:sup port", "web:a/../b:support", "web:..:support",
        "web:ada:support\n", "~run:ada:support", "wéb:ada:support", None, 7,
    ],
)  # fmt: skip
def test_what_is_no_id_is_refused(text: object) -> None:
    """With an error that says what to change."""
    with pytest.raises(InvalidIdError):
        ConversationId.parse(text)
    assert not is_managed_id(text)


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        (("web:x", "ada", "support"), "channel"),
        (("web", "ada:2", "support"), "user"),
        (("web", "ada", ""), "agent name"),
        (("web", "a" * 150, "s" * 50), "shorten channel"),
    ],
)
def test_an_error_names_the_part(parts: tuple[str, str, str], said: str) -> None:
    """A separator in a name would make two sessions of one."""
    with pytest.raises(InvalidIdError, match=said):
        SessionId.of_user(*parts)


def test_the_longest_session_has_room_for_generations() -> None:
    """Its last conversation still has an id that stores take."""
    session = SessionId.of_user("w" * 60, "u" * 60, "a" * 68)
    assert len(str(session)) == 190
    assert check_id(str(ConversationId(session, 999_999_999)), "conversation id")
    with pytest.raises(InvalidIdError):
        ConversationId(session, 1_000_000_000)
    with pytest.raises(InvalidIdError):
        SessionId("web", "support", Mode.SHARED, "ada")
