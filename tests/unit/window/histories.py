"""Histories at random: in order and out of it, as crashes, imports and damage leave them."""

from hypothesis import strategies as st

from shared.message import (
    Covered,
    DataPart,
    Draft,
    MediaPart,
    MessageKind,
    Role,
    ToolCall,
    ToolOutcome,
    summary_draft,
    user_draft,
)

ids = st.sampled_from(["", "a", "b"])
names = st.sampled_from(["look", "book"])
texts = st.text(max_size=40) | st.sampled_from(["x" * 200, "long result " * 200])
contents = texts | st.tuples(st.builds(DataPart, value=st.lists(texts, max_size=3)))
calls = st.lists(st.builds(ToolCall, id=ids, name=names, arguments=st.just("{}")), max_size=3)
assistants = st.builds(
    lambda made, said: Draft(
        role=Role.ASSISTANT,
        kind=MessageKind.TOOL_CALL if made else MessageKind.MESSAGE,
        content=None if made else said,
        tool_calls=tuple(made),
    ),
    calls,
    texts,
)
results = st.builds(
    Draft,
    role=st.just(Role.TOOL),
    kind=st.just(MessageKind.TOOL_RESULT),
    content=contents | st.just((MediaPart(media_type="image/png", url="http://a.example/b"),)),
    tool_name=names,
    tool_call_id=st.none() | ids,
    outcome=st.just(ToolOutcome.SUCCESS),
)
notes = st.just(Draft(role=Role.SYSTEM, kind=MessageKind.ERROR, content="it broke"))
summaries = st.builds(
    lambda first, last, count: summary_draft(
        "what was said", Covered(first=f"past-1.{first}", last=f"past-1.{last}", count=count)
    ),
    st.integers(0, 20),
    st.integers(0, 20),
    st.integers(1, 9),
)
others = st.builds(user_draft, texts) | st.builds(Draft, role=st.just(Role.SYSTEM), content=texts)
histories = st.lists(st.one_of(assistants, results, others, notes, summaries), max_size=60)
"""Call ids repeat and are empty, results stand without calls and calls without results, notes stand
between them, and summaries stand for stretches that may be anywhere, or nowhere."""
