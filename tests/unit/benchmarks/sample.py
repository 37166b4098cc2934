"""Evidence of one run that went well, to be spoilt by tests."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from benchmarks.chaos.evidence import Evidence, Sighting, Told
from benchmarks.chaos.expectation import expect_script
from benchmarks.chaos.journal import Execution
from benchmarks.chaos.plan import SPEC, Spec
from benchmarks.chaos.script import Call, Round, Script, call_id, mark_attempt, result_of
from shared.identifier import new_run_id, partition_of
from shared.message import (
    Draft,
    Message,
    MessageKind,
    Role,
    ToolCall,
    ToolOutcome,
    tool_result_draft,
    user_draft,
)
from shared.run import BusyPolicy, Run, RunStatus

BEGAN = 1_700_000_000.0
CONVERSATION = "talk"
CALLS = (
    Call(tool="work", name="0-0", seconds=1.0),
    Call(tool="work", name="0-1", seconds=1.0),
)
SCRIPT = Script(id="first", rounds=(Round(think_s=0.0, calls=CALLS),))
"""Seven things happen, one a second: input, model, calls, two tools, model, answer."""


def spec(name: str = "first", *, on_busy: BusyPolicy = BusyPolicy.ENQUEUE) -> Spec:
    """A run of the script in the conversation."""
    script = SCRIPT.model_copy(update={"id": name})
    return Spec(
        id=name,
        agent="scripted",
        input=script.model_dump_json(),
        expected=expect_script(script),
        conversation_id=CONVERSATION,
        on_busy=on_busy,
    )


@dataclass
class Story:
    """A run, its messages, what was executed for it, and who was told what."""

    spec: Spec = field(default_factory=spec)
    began: float = BEGAN
    run: Run = field(init=False)
    messages: list[Message] = field(init=False)
    executions: list[Execution] = field(init=False)
    told: list[Told] = field(init=False)
    sightings: list[Sighting] = field(init=False)

    def __post_init__(self) -> None:
        run_id = new_run_id(partition_of(CONVERSATION))
        self.run = Run(
            id=run_id,
            agent="scripted",
            input=self.spec.input,
            conversation_id=CONVERSATION,
            metadata={SPEC: self.spec.id},
            on_busy=self.spec.on_busy,
            status=RunStatus.COMPLETED,
            created_at=_time(self.began),
            started_at=_time(self.began + 0.1),
            finished_at=_time(self.began + 6),
            attempts=1,
            rounds=2,
        )
        self.messages = list(self._messages())
        self.executions = [
            self.execution("model", 0, started=1),
            self.execution("tool", 0, started=2),
            self.execution("tool", 1, started=2),
            self.execution("model", 1, started=4),
        ]
        self.told = [Told(self.spec.id, self.began - 0.1, 0.1, run_id=run_id)]
        ids = tuple(message.id for message in self.messages)
        self.sightings = [
            Sighting(run_id, "here", "messages", ids),
            Sighting(run_id, "elsewhere", "events", ids, final=RunStatus.COMPLETED),
        ]

    def change(self, **fields: Any) -> None:
        """Change the run's record."""
        self.run = self.run.model_copy(update=fields)

    def execution(self, what: Any, index: int, *, started: float, attempt: int = 1) -> Execution:
        """One that takes nearly a second; of the tools, call `index` of the first round."""
        key = f"{self.run.id}.1.{index}" if what == "tool" else f"{self.run.id}.{index}"
        at = self.began + started - 0.9
        return Execution(what, self.run.id, key, attempt, 1, at, at + 0.8)

    def message(self, draft: Draft, position: int, second: float) -> Message:
        """A message of the run, stored so many seconds after its beginning."""
        message = Message.from_draft(draft, run_id=self.run.id, position=position)
        return message.at(f"{int((self.began + second) * 1000)}-0")

    def closing(self, position: int, index: int) -> Message:
        """What stands in the place of a result when the run was cancelled."""
        call = _calls()[index]
        draft = tool_result_draft(call, "cancelled", outcome=ToolOutcome.CANCELLED)
        return self.message(draft, position, 3)

    def result(self, position: int, index: int, *, attempt: int = 1) -> Message:
        """The result of a call of the first round."""
        text = mark_attempt(result_of(CALLS[index].name), attempt)
        return self.message(tool_result_draft(_calls()[index], text), position, 3)

    def _messages(self) -> Sequence[Message]:
        said = f"{self.spec.id} round 0", f"{self.spec.id} done"
        asked = Draft(
            role=Role.ASSISTANT,
            kind=MessageKind.TOOL_CALL,
            content=mark_attempt(said[0], 1),
            tool_calls=_calls(),
        )
        answered = Draft(role=Role.ASSISTANT, content=mark_attempt(said[1], 1))
        return [
            self.message(user_draft(self.spec.input), 0, 0.1),
            self.message(asked, 1, 1),
            self.result(2, 0),
            self.result(3, 1),
            self.message(answered, 4, 5),
        ]


def evidence(*stories: Story, **fields: Any) -> Evidence:
    """What the stories leave behind, one after the other in one conversation."""
    whole = Evidence(
        specs={story.spec.id: story.spec for story in stories},
        told=[told for story in stories for told in story.told],
        outcomes={story.run.id: story.run.status for story in stories},
        runs=[story.run for story in stories],
        histories={CONVERSATION: [each for story in stories for each in story.messages]},
        executions=[each for story in stories for each in story.executions],
        sightings=[each for story in stories for each in story.sightings],
    )
    return replace(whole, **fields)


def _calls() -> tuple[ToolCall, ...]:
    return tuple(
        ToolCall(id=call_id(0, index), name=call.tool, arguments=call.arguments)
        for index, call in enumerate(CALLS)
    )


def _time(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)
