"""Engine data: what a stored message keeps so that Pydantic AI gets back exactly what it had.

What the portable form cannot hold goes into `Draft.engine`, as the difference to what the portable
form says anyway. Its layout is compatibility data; keys may be added, never renamed:

    part       of a request's part: fields that differ from the obvious ones
    items      of a prompt or result with several items: see `content.store_items`
    single     the result is the one file, not a list with it
    digests    of a result: which files in it Pydantic AI may rebuild (its `content_file_digests`)
    index      of a result: the index of its call, where the message has several
    tools      of a result: names of tools that it revealed
    said       of a result: parts that the tool put into the run, for the next model call
    output     of a result: what an output function returned
    follow_up  of a result: how the trailing parts of the content become a prompt of their own
    response   of an answer: fields that differ from the obvious ones
    parts      of an answer: its parts in order, where content and tool calls do not tell it
    ids        of an answer: its call ids, where `unique_ids` does not give them
    usage      of an answer: counters that `Draft.usage` does not have
    request    fields of the request that begins here, or, of an answer, of the one it answers
"""

from collections.abc import Mapping
from typing import Any, Final

from pydantic_ai.messages import ModelMessage, ModelMessagesTypeAdapter

from agent_worker.engine.pydantic_ai.content import Json
from shared.message import Draft, EngineData

ENGINE: Final = "pydantic-ai"
VERSION: Final = 1


def engine_data(draft: Draft) -> Json:
    """What this engine noted about a message; empty where another engine or nobody wrote it."""
    noted = draft.engine
    if noted is None or noted.name != ENGINE or noted.version > VERSION:
        return {}
    return noted.data if isinstance(noted.data, dict) else {}


def with_data(draft: Draft, data: Mapping[str, Any]) -> Draft:
    """The draft with what is worth noting in `data`."""
    noted = {key: value for key, value in data.items() if _is_worth_noting(key, value)}
    if not noted:
        return draft
    # All of it is JSON already; validating it again would only copy it.
    engine = EngineData.model_construct(name=ENGINE, version=VERSION, data=noted)
    return draft.model_copy(update={"engine": engine})


def _is_worth_noting(key: str, value: Any) -> bool:
    if key == "output":
        return True
    if key in {"parts", "request"}:
        return value is not None  # that there are none says something
    return value is not None and value is not False and value not in ([], {})


def dump(message: ModelMessage) -> Json:
    """The JSON form of a request or response."""
    dumped: Json = ModelMessagesTypeAdapter.dump_python([message], mode="json")[0]
    return dumped
