"""A picture of a run as it looks on a terminal, to put into a document."""

import re
from datetime import UTC, datetime
from io import StringIO
from typing import Final

from rich.console import Console

from agent_client.live_view.screen import draw_report
from agent_client.live_view.state import LiveRun

_WEB_FONT: Final = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)


def render_text(run: LiveRun, *, width: int = 100, now: datetime | None = None) -> str:
    """The whole run as it stands, as text without colours, at most `width` columns wide."""
    console = Console(file=StringIO(), width=width, force_terminal=False, color_system=None)
    with console.capture() as capture:
        console.print(draw_report(run, now or datetime.now(UTC)))
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def render_svg(
    run: LiveRun, *, width: int = 100, title: str = "agent-client", now: datetime | None = None
) -> str:
    """The whole run as it stands, as an SVG image of a terminal. Equal runs give equal images."""
    console = Console(
        file=StringIO(), width=width, record=True, force_terminal=True, color_system="truecolor"
    )
    console.print(draw_report(run, now or datetime.now(UTC)))
    # Without the fonts that rich would load from elsewhere: an image must not tell who sees it.
    return _WEB_FONT.sub("", console.export_svg(title=title, unique_id="run"))
