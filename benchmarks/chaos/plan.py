"""The plan: which conversations are held, and what is done to each of their runs, from a seed."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Final, Literal

from pydantic import JsonValue

from benchmarks.chaos.expectation import Expected, expect_recorded, expect_script
from benchmarks.chaos.script import Call, Round, Script
from shared.run import BusyPolicy
from tests.model_server import Recording

SPEC: Final = "chaos"
"""The metadata of each run that names its spec: so runs whose submit got no answer are known."""
RECORDED_SHARE: Final = 0.25
"""What part of the runs is recorded, where there are recordings."""
RUNS_OF_RECORDING: Final = 6
"""A recording is played up to here."""

How = Literal["messages", "events", "resuming"]


@dataclass(frozen=True)
class Spec:
    """One run as it is to be: what is submitted, and what its history has to hold."""

    id: str
    agent: str
    input: str
    expected: Expected
    conversation_id: str | None = None
    metadata: dict[str, JsonValue] = field(default_factory=dict)
    on_busy: BusyPolicy = BusyPolicy.ENQUEUE
    is_keyed: bool = True
    """Whether it has an idempotency key, so that it may be submitted again."""
    save_on_iteration: bool = True
    max_rounds: int | None = None


@dataclass(frozen=True)
class Submit:
    """Submit a run, `copies` at once; where it is keyed, until it is accepted or refused."""

    spec: Spec
    wait_s: float = 0.0
    copies: int = 1


@dataclass(frozen=True)
class Cancel:
    """Cancel a run that was submitted before, `times` at once."""

    spec_id: str
    wait_s: float
    times: int = 1


@dataclass(frozen=True)
class AwaitEnd:
    """Wait until a run has ended."""

    spec_id: str


@dataclass(frozen=True)
class AwaitOutage:
    """Wait until the store or the broker is away; what follows is left out if that never is."""

    of: Literal["store", "broker"]


Step = Submit | Cancel | AwaitEnd | AwaitOutage


@dataclass(frozen=True)
class Conversation:
    """What one caller does, one step after the other, from `at` seconds on."""

    at: float
    kind: str
    steps: tuple[Step, ...]

    @property
    def specs(self) -> tuple[Spec, ...]:
        """All runs that are submitted in it."""
        return tuple(step.spec for step in self.steps if isinstance(step, Submit))


def make_plan(
    seed: int, runs: int, seconds: float, recordings: Sequence[Recording]
) -> list[Conversation]:
    """Conversations with `runs` runs in all, which begin within `seconds`."""
    chance = random.Random(f"plan {seed}")  # noqa: S311 - has to be the same for the same seed
    author = _Author(chance, seconds)
    planned: list[list[Step]] = []
    kinds: list[str] = []
    left = runs
    for steps in _recorded(chance, recordings, int(runs * RECORDED_SHARE)):
        kinds.append("recorded")
        planned.append(steps)
        left -= count_runs(steps)
    for kind in author.kinds():
        steps = author.write(kind, left)
        if left <= 0:
            break
        kinds.append(kind)
        planned.append(steps)
        left -= count_runs(steps)
    return [
        Conversation(at=_begin(chance, kind, seconds), kind=kind, steps=tuple(steps))
        for kind, steps in zip(kinds, planned, strict=True)
    ]


def _begin(chance: random.Random, kind: str, seconds: float) -> float:
    """Conversations of several runs take long, so these begin early."""
    share = {"recorded": 0.3, "line": 0.6, "outage": 0.1}.get(kind, 0.9)
    return chance.uniform(0, seconds * share)


def count_runs(steps: Sequence[Step]) -> int:
    """How many runs there are to be; some are submitted several times."""
    return len({step.spec.id for step in steps if isinstance(step, Submit)})


def _recorded(
    chance: random.Random, recordings: Sequence[Recording], budget: int
) -> Iterator[list[Step]]:
    """Whole recordings or their first runs; one run after the other, or all waiting in line."""
    for recording in chance.sample(recordings, len(recordings)):
        runs = recording.runs()[: min(RUNS_OF_RECORDING, budget)]
        if not runs:
            return
        budget -= len(runs)
        is_patient = chance.random() < 0.5
        steps: list[Step] = []
        for run in runs:
            spec = Spec(
                id=f"{recording.id.replace('/', ':')}:{run.index}",
                agent="recorded",
                input=run.user_text,
                expected=expect_recorded(run),
                conversation_id=f"recorded:{recording.id.replace('/', ':')}",
                metadata={"recording": recording.id, "run_index": run.index},
            )
            steps.append(Submit(spec, wait_s=chance.uniform(0, 0.3)))
            if is_patient:
                steps.append(AwaitEnd(spec.id))
        yield steps


class _Author:
    """Writes synthetic conversations."""

    def __init__(self, chance: random.Random, seconds: float) -> None:
        self._chance = chance
        self._pace = min(1.0, 0.4 + seconds / 120)
        self._number = count()
        self._kinds: dict[str, tuple[int, Callable[[str, int], list[Step]]]] = {
            "line": (8, self._line),
            "alone": (6, self._alone),
            "cancel": (5, self._cancel),
            "interrupt": (4, self._interrupt),
            "rollback": (4, self._rollback),
            "reject": (2, self._reject),
            "resubmit": (2, self._resubmit),
            "limited": (1, self._limited),
            "outage": (5, self._outage),
        }

    def kinds(self) -> Iterator[str]:
        """Kinds without end: each once, then by their weight."""
        yield from self._kinds
        weights = [weight for weight, _ in self._kinds.values()]
        while True:
            yield from self._chance.choices(list(self._kinds), weights)

    def write(self, kind: str, left: int) -> list[Step]:
        """A conversation of a kind, of at most `left` runs if that can be."""
        return self._kinds[kind][1](f"{kind}-{next(self._number)}", left)

    def _line(self, name: str, left: int) -> list[Step]:
        runs = min(self._chance.randint(2, 5), max(left, 1))
        return [
            Submit(self._spec(f"{name}.{index}", name), self._pause(1.5)) for index in range(runs)
        ]

    def _alone(self, name: str, _: int) -> list[Step]:
        is_whole = self._chance.random() < 0.25
        return [Submit(self._spec(name, None, save_on_iteration=not is_whole))]

    def _cancel(self, name: str, _: int) -> list[Step]:
        steps: list[Step] = [Submit(self._spec(f"{name}.0", name))]
        steps.append(Cancel(f"{name}.0", self._pause(6), times=self._chance.choice([1, 1, 2])))
        steps.append(Submit(self._spec(f"{name}.1", name), self._pause(1)))
        if self._chance.random() < 0.4:
            # It waits behind the others: cancelled before it starts.
            steps.append(Submit(self._spec(f"{name}.2", name)))
            steps.append(Cancel(f"{name}.2", self._pause(0.5)))
        return steps

    def _interrupt(self, name: str, _: int) -> list[Step]:
        return self._replace(name, BusyPolicy.INTERRUPT)

    def _rollback(self, name: str, _: int) -> list[Step]:
        return self._replace(name, BusyPolicy.ROLLBACK)

    def _replace(self, name: str, policy: BusyPolicy) -> list[Step]:
        first = Submit(self._spec(f"{name}.0", name))
        waiting = Submit(self._spec(f"{name}.1", name), self._pause(1))
        other = self._spec(f"{name}.2", name, on_busy=policy)
        steps: list[Step] = [first, Submit(other, self._pause(7))]
        if self._chance.random() < 0.4:
            steps.insert(1, waiting)
        if self._chance.random() < 0.3:
            more = self._spec(f"{name}.3", name, on_busy=policy)
            steps.append(Submit(more, self._pause(2)))
        return steps

    def _reject(self, name: str, _: int) -> list[Step]:
        second = self._spec(f"{name}.1", name, on_busy=BusyPolicy.REJECT)
        third = self._spec(f"{name}.2", name, on_busy=BusyPolicy.REJECT)
        return [
            Submit(self._spec(f"{name}.0", name)),
            Submit(second, self._pause(2)),
            AwaitEnd(f"{name}.0"),
            Submit(third),
        ]

    def _resubmit(self, name: str, _: int) -> list[Step]:
        spec = self._spec(f"{name}.0", name)
        return [
            Submit(spec, copies=5),
            Submit(spec, self._pause(4), copies=2),
            AwaitEnd(spec.id),
            Submit(spec, copies=2),
        ]

    def _limited(self, name: str, _: int) -> list[Step]:
        """Fails, by its own limit: the other final status."""
        return [Submit(self._spec(f"{name}.0", name, max_rounds=1, min_rounds=2))]

    def _outage(self, name: str, _: int) -> list[Step]:
        of: Literal["store", "broker"] = self._chance.choice(["store", "broker"])
        return [
            AwaitOutage(of),
            Submit(self._spec(f"{name}.0", name)),
            Submit(self._spec(f"{name}.1", None, is_keyed=False)),
            Submit(self._spec(f"{name}.2", name, is_keyed=False)),
        ]

    def _spec(
        self,
        spec_id: str,
        conversation_id: str | None,
        *,
        on_busy: BusyPolicy = BusyPolicy.ENQUEUE,
        is_keyed: bool = True,
        save_on_iteration: bool = True,
        max_rounds: int | None = None,
        min_rounds: int = 1,
    ) -> Spec:
        script = self._script(spec_id, min_rounds)
        return Spec(
            id=spec_id,
            agent="scripted",
            input=script.model_dump_json(),
            expected=expect_script(script, max_rounds=max_rounds),
            conversation_id=conversation_id,
            on_busy=on_busy,
            is_keyed=is_keyed,
            save_on_iteration=save_on_iteration,
            max_rounds=max_rounds,
        )

    def _script(self, spec_id: str, min_rounds: int) -> Script:
        rounds = max(min_rounds, self._chance.choices([1, 2, 3, 4, 7], [3, 4, 3, 2, 1])[0])
        return Script(
            id=spec_id,
            rounds=tuple(self._round(index) for index in range(rounds)),
            think_s=self._pause(2),
        )

    def _round(self, index: int) -> Round:
        calls = self._chance.choices([1, 2, 3, 5], [4, 4, 2, 1])[0]
        return Round(
            think_s=self._pause(2.5),
            calls=tuple(
                Call(
                    tool=self._chance.choices(("work", "grind"), (4, 1))[0],
                    name=f"{index}-{call}",
                    seconds=self._pause(3.5),
                )
                for call in range(calls)
            ),
        )

    def _pause(self, most: float) -> float:
        """Mostly short, sometimes up to `most` seconds (less in a short run of the harness)."""
        return round(self._chance.triangular(0.0, most, most / 4) * self._pace, 2)
