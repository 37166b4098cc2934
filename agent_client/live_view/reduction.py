"""How each event changes what is known of a run: pure functions from a state to the next one."""

from collections.abc import Iterable
from dataclasses import replace

from agent_client.live_view.state import Block, Call, LiveRun, Note, Round
from agent_client.live_view.text import content_text, count_text, summary_text
from shared.event import DeltaEvent, MessageEvent, RunEvent, StatusEvent
from shared.message import Message, MessageKind, Role, Usage
from shared.run import Run, RunStatus

ROLLED_BACK = "rolled back: the messages of this run were removed from the history"


def after(run: LiveRun, event: RunEvent) -> LiveRun:
    """The state once `event` has happened."""
    run = replace(run, cursor=event.cursor or run.cursor)
    if isinstance(event, MessageEvent):
        return _after_message(run, event.message)
    if isinstance(event, DeltaEvent):
        return _after_delta(run, event)
    return _after_status(run, event)


def resumed(run: LiveRun, record: Run, seen: Iterable[Message]) -> LiveRun:
    """The state of a watcher who saw these messages before: only what is open is shown again."""
    for message in seen:
        run = _after_message(run, message)
    rounds = [block for block in run.blocks if isinstance(block, Round)]
    shown = tuple(block for block in rounds if block.has_open_calls)
    return replace(
        run,
        blocks=shown,
        earlier_rounds=len(rounds) - len(shown),
        status=RunStatus.RUNNING if record.attempts else RunStatus.QUEUED,
        attempt=min(record.attempts, 1),  # so that the next event says when it was taken over
        started_at=record.started_at,
    )


def ended(run: LiveRun, record: Run) -> LiveRun:
    """The state with what only the run's record knows: its output, its usage, its error."""
    return replace(
        _at_attempt(_without_stream(run), record.attempts, record.worker_id),
        status=record.status,
        started_at=record.started_at,
        finished_at=record.finished_at,
        ended_rounds=record.rounds,
        input_tokens=record.usage.input_tokens,
        output_tokens=record.usage.output_tokens,
        output=record.output,
        error=record.error,
    )


def _after_status(run: LiveRun, event: StatusEvent) -> LiveRun:
    run = _at_attempt(run, event.attempt, event.worker_id)
    if event.status is RunStatus.RUNNING and run.started_at is None:
        run = replace(run, started_at=event.created_at)
    if event.status.is_final:
        run = replace(_without_stream(run), finished_at=event.created_at)
    if event.rolled_back:
        run = _with_block(run, Note(ROLLED_BACK))
    return replace(run, status=event.status, worker_id=event.worker_id)


def _after_delta(run: LiveRun, event: DeltaEvent) -> LiveRun:
    if event.attempt < run.attempt:
        return run
    run = _at_attempt(run, event.attempt, None)
    for block in reversed(run.blocks):
        if isinstance(block, Round) and block.position >= event.position:
            if block.is_stored:
                return run  # the whole message came first
            return _replacing(run, block, replace(block, text=block.text + event.text))
    return _with_block(run, Round(event.position, event.text))


def _after_message(run: LiveRun, message: Message) -> LiveRun:
    if message.role is Role.ASSISTANT:
        return _after_answer(run, message)
    if message.role is Role.TOOL:
        return _after_result(run, message)
    if message.kind is MessageKind.SUMMARY:
        return _with_usage(_with_block(run, Note(summary_text(message))), message)
    text = content_text(message.content)
    if message.role is Role.SYSTEM:
        return _with_block(run, Note(text, is_error=message.kind is MessageKind.ERROR))
    return replace(run, input=run.input or text)


def _after_answer(run: LiveRun, message: Message) -> LiveRun:
    calls = tuple(Call.asked(call, message.created_at) for call in message.tool_calls)
    text = content_text(message.content)
    stored = Round(message.position, text, is_stored=True, calls=calls)
    return _with_usage(_with_block(_without_stream(run), stored), message)


def _with_usage(run: LiveRun, message: Message) -> LiveRun:
    usage = message.usage or Usage()
    return replace(
        run,
        input_tokens=run.input_tokens + usage.input_tokens,
        output_tokens=run.output_tokens + usage.output_tokens,
    )


def _after_result(run: LiveRun, message: Message) -> LiveRun:
    last = next((block for block in reversed(run.blocks) if isinstance(block, Round)), None)
    calls = last.calls if last is not None else ()
    index = next((i for i, call in enumerate(calls) if call.fits(message)), None)
    if last is None or index is None:  # its call came before this watcher
        name, call_id = message.tool_name or "tool", message.tool_call_id or ""
        call = Call(call_id, name, "", started_at=message.created_at).ended(message)
        run = _with_block(run, Round(message.position, is_stored=True, calls=(call,)))
    else:
        call = calls[index].ended(message)
        changed = replace(last, calls=(*calls[:index], call, *calls[index + 1 :]))
        run = _replacing(run, last, changed)
    return replace(run, last_ended=call)


def _at_attempt(run: LiveRun, attempt: int, worker_id: str | None) -> LiveRun:
    """A newer lease: what an older one was streaming is void, and another worker goes on."""
    if attempt <= run.attempt:
        return run
    run = replace(_without_stream(run), attempt=attempt)
    take_overs = attempt - 1
    if not take_overs:
        return run
    by = f" by {worker_id}" if worker_id else ""
    text = f"taken over{by}, which goes on after the last stored message"
    if take_overs > 1:
        text += f" ({count_text(take_overs, 'time')} so far)"
    return _with_block(run, Note(text))


def _without_stream(run: LiveRun) -> LiveRun:
    """Drop a text that was being written: its message has come, or never will."""
    kept = tuple(block for block in run.blocks if isinstance(block, Note) or block.is_stored)
    return run if len(kept) == len(run.blocks) else replace(run, blocks=kept)


def _with_block(run: LiveRun, block: Block) -> LiveRun:
    return replace(run, blocks=(*run.blocks, block))


def _replacing(run: LiveRun, old: Block, new: Block) -> LiveRun:
    return replace(run, blocks=tuple(new if each is old else each for each in run.blocks))
