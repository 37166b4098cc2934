"""A stand-in model server: speaks OpenAI chat completions and replays recorded conversations.

With it the real OpenAI client, real agents and real workers can be driven without a provider.
`behaviour` lists the model names that it answers to.
"""

from tests.model_server.app import create_app
from tests.model_server.behaviour import slow_model, status_model
from tests.model_server.chat import Answer, Message, ToolCall
from tests.model_server.recording import (
    RecordedRound,
    RecordedRun,
    Recording,
    RecordingError,
    find_folder,
    load_recordings,
    validate,
)
from tests.model_server.replay import replay_model
from tests.model_server.script import Script, script_model, tool_call
from tests.model_server.server import ModelServer, ModelServerProcess
from tests.model_server.stats import Stats
from tests.model_server.tools import RecordedTools, ToolMismatchError

__all__ = [
    "Answer",
    "Message",
    "ModelServer",
    "ModelServerProcess",
    "RecordedRound",
    "RecordedRun",
    "RecordedTools",
    "Recording",
    "RecordingError",
    "Script",
    "Stats",
    "ToolCall",
    "ToolMismatchError",
    "create_app",
    "find_folder",
    "load_recordings",
    "replay_model",
    "script_model",
    "slow_model",
    "status_model",
    "tool_call",
    "validate",
]
