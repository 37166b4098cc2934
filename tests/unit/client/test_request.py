"""What `submit` refuses, and that each refusal says what to change."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_client.request import build_options, build_run
from shared.codec import decode, encode
from shared.conversation.config import ConversationConfig
from shared.errors import InvalidIdError, PayloadTooLargeError, RequestError
from shared.identifier import partition_of, partition_of_run
from shared.message import DataPart, MediaPart, TextPart
from shared.nesting import MAX_DEPTH
from shared.run import NewRun, RunOptions
from shared.settings import Settings

SMALL = Settings(max_input_bytes=100, max_metadata_bytes=100)


def request(content: Any = "hello", **fields: Any) -> NewRun:
    given_: dict[str, Any] = {
        "settings": Settings(),
        "agent": "clerk",
        "conversation_id": None,
        "idempotency_key": None,
        "metadata": None,
        "options": RunOptions(),
    } | fields
    return build_run(content=content, **given_)


def nested(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels - 1):
        value = [value]
    return value


def options(config: ConversationConfig | None = None, **said: Any) -> RunOptions:
    nothing = dict.fromkeys(("history_size", "max_rounds", "time_limit_s", "save_on_iteration"))
    return build_options(config, **(nothing | said))


@pytest.mark.parametrize("field", ["agent", "conversation_id", "idempotency_key"])
@pytest.mark.parametrize("value", ["", "../up", "a b", "x" * 201, "{tag}", 7])
def test_a_bad_id_is_refused_and_named(field: str, value: object) -> None:
    """An id that could escape its place is an error that names which id it is."""
    with pytest.raises(InvalidIdError, match=field.replace("_", " ").removesuffix(" id")):
        request(**{field: value})


def test_a_run_lives_where_its_conversation_lives() -> None:
    """The id of a run in a conversation carries the conversation's partition."""
    run = request(conversation_id="web:ada", idempotency_key="elsewhere")
    assert partition_of_run(run.id) == partition_of("web:ada")


def test_a_run_alone_lives_where_its_idempotency_key_is_looked_up() -> None:
    """Two submits with one key meet in one partition, or they could not be told to be one run."""
    partitions = {partition_of_run(request(idempotency_key="order-17").id) for _ in range(20)}
    assert partitions == {partition_of("order-17")}


def test_runs_alone_are_spread_over_the_partitions() -> None:
    """Without a home, runs do not all end up in one partition."""
    assert len({partition_of_run(request().id) for _ in range(200)}) > 4


def test_an_input_over_the_limit_names_setting_and_size() -> None:
    """The refusal says how large the input is, how large it may be, and which setting to raise."""
    assert request("x" * 98, settings=SMALL).input == "x" * 98
    with pytest.raises(PayloadTooLargeError, match=r"101 bytes.*AGENTS_MAX_INPUT_BYTES.*100"):
        request("x" * 99, settings=SMALL)


def test_sizes_are_counted_in_bytes() -> None:
    """Characters outside of ASCII count with the bytes that the store keeps for them."""
    with pytest.raises(PayloadTooLargeError, match="122 bytes"):
        request("\N{SNOWMAN}" * 40, settings=SMALL)


def test_media_counts_as_input() -> None:
    """Inline media is part of the input's size."""
    with pytest.raises(PayloadTooLargeError, match="max_input_bytes"):
        request([MediaPart(media_type="image/png", data="A" * 200)], settings=SMALL)


def test_metadata_over_the_limit_names_setting_and_size() -> None:
    """Metadata has a limit of its own."""
    with pytest.raises(PayloadTooLargeError, match=r"AGENTS_MAX_METADATA_BYTES.*100"):
        request(metadata={"note": "x" * 100}, settings=SMALL)


@pytest.mark.parametrize(
    "content", [None, 7, b"bytes", {"type": "text"}, [], (), TextPart(text="x")]
)
def test_an_input_is_text_or_a_list_of_parts(content: object) -> None:
    """Anything else is refused with the two forms that are possible."""
    with pytest.raises(RequestError, match="string, or a list of one or more content parts"):
        request(content)


def test_a_part_of_unknown_kind_is_refused() -> None:
    """A list of something else than content parts says where the error is."""
    with pytest.raises(RequestError, match="input"):
        request([{"type": "telepathy"}])


def test_content_parts_are_kept_in_order() -> None:
    """A list of parts becomes the tuple that messages hold."""
    parts = [TextPart(text="What is this?"), MediaPart(media_type="image/png", url="https://x/y")]
    assert request(parts).input == tuple(parts)


@pytest.mark.parametrize(
    "metadata",
    [
        {1: "key"},
        {"inner": {None: "key"}},
        {"number": 10**5000},
        ["a list"],
        "text",
    ],
)
def test_metadata_that_is_not_json_is_refused(metadata: Any) -> None:
    """What JSON has no form for is refused, not quietly turned into something else."""
    with pytest.raises(RequestError, match="metadata"):
        request(metadata=metadata)


@pytest.mark.parametrize("value", [{1, 2}, b"bytes", (1, 2), float("nan"), float("inf")])
def test_a_value_that_json_has_no_form_for_is_named(value: Any) -> None:
    """The error says what was found and what to use instead."""
    with pytest.raises(RequestError, match=r"metadata holds .*, which is not JSON\. Use"):
        request(metadata={"inner": [value]})


def test_nesting_is_bounded_where_readers_still_follow() -> None:
    """What is accepted can be read back; one level more is refused."""
    deepest = request(metadata={"in": nested(MAX_DEPTH - 1)})
    assert decode(NewRun, encode(deepest), where="here") == deepest
    with pytest.raises(RequestError, match="nested deeper than"):
        request(metadata={"in": nested(MAX_DEPTH)})
    with pytest.raises(RequestError, match="nested deeper than"):
        request([DataPart(value=nested(MAX_DEPTH))])


def test_metadata_that_holds_itself_is_refused() -> None:
    """A circle ends at the bound of the nesting, not in endless work."""
    circle: dict[str, Any] = {}
    circle["again"] = [circle, circle]
    with pytest.raises(RequestError, match="nested deeper than"):
        request(metadata=circle)


@pytest.mark.parametrize("bad", ["\ud800", "text \udfff", "nul \0"])
def test_text_that_is_no_text_is_refused_wherever_it_hides(bad: str) -> None:
    """Half a surrogate pair and NUL are refused in input, parts, metadata values and keys."""
    parts = [TextPart(text=bad)], [DataPart(value={"deep": [bad]})]
    for content in (bad, *parts):
        with pytest.raises(RequestError, match=r"input.*(surrogate pair|NUL character)"):
            request(content)
    for metadata in ({"note": bad}, {bad: 1}):
        with pytest.raises(RequestError, match=r"metadata.*(surrogate pair|NUL character)"):
            request(metadata=metadata)


@pytest.mark.parametrize(
    ("field", "value"), [("priority", 10), ("priority", -1), ("on_busy", "push")]
)
def test_a_value_out_of_range_names_its_field(field: str, value: object) -> None:
    """The error of a field begins with the field."""
    with pytest.raises(RequestError, match=f"^{field}: "):
        request(**{field: value})


@pytest.mark.parametrize(
    ("name", "value"), [("max_rounds", 0), ("time_limit_s", 0), ("history_size", 0)]
)
def test_a_bound_out_of_range_names_itself(name: str, value: int) -> None:
    """The error of a bound begins with its name."""
    bound: dict[str, Any] = {name: value}
    with pytest.raises(RequestError, match=f"^{name}: "):
        options(**bound)


def test_only_what_somebody_said_goes_into_the_options() -> None:
    """Without a word about it, the size is left to the agent; a config that names one counts."""
    assert options(ConversationConfig()) == RunOptions()
    assert options(ConversationConfig(size=7)).history_size == 7
    assert options(ConversationConfig(size=7), history_size=3).history_size == 3


def test_the_config_decides_how_to_save_unless_the_call_does() -> None:
    """save_on_iteration of the call comes before that of the config."""
    at_end = ConversationConfig(save_on_iteration=False)
    assert options().save_on_iteration
    assert not options(at_end).save_on_iteration
    assert options(at_end, save_on_iteration=True).save_on_iteration


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=20,
    )
)
def test_what_is_accepted_is_read_back_unchanged(value: Any) -> None:
    """Any metadata is either refused or comes out of its stored form as it went in."""
    try:
        run = request(metadata={"value": value})
    except RequestError:
        return
    assert decode(NewRun, encode(run), where="here") == run
