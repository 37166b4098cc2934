"""The same agent loops bare: one process, nothing stored, nobody watching.

    python -m benchmarks.rounds.bare {plain,stub,http} --runs N --rounds R --latency-s L

What a loop and its model take by themselves, which is the limit for any system around them. Prints
JSON.
"""

import argparse
import asyncio
import json
import os
import sys
import time

import uvloop

from agent_worker import RunInfo
from agent_worker.engine.protocol import EngineLimits, EngineRequest
from benchmarks.memory import peak_mib, resident_mib
from benchmarks.rounds.agents import http_agent, stub_agent, tell
from benchmarks.rounds.work import ANSWER, QUESTION, Work, add_arguments, work_of
from shared.message import Draft, Message, user_draft

_LIMITS = EngineLimits(max_rounds=50, model_timeout_s=300, tool_timeout_s=120, model_retries=5)
_AGENTS = {"stub": stub_agent, "http": http_agent}


async def run_all(engine: str, work: Work) -> None:
    """Run all at once, and see that each gave the answer."""
    answers = await asyncio.gather(*(_run(engine, work) for _ in range(work.runs)))
    assert set(answers) == {ANSWER}


async def _run(engine: str, work: Work) -> str:
    if engine != "plain":
        return (await _AGENTS[engine].run(QUESTION, deps=work)).output
    question = Message.from_draft(user_draft(QUESTION), run_id="bare", position=0)
    run = RunInfo("bare", engine, metadata=work.as_metadata())
    text = ""
    async for event in tell(EngineRequest(run, history=(), own=(question,), limits=_LIMITS)):
        assert isinstance(event, Draft)
        text = event.text
    return text


async def measure(engine: str, work: Work) -> dict[str, float]:
    """Seconds that all of it took, and the memory before it and at most.

    A few runs before it are not counted.
    """
    await run_all(engine, Work(min(work.runs, 20), 2, 0.0))
    idle_mib = resident_mib(os.getpid())
    started, busy = time.perf_counter(), time.process_time()
    await run_all(engine, work)
    return {
        "wall_s": time.perf_counter() - started,
        "cpu_s": time.process_time() - busy,
        "idle_mib": idle_mib,
        "peak_mib": peak_mib(os.getpid()),
    }


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rounds.bare")
    parser.add_argument("engine", choices=("plain", *_AGENTS))
    add_arguments(parser)
    options = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        figures = runner.run(measure(options.engine, work_of(options)))
    sys.stdout.write(json.dumps(figures))


if __name__ == "__main__":
    main()
