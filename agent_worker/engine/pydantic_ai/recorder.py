"""The recorder: makes messages of what arises in an agent's run, and gives each away once."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from decimal import Decimal
from typing import Any, Final

import pydantic_core
from pydantic_ai.messages import (
    ModelRequestPart,
    ModelResponse,
    SystemPromptPart,
    ToolReturnPart,
    UserContent,
    UserPromptPart,
)
from pydantic_ai.usage import RunUsage

from agent_worker.engine.pydantic_ai.answers import response_draft
from agent_worker.engine.pydantic_ai.content import Json
from agent_worker.engine.pydantic_ai.parts import dump_part, is_said, part_draft, result_draft
from agent_worker.engine.pydantic_ai.pricing import answer_price, nested_price
from agent_worker.engine.pydantic_ai.relay import Relay
from agent_worker.engine.pydantic_ai.round import Round
from shared.message import Draft, Usage

_OUR_OWN: Final = frozenset({"run_id", "conversation_id"})
"""Fields of an answer that every message of a run has anyway."""
_COUNTERS: Final = tuple(Usage.model_fields)
_NOTHING: Final = Usage()


class Recorder:
    """Gives messages away in order, and waits for each until it is stored.

    What a run took is divided among its messages: each has the tokens that were added since the one
    before it, so the sum over the messages is the whole, sub-agents that share the usage included.
    """

    def __init__(self, relay: Relay, *, position: int, usage: RunUsage) -> None:
        self._relay = relay
        self._position = position
        self._usage = usage
        self._accounted = usage_of(usage)
        self._priced = _cost_of(usage)
        self._known: list[ModelRequestPart] = []
        self._own_prompts: frozenset[str] = frozenset()
        self._follow_ups: list[str | Sequence[UserContent]] = []
        self._request: Json | None = None

    def know(self, parts: Iterable[ModelRequestPart]) -> None:
        """Take parts for stored ones."""
        self._known.extend(parts)

    def omit(self, prompts: Iterable[SystemPromptPart]) -> None:
        """Take prompts for the agent's own: they are part of no history."""
        self._own_prompts = frozenset(prompt.content for prompt in prompts)

    async def give_answer(self, response: ModelResponse, renamed: Mapping[str, str]) -> Round:
        """Give an answer away. `renamed` holds ids as the model wrote them, if they changed."""
        native_ids = [call.tool_call_id for call in response.tool_calls]
        stored_ids = [renamed.get(own, own) for own in native_ids]
        took, spent = self._account(), self._account_cost()
        draft = response_draft(
            response,
            call_ids=stored_ids,
            usage=took,
            without=_OUR_OWN,
            request=self._request,
        ).model_copy(update={"price": answer_price(response, took, spent)})
        current = Round(self._position, native_ids, stored_ids)
        self._known.clear()
        self._follow_ups.clear()
        self._request = None
        await self._give(draft)
        return current

    async def give_result(
        self,
        part: ToolReturnPart,
        current: Round,
        follow_up: str | Sequence[UserContent] | None = None,
    ) -> None:
        """Give a tool's result away, unless it is stored."""
        self._known.append(part)
        if follow_up:
            self._follow_ups.append(follow_up)
        index = current.index_of(part.tool_call_id)
        if index is None or index in current.stored:
            return
        current.stored.add(index)
        noted: Json = {"tools": current.reveals.get(index)}
        if said := current.said.get(index):
            noted["said"] = [dump_part(one) for one in said]
        if len(current.native_ids) > 1:
            noted["index"] = index
        if index in current.outputs:
            with suppress(ValueError):  # what is no JSON cannot be the run's output either
                noted["output"] = jsonable(current.outputs[index])
        draft = result_draft(part, call_id=current.stored_ids[index], follow_up=follow_up, **noted)
        took = self._account(tool_calls=index in current.executed)
        if took != _NOTHING:
            price = nested_price(took, self._account_cost())
            draft = draft.model_copy(update={"usage": took, "price": price})
        await self._give(draft)

    async def give_parts(self, parts: Iterable[ModelRequestPart], current: Round) -> None:
        """Give away those parts of a request that are new and meant to be read."""
        for part in list(parts):
            if any(part is known for known in self._known):
                continue
            if isinstance(part, ToolReturnPart):
                await self.give_result(part, current)
                continue
            self._known.append(part)
            is_said_elsewhere = self._is_own_prompt(part) or self._is_follow_up(part)
            if _is_message(part) and not is_said_elsewhere:
                await self._give(part_draft(part))

    def note_request(
        self, parts: Iterable[ModelRequestPart], metadata: Mapping[str, Any] | None
    ) -> None:
        """Remember for the answer what no message tells about the request that it answers."""
        hidden: list[list[Any]] = []
        place = 0
        for part in parts:
            if self._is_own_prompt(part):
                continue
            if _is_message(part):
                place += 1
            else:
                hidden.append([place, dump_part(part)])
        noted: Json = {}
        if hidden:
            noted["parts"] = hidden
        if metadata:
            noted["metadata"] = jsonable(metadata)
        self._request = noted or None

    async def _give(self, draft: Draft) -> None:
        self._position += 1
        await self._relay.give(draft)

    def _is_own_prompt(self, part: ModelRequestPart) -> bool:
        """Also as a copy, since a capability of the agent may put it in its place again."""
        return isinstance(part, SystemPromptPart) and (
            part.dynamic_ref is not None or part.content in self._own_prompts
        )

    def _is_follow_up(self, part: ModelRequestPart) -> bool:
        return isinstance(part, UserPromptPart) and any(
            part.content is content for content in self._follow_ups
        )

    def _account(self, *, tool_calls: int | None = None) -> Usage:
        """What was taken since the last message.

        Of tool calls that run beside each other, each is accounted for with its own result,
        whichever are through by then. A call whose result is lost is made again and counted again.
        """
        spent = usage_of(self._usage)
        took = {name: getattr(spent, name) - getattr(self._accounted, name) for name in _COUNTERS}
        if tool_calls is not None:
            took["tool_calls"] = int(tool_calls)
        self._accounted += Usage(**took)
        return Usage(**took)

    def _account_cost(self) -> Decimal | None:
        """What of that Pydantic AI knows the price of; None where that is nothing."""
        priced = _cost_of(self._usage)
        spent, self._priced = priced - self._priced, priced
        return spent or None


def _cost_of(usage: RunUsage) -> Decimal:
    return getattr(usage, "cost", None) or Decimal(0)


def usage_of(usage: RunUsage) -> Usage:
    """What a run took, in our words."""
    return Usage(**{name: getattr(usage, name) for name in _COUNTERS})


def jsonable(value: Any) -> Any:
    """A value as JSON.

    Raises:
        ValueError: It cannot be written as JSON.
    """
    return pydantic_core.to_jsonable_python(value, by_alias=False, bytes_mode="base64")


def _is_message(part: ModelRequestPart) -> bool:
    """Whether a part becomes a message; the others ride on the answer to their request."""
    if isinstance(part, SystemPromptPart) and part.scope == "request":
        return False  # a reminder for one call, which the next one does not see any more
    return is_said(part)
