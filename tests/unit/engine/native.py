"""Strategies for whatever Pydantic AI may put into a history."""

from datetime import UTC, datetime
from typing import Any

from hypothesis import strategies as st
from pydantic_ai.messages import (
    AudioUrl,
    BinaryContent,
    CachePoint,
    CapabilityLoadDeltaPart,
    Citation,
    CompactionPart,
    DocumentUrl,
    FilePart,
    ImageUrl,
    InstructionDeltaPart,
    ModelRequest,
    ModelResponse,
    ModelSettingsDeltaPart,
    NativeToolCallPart,
    NativeToolReturnPart,
    RetryFeedbackPart,
    RetryInfo,
    SpeechPart,
    StructuredContent,
    SystemPromptPart,
    TextContent,
    TextPart,
    ThinkingPart,
    ToolAvailabilityDeltaPart,
    ToolCallPart,
    ToolReturnPart,
    UploadedFile,
    UserPromptPart,
    VideoUrl,
    WebCitationSource,
)
from pydantic_ai.usage import RequestUsage

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
names = st.sampled_from(["look_up", "Send.mail", "t"])
ids = st.sampled_from(["call-1", "call-2", "call-1~1", ""])
times = st.integers(0, 2**31).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))
details = st.none() | st.dictionaries(texts, st.none() | st.integers() | texts, max_size=2)
values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
looks_like_a_file = st.sampled_from(
    [
        {"kind": "image-url", "url": "https://example.org/a.png", "media_type": "image/png"},
        {"kind": "uploaded-file", "file_id": "f", "provider_name": "openai"},
        {"kind": "text-content", "content": "no"},
        {"of": 0, "raw": None},
    ]
)
urls = st.sampled_from(
    ["https://example.org/a", "https://example.org/a.png", "https://example.org/b.pdf"]
)
known_as = st.none() | st.just("my-file")
url_files = st.one_of(
    *(
        st.builds(
            kind,
            url=urls,
            media_type=st.none() | st.sampled_from(["image/png", "video/mp4", "text/plain"]),
            identifier=known_as,
            force_download=st.booleans(),
            vendor_metadata=details,
        )
        for kind in (ImageUrl, AudioUrl, VideoUrl, DocumentUrl)
    )
)
binaries = st.builds(
    BinaryContent,
    data=st.binary(max_size=9),
    media_type=st.sampled_from(["image/png", "audio/wav", "application/pdf", "x/y"]),
    identifier=known_as,
    vendor_metadata=details,
)
uploads = st.builds(
    UploadedFile,
    file_id=st.sampled_from(["file-1", "s3://bucket/a.png"]),
    provider_name=st.just("openai"),
    media_type=st.none() | st.just("image/png"),
    identifier=known_as,
)
files = url_files | binaries | uploads
prompt_items = st.one_of(
    texts,
    files,
    st.builds(CachePoint, ttl=st.sampled_from(["5m", "1h"])),
    st.builds(TextContent, content=texts, metadata=values),
    st.builds(StructuredContent, value=values, tag=st.none() | st.just("state")),
)
contents = texts | st.lists(prompt_items, max_size=4)
results = st.one_of(
    texts,
    values,
    files,
    looks_like_a_file,
    st.lists(texts | files | values | looks_like_a_file, max_size=3),
    st.dictionaries(texts, files | values | looks_like_a_file, max_size=2),
)
errors = st.lists(
    st.fixed_dictionaries(
        {"type": st.just("missing"), "loc": st.tuples(texts), "msg": texts, "input": values}
    ),
    min_size=1,
    max_size=2,
)
retries = st.builds(
    RetryInfo,
    cause=st.sampled_from(["validation_error", "model_retry"]),
    attempt=st.none() | st.integers(1, 3),
)

tool_returns: st.SearchStrategy[ToolReturnPart[Any]] = st.builds(
    ToolReturnPart,
    tool_name=names,
    content=results | errors,
    tool_call_id=ids,
    metadata=values,
    timestamp=times,
    outcome=st.sampled_from(["success", "failed", "denied", "interrupted", "retried"]),
    retry=st.none() | retries,
)
request_parts = st.one_of(
    tool_returns,
    st.builds(UserPromptPart, content=contents, timestamp=times),
    st.builds(
        SystemPromptPart,
        content=texts,
        timestamp=times,
        dynamic_ref=st.none() | names,
        scope=st.sampled_from(["conversation", "request"]),
        metadata=details,
    ),
    st.builds(RetryFeedbackPart, content=texts | errors, retry=retries, timestamp=times),
    st.builds(CompactionPart, content=st.none() | texts, metadata=details),
    st.builds(SpeechPart, speaker=st.just("user"), transcript=st.none() | texts, audio=binaries),
    st.builds(ToolAvailabilityDeltaPart, tools_added=st.lists(names, max_size=2)),
    st.builds(CapabilityLoadDeltaPart, loaded=st.lists(names, max_size=2)),
    st.builds(
        ModelSettingsDeltaPart, settings=st.just({"thinking": "high"}), top_level=st.booleans()
    ),
    st.builds(InstructionDeltaPart, id=st.none(), content=st.none() | texts),
)
response_parts = st.one_of(
    st.builds(
        TextPart,
        content=texts,
        id=st.none() | texts,
        provider_details=details,
        citations=st.none()
        | st.just([Citation(sources=[WebCitationSource(url="https://example.org")])]),
    ),
    st.builds(ThinkingPart, content=texts, signature=st.none() | texts, provider_details=details),
    st.builds(
        ToolCallPart,
        tool_name=names,
        args=st.none()
        | st.sampled_from(["", "{}", '{"a": 1}', '{"a":1}', "[1]", '{"cut'])
        | st.dictionaries(texts, values, max_size=2),
        tool_call_id=ids,
        id=st.none() | texts,
        provider_details=details,
    ),
    st.builds(NativeToolCallPart, tool_name=names, args=texts, tool_call_id=ids),
    st.builds(
        NativeToolReturnPart, tool_name=names, content=results, tool_call_id=ids, timestamp=times
    ),
    st.builds(FilePart, content=binaries, id=st.none() | texts, provider_details=details),
    st.builds(CompactionPart, content=st.none() | texts, provider_details=details),
    st.builds(SpeechPart, speaker=st.just("assistant"), transcript=texts),
)
usages = st.builds(
    RequestUsage,
    input_tokens=st.integers(0, 9),
    output_tokens=st.integers(0, 9),
    cache_read_tokens=st.integers(0, 9),
    output_reasoning_tokens=st.integers(0, 9),
    details=st.dictionaries(names, st.integers(0, 9), max_size=1),
)
model_requests = st.builds(
    ModelRequest,
    parts=st.lists(request_parts, max_size=4),
    timestamp=st.none() | times,
    instructions=st.none() | texts,
    run_id=st.none() | st.just("a run"),
    metadata=details,
    state=st.sampled_from(["complete", "interrupted"]),
)
model_responses = st.builds(
    ModelResponse,
    parts=st.lists(response_parts, max_size=4),
    usage=usages,
    model_name=st.none() | st.just("a-model"),
    timestamp=times,
    provider_details=details,
    provider_response_id=st.none() | texts,
    finish_reason=st.none() | st.just("stop"),
    metadata=details,
    state=st.sampled_from(["complete", "interrupted"]),
)
histories = st.lists(model_requests | model_responses, max_size=5)
