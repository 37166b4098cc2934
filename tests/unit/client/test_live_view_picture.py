"""How a run looks, and what reaches a terminal or a file, whatever models and tools say."""

import re
from datetime import UTC
from io import StringIO
from xml.etree import ElementTree as ET

import pytest
from rich.cells import cell_len
from rich.console import Console

from agent_client.live_view import (
    LiveRun,
    PlainViewer,
    ScreenViewer,
    choose_viewer,
    ended,
    render_svg,
    render_text,
)
from agent_client.live_view.text import clean
from shared.event import RunEvent
from shared.message import (
    DataPart,
    MediaPart,
    MessageKind,
    Role,
    TextPart,
)
from shared.run import RunError, RunStatus
from tests.unit.client.telling import (
    HOSTILE,
    RUN_ID,
    asks,
    at,
    hostile_events,
    hostile_run,
    record,
    status,
    stored,
    story,
    told,
    watch,
)


def test_a_finished_run_reads_from_top_to_bottom() -> None:
    """Header, rounds with their calls, the answer once, and what it took."""
    run = ended(told(*story()), record())
    assert render_text(run, width=60).splitlines() == [
        "desk  in web:ada",
        RUN_ID,
        "▸ Paris or Rome?",
        "",
        "1 Let me look.",
        '  ✓ weather(city="Paris")                               0.5s',
        "    rain",
        '  ✗ weather(city="Rome")                                2.0s',
        "    Timeout after 2 s",
        "",
        "╭─ answer ─────────────────────────────────────────────────╮",
        "│ Rome.                                                    │",
        "╰──────────────────────────────────────────────────────────╯",
        "",
        "✓ completed · 9.0s · 2 rounds · 2 tools · 2,216 tokens in, …",
    ]


def test_an_open_call_spins_and_counts() -> None:
    """Which tool everybody waits for, and for how long, is visible."""
    shown = render_text(told(*story()[:7]), width=60, now=at(2.5))
    assert re.search(r"^  [⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏] weather\(city=\"Rome\"\) +1\.5s$", shown, re.MULTILINE)
    assert re.search(r"^[⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏] running · 2\.3s · 1 round · 2 tools", shown, re.MULTILINE)


def test_a_run_that_waits_says_so() -> None:
    """Nothing happens because no worker has it, not because the view is stuck."""
    assert "queued, waiting for a worker · 4.0s" in render_text(told(), now=at(4))


def test_a_failed_run_shows_its_error_once() -> None:
    """The note in the history says what the record says; one of them is enough, live as well."""
    error = RunError(code="model_error", message="The provider said no.")
    note = stored(2, 1, Role.SYSTEM, "The run failed (model_error): no.", kind=MessageKind.ERROR)
    events: list[RunEvent] = [note, status(2, RunStatus.FAILED)]
    failed = record(status=RunStatus.FAILED, error=error, output=None)
    file = StringIO()
    console = Console(file=file, width=60, force_terminal=True, force_interactive=False)
    watch(ScreenViewer(LiveRun.of(record()), console), events, failed)
    for shown in (render_text(ended(told(*events), failed)), clean(file.getvalue())):
        assert "─ model_error ─" in shown
        assert "The provider said no." in shown
        assert "The run failed" not in shown


def test_structured_output_is_shown_as_json() -> None:
    """An agent with an output type has an answer as well."""
    shown = render_text(ended(told(), record(output={"city": "Rome", "sure": True})))
    assert '"city": "Rome",' in shown


def test_parts_that_are_not_text_leave_a_mark() -> None:
    """An image or a value cannot be drawn, but that it is there can be said."""
    parts = (TextPart(text="See"), MediaPart(media_type="image/png"), DataPart(value={"a": 1}))
    shown = render_text(told(stored(1, 1, Role.ASSISTANT, parts)))
    assert all(mark in shown for mark in ("See", "[image/png]", '{"a": 1}'))


@pytest.mark.parametrize("width", [12, 40, 60, 80, 120])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    """Hostile, wide and endless text wraps or is cut, in every part of the picture."""
    shown = render_text(hostile_run(), width=width)
    assert max(cell_len(line) for line in shown.splitlines()) <= width


def test_markup_and_emoji_codes_are_shown_as_they_are() -> None:
    """What a model writes is text, never an instruction to the view."""
    shown = render_text(hostile_run(), width=120)
    assert "[bold]markup[/bold]" in shown
    assert ":smile:" in shown


def test_only_own_escape_sequences_reach_the_terminal() -> None:
    """Between the view's own colours there is no control character."""
    file = StringIO()
    console = Console(file=file, force_terminal=True, color_system="truecolor", width=80)
    with ScreenViewer(LiveRun.of(record(input=HOSTILE, agent=HOSTILE)), console) as viewer:
        for event in hostile_events():
            viewer.show(event)
        viewer.end(record(output=HOSTILE))
    own = r"\x1b\[\??[\d;]*[mAKhlJGH]"
    assert not re.search(r"[\x00-\x09\x0b\x0c\x0e-\x1f\x7f-\x9f]", re.sub(own, "", file.getvalue()))
    assert "\x1b[2J" not in file.getvalue()


def test_an_image_is_valid_and_the_same_for_equal_runs() -> None:
    """A capture can be made again without a change in the repository, and loads nothing."""
    image = render_svg(hostile_run(), width=80, now=at(10))
    assert ET.fromstring(image).tag.endswith("svg")
    assert image == render_svg(hostile_run(), width=80, now=at(10))
    assert "url(http" not in image
    assert "url(" in render_svg(hostile_run())  # its own clip paths are still there


def test_plain_lines_are_one_for_each_event_then_the_answer() -> None:
    """Deltas are left out; times, names, outcomes and durations are in the lines."""
    file = StringIO()
    watch(PlainViewer(LiveRun.of(record()), file, UTC), story(), record(output="Rome.\nSurely."))
    assert file.getvalue().splitlines() == [
        "12:00:00.000  status     queued",
        "12:00:00.200  status     running on worker-1",
        "12:00:00.300  user       Paris or Rome?",
        '12:00:01.000  assistant  Let me look.  calls weather(city="Paris"), weather(city="Rome")',
        "12:00:01.500  tool       weather ✓  0.5s  rain",
        "12:00:03.000  tool       weather ✗  2.0s  Timeout after 2 s",
        "12:00:09.000  assistant  Rome.",
        "12:00:09.200  status     completed",
        "12:00:09.200  run        completed in 9.0s, 2 rounds, 2 tools, 2,216 tokens in, 20 out",
        "",
        "Rome.",
        "Surely.",
    ]


def test_plain_lines_say_when_a_run_was_taken_over_or_handed_back() -> None:
    """Somebody who reads a log later sees why a minute passed without a message."""
    file = StringIO()
    events = [status(1, RunStatus.QUEUED, 1), status(2, RunStatus.RUNNING, 2)]
    watch(PlainViewer(LiveRun.of(record()), file, UTC), events, record())
    assert "queued, waiting for another worker\n" in file.getvalue()
    assert "running on worker-2, taken over (attempt 2): it goes on" in file.getvalue()


def test_plain_lines_hold_no_control_characters() -> None:
    """A log file is read in terminals, too."""
    file = StringIO()
    watch(PlainViewer(LiveRun.of(record()), file, UTC), hostile_events(), record(output=HOSTILE))
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", file.getvalue())


def test_what_scrolls_away_is_the_run_without_repetition() -> None:
    """Behind the moving part, each block was printed once and the answer at the end."""
    file = StringIO()
    # Not interactive: the frames of the moving part are left out, what stays is not.
    console = Console(file=file, width=60, force_terminal=True, force_interactive=False)
    watch(ScreenViewer(LiveRun.of(record()), console), story(), record())
    plain = clean(file.getvalue())
    assert plain.count("Let me look.") == plain.count("Rome.") == plain.count("completed") == 1
    assert plain.index("Let me look.") < plain.index("rain") < plain.index("Rome.")


def test_the_moving_part_fits_on_the_screen() -> None:
    """Thirty calls at once on ten lines: the newest are shown, and how many lines are not."""
    calls = [("weather", f'{{"number": {number}}}') for number in range(30)]
    console = Console(file=StringIO(), width=60, height=10, force_terminal=True)
    viewer = ScreenViewer(LiveRun.of(record()), console, clock=lambda: at(2))
    viewer.show(asks(1, 1, *calls))
    lines = [
        "".join(segment.text for segment in line).rstrip()
        for line in console.render_lines(viewer._draw_open(), pad=False)
    ]
    assert len(lines) <= 10
    assert lines[0] == "… 25 lines above"
    assert "weather(number=29)" in lines[-3]


def test_leaving_early_keeps_what_was_seen_so_far() -> None:
    """After Ctrl-C the screen still shows the calls that were open."""
    file = StringIO()
    console = Console(file=file, width=60, force_terminal=True, force_interactive=False)
    with ScreenViewer(LiveRun.of(record()), console) as viewer:
        for event in story()[:7]:
            viewer.show(event)
    assert 'weather(city="Rome")' in clean(file.getvalue())


def test_the_picture_is_for_terminals_that_can_show_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe and a dumb terminal get plain lines."""

    class Terminal(StringIO):
        def isatty(self) -> bool:
            return True

    run = LiveRun.of(record())
    monkeypatch.setenv("TERM", "xterm")
    assert isinstance(choose_viewer(run, Console(file=Terminal())), ScreenViewer)
    assert isinstance(choose_viewer(run, Console(file=StringIO())), PlainViewer)
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(choose_viewer(run, Console(file=Terminal())), PlainViewer)
