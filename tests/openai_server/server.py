"""Running the stand-in in a thread of the test's process, and clients of it."""

from types import TracebackType
from typing import Self

from openai import AsyncOpenAI

from tests.model_server.server import ModelServer
from tests.openai_server.app import KEY, create_app
from tests.openai_server.fault import Faults
from tests.openai_server.keeping import Keeping


class OpenAIServer:
    """The stand-in, for the length of a `with` block."""

    def __init__(self) -> None:
        self.keeping = Keeping()
        self.faults = Faults()
        self._server = ModelServer(create_app(self.keeping, self.faults))

    def __enter__(self) -> Self:
        self._server.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.__exit__(kind, failure, traceback)

    @property
    def base_url(self) -> str:
        """What a client takes as its base URL."""
        return self._server.base_url

    def client(self, *, api_key: str = KEY) -> AsyncOpenAI:
        """A client of one's own."""
        return AsyncOpenAI(api_key=api_key, base_url=self.base_url)
