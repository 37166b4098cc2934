"""A run as it happens, for people: on a terminal, as plain lines, as an image.

`LiveRun` is what is known of a run, `after` is how an event changes it, and viewers show it.
"""

from agent_client.live_view.capture import render_svg, render_text
from agent_client.live_view.reduction import after, ended, resumed
from agent_client.live_view.state import Block, Call, LiveRun, Note, Round
from agent_client.live_view.viewer import PlainViewer, ScreenViewer, Viewer, choose_viewer

__all__ = [
    "Block",
    "Call",
    "LiveRun",
    "Note",
    "PlainViewer",
    "Round",
    "ScreenViewer",
    "Viewer",
    "after",
    "choose_viewer",
    "ended",
    "render_svg",
    "render_text",
    "resumed",
]
