"""The benchmark of windows: what it counts, over a conversation that is counted by hand."""

from agent_worker.window.counting import FRAME, TokenCounter
from benchmarks.windows import draw, measure, table
from shared.message import Draft
from tests.unit.window.room import talk

RUNS = 60
COUNTER = TokenCounter(lambda text: len(text.split()), "own")
EACH = FRAME + 2
"""A message of two words."""


def runs() -> list[list[Draft]]:
    """Runs of a question and an answer."""
    drafts = talk(RUNS, words=0)
    return [drafts[place : place + 2] for place in range(0, len(drafts), 2)]


async def test_each_window_costs_what_it_shows() -> None:
    """One model call a run: the window and the input."""
    bills = await measure(runs(), COUNTER)
    assert bills["everything"].tokens == [EACH * (2 * run + 1) for run in range(RUNS)]
    assert bills["LastMessages(20)"].tokens == [EACH * min(2 * run + 1, 20) for run in range(RUNS)]
    assert bills["everything"].again == sum(bills["everything"].tokens[:-1])
    summarising = bills["Summarise, above 40 messages, keep 20"]
    assert summarising.summaries == 4
    assert summarising.summary_tokens > 0
    filler, around = 300, 30  # words of a summary, and of what is said about it
    assert max(summarising.tokens) <= 39 * EACH + FRAME + filler + around
    assert table(bills).count("\n") == 1 + len(bills)
    assert draw(bills).count("<polyline") == len(bills)
