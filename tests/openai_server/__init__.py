"""A stand-in for OpenAI's Conversations API, over HTTP, with faults where a test asks for them."""

from tests.openai_server.app import KEY, create_app
from tests.openai_server.fault import Fault, Faults
from tests.openai_server.keeping import Keeping

__all__ = ["KEY", "Fault", "Faults", "Keeping", "create_app"]
