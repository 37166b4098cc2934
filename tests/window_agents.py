"""An agent that remembers by summaries, for tests with real worker processes.

The run's metadata says where its provider is (`url`), which model answers (`model`), and which one
summarises (`summary`). Requests carry the run's id in `user`, and for what they were made.
"""

from collections.abc import Sequence

from agent_worker import LastMessages, Summarise, Summary, run_info, serve
from shared.message import Message, Usage
from tests.chat_agents import _agent, _client

ABOVE, KEEP = 12, 4


async def _summarise(so_far: str | None, messages: Sequence[Message]) -> Summary:
    run = run_info()
    said = "; ".join(message.text for message in messages)
    answer = await _client(str(run.metadata["url"])).chat.completions.create(
        model=str(run.metadata["summary"]),
        messages=[{"role": "user", "content": f"{so_far or ''}{said}; "}],
        user=f"{run.run_id}:summary",
    )
    usage = answer.usage
    took = Usage(input_tokens=usage.prompt_tokens, requests=1) if usage else Usage(requests=1)
    return Summary(answer.choices[0].message.content or "", took)


remember = serve(
    _agent,
    name="remember",
    deps=lambda run: run,
    window=Summarise(_summarise, above=LastMessages(ABOVE), keep=LastMessages(KEEP)),
)
