"""What a conversation's windows cost: input tokens of each run, over recorded conversations.

    python -m benchmarks.windows [FILE.jsonl] [--conversations N] [--model NAME] [--svg FILE.svg]

The recordings are put one behind the other into one long conversation. Before each of its runs the
window is built by the code that workers use, over a store in memory; then each model call of the
run is counted: the window, and what the run has said so far. Instructions and schemas of tools are
the same in every run and are left out. No model is asked: a summary is made of filler words, about
250 of them, and what a model would have read and written for it is counted.

`again` is how much of the tokens stood at the same place in the request before. Providers with a
cache for prompts charge less for these, some a quarter: the last column counts them so. Prints a
table in Markdown.
"""

import argparse
import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count, takewhile
from pathlib import Path
from typing import Final

import structlog

from agent_worker.bounds import resolve_bounds
from agent_worker.context import RunInfo
from agent_worker.definition import AgentOptions
from agent_worker.engine.pydantic_ai.summarising import INSTRUCTIONS, prompt_of
from agent_worker.execution.view import View
from agent_worker.window.counting import TokenCounter, counter_of
from agent_worker.window.last_messages import LastMessages
from agent_worker.window.own_choice import OwnChoice
from agent_worker.window.protocol import WindowPolicy
from agent_worker.window.summarise import Summarise
from agent_worker.window.summariser import Summary
from agent_worker.window.token_budget import TokenBudget
from shared.conversation.memory import MemoryConversationStore
from shared.conversation.protocol import Writer
from shared.message import Draft, Message, Role, Usage, user_draft
from shared.notification.memory import MemoryNotifications
from shared.openai_chat import from_openai
from shared.run import RunOptions
from shared.settings import Settings
from tests.model_server import find_folder, load_recordings, validate

NAME: Final = "long"
SUMMARY_BYTES: Final = 1_500
COLOURS: Final = ("#888888", "#1f77b4", "#2ca02c", "#d62728", "#9467bd")


@dataclass
class Bill:
    """What one policy cost."""

    tokens: list[int] = field(default_factory=list)
    """Input tokens of each run, over its model calls."""
    again: int = 0
    calls: int = 0
    summaries: int = 0
    summary_tokens: int = 0
    """Read and written for summaries."""

    @property
    def total(self) -> int:
        """Everything."""
        return sum(self.tokens) + self.summary_tokens


class Meter:
    """Executes runs as far as their cost goes: nobody answers, the recording does."""

    def __init__(self, policy: WindowPolicy, counter: TokenCounter, bill: Bill) -> None:
        self._policy = policy
        self._counter = counter
        self._bill = bill
        self._store = MemoryConversationStore(MemoryNotifications())
        self._tokens = count(1)
        self._before: list[tuple[str, int]] = []

    async def run(self, number: int, drafts: Sequence[Draft]) -> None:
        """One run: its input, and all that follows up to the next one."""
        run = f"run-{number}"
        writer = Writer(run, next(self._tokens))
        claim = await self._store.claim(NAME, writer, limit=self._policy.first_read(20))
        bounds = resolve_bounds(RunOptions(), AgentOptions(window=self._policy), Settings())
        view = View(claim, self._store, NAME, bounds, RunInfo(run, "agent"), None)
        own = [Message.from_draft(drafts[0], run_id=run, position=0)]
        window = await view.open(own, _confirm)
        if window.summary is not None:
            own.append(Message.from_draft(window.summary, run_id=run, position=1))
            took = window.summary.usage or Usage()
            self._bill.summaries += 1
            self._bill.summary_tokens += took.total_tokens
        for draft in drafts[1:]:
            own.append(Message.from_draft(draft, run_id=run, position=len(own)))
        await self._store.append(NAME, own, writer=writer)
        self._bill.tokens.append(0)
        said = [message for message in own if not message.kind.is_note]
        for place, message in enumerate(said):
            if message.role is Role.ASSISTANT:
                await self._ask([*window.messages, *said[:place]])

    async def _ask(self, messages: Sequence[Message]) -> None:
        costs = await self._counter.costs(messages)
        request = [(message.id, cost) for message, cost in zip(messages, costs, strict=True)]
        for mine, theirs in zip(request, self._before, strict=False):
            if mine != theirs:
                break
            self._bill.again += mine[1]
        self._before = request
        self._bill.calls += 1
        self._bill.tokens[-1] += sum(costs)


async def _confirm() -> None:
    """Nobody takes a run away here."""


def policies(counter: TokenCounter) -> dict[str, WindowPolicy]:
    """What is compared."""

    async def write(so_far: str | None, messages: Sequence[Message]) -> Summary:
        asked = [user_draft(INSTRUCTIONS), user_draft(prompt_of(so_far, messages))]
        text = ("word " * SUMMARY_BYTES)[:SUMMARY_BYTES]
        read = sum(await counter.costs(asked))
        [written] = await counter.costs([user_draft(text)])
        return Summary(text, Usage(input_tokens=read, output_tokens=written, requests=1))

    def tokens(number: int) -> TokenBudget:
        return TokenBudget(number, count=counter.count_text)

    return {
        "everything": OwnChoice(lambda messages: messages, read=10**6),
        "LastMessages(20)": LastMessages(20),
        "TokenBudget(4000)": tokens(4_000),
        "Summarise, above 40 messages, keep 20": Summarise(write),
        "Summarise, above 4000 tokens, keep 1500": Summarise(
            write, above=tokens(4_000), keep=tokens(1_500)
        ),
    }


def read_runs(file: Path, conversations: int) -> list[list[Draft]]:
    """The runs of the recordings, one behind the other."""
    runs: list[list[Draft]] = []
    for recording in load_recordings(file, conversations):
        if validate(recording):
            continue
        for draft in from_openai(recording.replayable):
            if draft.role is Role.USER:
                runs.append([])
            if draft.role is not Role.SYSTEM:
                runs[-1].append(draft)
    return runs


async def measure(runs: Sequence[Sequence[Draft]], counter: TokenCounter) -> dict[str, Bill]:
    """Each policy over the whole conversation."""
    bills: dict[str, Bill] = {}
    for name, policy in policies(counter).items():
        bills[name] = Bill()
        meter = Meter(policy, counter, bills[name])
        for number, drafts in enumerate(runs):
            await meter.run(number, drafts)
    return bills


def table(bills: dict[str, Bill]) -> str:
    """The bills in Markdown."""
    whole = next(iter(bills.values())).total
    titles = (
        *("window", "tokens a run", "first 10 runs", "last 10 runs", "again"),
        *("summaries", "tokens for these", "in all", "of everything", "with a cache"),
    )
    rows: list[Sequence[str]] = [titles, ["---"] * len(titles)]
    for name, bill in bills.items():
        rows.append(
            [
                *(name, f"{_mean(bill.tokens):,}", f"{_mean(bill.tokens[:10]):,}"),
                *(f"{_mean(bill.tokens[-10:]):,}", f"{bill.again / sum(bill.tokens):.0%}"),
                *(f"{bill.summaries}", f"{bill.summary_tokens:,}", f"{bill.total:,}"),
                *(f"{bill.total / whole:.0%}", f"{bill.total - bill.again * 3 // 4:,}"),
            ]
        )
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def draw(bills: dict[str, Bill], *, width: int = 760, height: int = 360) -> str:
    """Tokens of each run, as a picture: means over ten runs, since single ones jump."""
    left, top, bottom = 70, 20, 50
    smooth = {name: _smoothed(bill.tokens) for name, bill in bills.items()}
    runs = max(map(len, smooth.values()))
    most = 2 * max(max(values) for name, values in smooth.items() if name != "everything")
    most = -(-most // 4_000) * 4_000

    def at(run: int, tokens: float) -> str:
        x = left + (width - left - 20) * run / max(1, runs - 1)
        y = height - bottom - (height - top - bottom) * tokens / most
        return f"{x:.1f},{y:.1f}"

    form = f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {form}>',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for step in range(5):
        x, y = at(0, most * step / 4).split(",")
        lines.append(f'<line x1="{x}" y1="{y}" x2="{width - 20}" y2="{y}" stroke="#dddddd"/>')
        label = f"{most * step / 4:,.0f}"
        lines.append(f'<text x="{left - 8}" y="{float(y) + 4}" text-anchor="end">{label}</text>')
    for place, (name, values) in enumerate(smooth.items()):
        # What leaves the picture at its top does not come back.
        inside = [*takewhile(lambda value: value <= most, values)]
        points = " ".join(at(run, value) for run, value in enumerate(inside))
        colour = COLOURS[place % len(COLOURS)]
        lines.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>'
        )
        line = top + 16 * place + 10
        lines.append(f'<text x="{left + 12}" y="{line}" fill="{colour}">{name}</text>')
    lines.append(
        f'<text x="{(left + width) / 2}" y="{height - 14}" text-anchor="middle">'
        f"run of the conversation (1 to {runs}); input tokens of a run</text>"
    )
    return "\n".join([*lines, "</svg>\n"])


def _smoothed(values: Sequence[int], span: int = 10) -> list[float]:
    parts = (values[max(0, place - span + 1) : place + 1] for place in range(len(values)))
    return [sum(part) / len(part) for part in parts]


def _mean(values: Sequence[int]) -> int:
    return round(sum(values) / max(1, len(values)))


async def main() -> None:
    """Run from the command line."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("file", nargs="?", type=Path)
    options.add_argument("--conversations", type=int, default=20)
    options.add_argument("--model", help="whose tokenizer counts, such as openai:gpt-4o")
    options.add_argument("--svg", type=Path, help="where to draw a picture")
    given = options.parse_args()
    folder = find_folder()
    file = given.file or (folder / "conversations.jsonl" if folder is not None else None)
    if file is None:
        options.error("there are no recordings here; name a file")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    runs = read_runs(file, given.conversations)
    counter = await counter_of(given.model)
    bills = await measure(runs, counter)
    calls = next(iter(bills.values())).calls
    messages = sum(map(len, runs))
    print(f"{len(runs)} runs, {messages} messages, {calls} model calls; counted: {counter.counted}")
    print(table(bills))
    if given.svg is not None:
        given.svg.write_text(draw(bills))


if __name__ == "__main__":
    asyncio.run(main())
