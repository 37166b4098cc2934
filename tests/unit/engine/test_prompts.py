"""What the model knows when a run starts: the agent's own prompts, the history, the input."""

from collections.abc import Sequence
from typing import Any

import pytest
from pydantic_ai import Agent, RunContext
from pydantic_ai.capabilities import ReinjectSystemPrompt
from pydantic_ai.messages import BinaryContent, TextPart

from agent_worker.context import RunInfo
from agent_worker.engine.pydantic_ai.engine import PydanticAIEngine
from shared.message import (
    Draft,
    MediaPart,
    Message,
    MessageKind,
    Role,
    ToolCall,
    user_draft,
)
from shared.message import TextPart as SharedTextPart
from tests.contract.engine import RUN, collect, messages, request, stored
from tests.unit.engine.zoo import Notes, Script, act, call, scripted

EARLIER = stored([user_draft("Hi."), Draft(role=Role.ASSISTANT, content="Hello.")], "run-0")


def said(notes: Notes, number: int) -> list[str]:
    """What the model was sent in a round, in order, without tool calls."""
    history, _ = notes.seen[number]
    return [
        part["content"] for message in history for part in message["parts"] if "content" in part
    ]


@pytest.mark.parametrize("history", [(), EARLIER], ids=["alone", "in a conversation"])
async def test_own_prompts_reach_the_model_in_every_run(history: Sequence[Message]) -> None:
    """System prompt and instructions are there once, in front, whatever is stored."""
    notes = Notes()
    model = scripted({len(history) // 2: [TextPart("done")]}, notes)
    agent = Agent(model, system_prompt=["You are A.", "You are B."], instructions="Be brief.")

    events = await collect(PydanticAIEngine(agent).run(request(history=history)))

    expected = ["You are A.", "You are B.", *(message.text for message in history), "go"]
    assert said(notes, len(history) // 2) == expected
    assert notes.seen[len(history) // 2][1] == "Be brief."
    assert [draft.role for draft in messages(events)] == [Role.ASSISTANT]


async def test_own_prompts_reach_the_model_after_a_take_over() -> None:
    """They are not among the stored messages that the other worker starts from."""
    notes = Notes()
    agent = Agent(scripted([[call("act")], [TextPart("done")]], notes), system_prompt="You are A.")
    agent.tool_plain(act)
    before = await collect(PydanticAIEngine(agent).run(request()), count=2)

    await collect(PydanticAIEngine(agent).run(request(messages(before))))

    assert said(notes, 1) == ["You are A.", "go", "acted"]


async def test_a_dynamic_prompt_is_evaluated_once_a_run() -> None:
    """It may be expensive, and it sees the dependencies of the run."""
    notes = Notes()
    evaluated: list[str] = []
    agent = Agent(scripted({1: [TextPart("done")]}, notes), deps_type=RunInfo)

    @agent.system_prompt(dynamic=True)
    def who(ctx: RunContext[RunInfo]) -> str:
        evaluated.append(ctx.deps.run_id)
        return f"You serve {ctx.deps.conversation_id}."

    engine = PydanticAIEngine(agent, deps=lambda run: run)
    await collect(engine.run(request(history=EARLIER)))

    assert said(notes, 1)[0] == "You serve talk."
    assert evaluated == ["run-1"]


async def test_a_system_message_of_the_history_stays_beside_the_own_prompt() -> None:
    """An imported conversation may hold one; it does not take the agent's place."""
    notes = Notes()
    imported = stored([Draft(role=Role.SYSTEM, content="Imported."), user_draft("Hi.")], "run-0")
    agent = Agent(scripted([[TextPart("done")]], notes), system_prompt="You are A.")

    await collect(PydanticAIEngine(agent).run(request(history=imported)))

    assert said(notes, 0) == ["You are A.", "Imported.", "Hi.", "go"]


@pytest.mark.parametrize("history", [(), EARLIER], ids=["alone", "in a conversation"])
@pytest.mark.parametrize("replaces", [False, True])
async def test_an_agent_that_reinjects_its_prompt_says_it_once(
    history: Sequence[Message], replaces: bool
) -> None:
    """The library's own capability for the same purpose neither doubles nor stores it."""
    notes = Notes()
    number = len(history) // 2
    agent = Agent(
        scripted({number: [TextPart("done")]}, notes),
        system_prompt="You are A.",
        capabilities=[ReinjectSystemPrompt(replace_existing=replaces)],
    )

    events = await collect(PydanticAIEngine(agent).run(request(history=history)))

    assert said(notes, number).count("You are A.") == 1
    assert [draft.role for draft in messages(events)] == [Role.ASSISTANT]


async def test_a_history_with_open_calls_is_closed_for_the_model() -> None:
    """The library refuses a new prompt behind them; a model would, too."""
    notes = Notes()
    open_call = ToolCall(id="a", name="act", arguments="{}")
    history = stored(
        [
            user_draft("Hi."),
            Draft(role=Role.ASSISTANT, kind=MessageKind.TOOL_CALL, tool_calls=(open_call,)),
        ],
        "run-0",
    )

    await collect(
        PydanticAIEngine(Agent(scripted({1: [TextPart("done")]}, notes))).run(
            request(history=history)
        )
    )

    kinds = [part["part_kind"] for message in notes.seen[1][0] for part in message["parts"]]
    assert kinds == ["user-prompt", "tool-call", "tool-return", "user-prompt"]


async def test_notes_about_failed_runs_are_not_shown() -> None:
    """The model sees the question that was not answered, and nothing of why."""
    notes = Notes()
    note = Draft(role=Role.SYSTEM, kind=MessageKind.ERROR, content="The run failed.")
    history = stored([user_draft("Hi."), note], "run-0")

    await collect(
        PydanticAIEngine(Agent(scripted([[TextPart("done")]], notes))).run(request(history=history))
    )

    assert said(notes, 0) == ["Hi.", "go"]


async def test_a_history_of_the_engine_itself_is_exact() -> None:
    """What the model is sent in a later run is what it was sent and said in the earlier one."""
    notes = Notes()
    script: Script = {
        0: [TextPart("Let me see."), call("act", '{"n":  1}')],
        1: [TextPart("seen")],
        2: [TextPart("again")],
    }
    agent = Agent(scripted(script, notes))

    @agent.tool_plain(name="act")
    async def count(n: int) -> dict[str, int]:
        return {"n": n}

    engine = PydanticAIEngine(agent)
    first = await collect(engine.run(request()))
    history = stored([user_draft("go"), *messages(first)], "run-0")

    await collect(engine.run(request(history=history, prompt=user_draft("more"))))

    history_seen = notes.seen[2][0]
    assert history_seen[:3] == notes.seen[1][0]
    assert [part.get("content") for part in history_seen[4]["parts"]] == ["more"]


async def test_media_of_the_input_reach_the_model() -> None:
    """Inline bytes and addresses arrive as what they are."""
    seen: list[Any] = []
    agent = Agent(scripted([[TextPart("done")]], Notes()))

    @agent.instructions
    def look(ctx: RunContext[Any]) -> str:
        seen.append(ctx.prompt)
        return ""

    prompt = user_draft(
        (SharedTextPart(text="what?"), MediaPart(media_type="image/png", data="+/8="))
    )
    await collect(PydanticAIEngine(agent).run(request(prompt=prompt)))

    [[text, image]] = seen
    assert text == "what?"
    assert isinstance(image, BinaryContent)
    assert (image.data, image.media_type) == (b"\xfb\xff", "image/png")


async def test_the_prompt_is_known_after_a_take_over() -> None:
    """Tools may ask for the run's input, wherever the run goes on."""
    prompts: list[Any] = []
    script: Script = [[call("tell")], [call("tell")], [TextPart("done")]]
    agent: Agent[None, str] = Agent(scripted(script, Notes()))

    @agent.tool
    def tell(ctx: RunContext[None]) -> str:
        prompts.append((ctx.prompt, ctx.run_id, ctx.conversation_id))
        return "told"

    engine = PydanticAIEngine(agent)
    before = await collect(engine.run(request()), count=1)
    await collect(engine.run(request(messages(before))))

    assert prompts == [("go", RUN.run_id, RUN.conversation_id)] * 2


async def make_async(run: RunInfo) -> str:
    return run.run_id


@pytest.mark.parametrize("deps", [lambda run: run.run_id, make_async])
async def test_dependencies_are_made_for_each_run(deps: Any) -> None:
    """By a sync or an async function, which is told the run."""
    agent = Agent(scripted([[call("act")], [TextPart("done")]], Notes()), deps_type=str)

    @agent.tool
    def act(ctx: RunContext[str]) -> str:
        return f"for {ctx.deps}"

    events = await collect(PydanticAIEngine(agent, deps).run(request()))

    assert messages(events)[1].text == "for run-1"
