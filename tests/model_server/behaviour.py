"""What a model does is named by its name, up to the first colon; this is the table of them.

    echo                                  the last user message's text
    slow:<seconds>[:<model>]              what that model says (echo), that much later
    hang                                  no answer, until the client leaves
    status:<code>:<times>:<nonce>[:<model>]
                                          this HTTP error so many times, then what that model says
    script:<name or JSON>                 the answers of a script, see `script`
    replay:<recording>[:<run>]            the recorded answers, see `replay`

Behaviours say what to answer and how late; waiting and writing are the server's. All but `status`
look at nothing but the request.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import TypeAlias

from tests.model_server.chat import FOREVER, Answer, ChatRequest, ModelError

Behaviour: TypeAlias = Callable[[ChatRequest], Answer]
"""Says what to answer; raises ModelError to refuse."""

DEFAULT_RETRY_AFTER_S = 1.0


class Behaviours:
    """The table: chooses a behaviour by the model's name."""

    def __init__(
        self,
        extra: Mapping[str, Behaviour] | None = None,
        *,
        retry_after_s: float = DEFAULT_RETRY_AFTER_S,
    ) -> None:
        self._table: dict[str, Behaviour] = {
            "echo": echo,
            "hang": hang,
            "slow": Slow(self),
            "status": Status(self, retry_after_s),
            **(extra or {}),
        }

    def __call__(self, request: ChatRequest) -> Answer:
        """Answer as the model's name says; an unknown name is a ModelError with status 404."""
        behaviour = self._table.get(request.behaviour)
        if behaviour is None:
            known = ", ".join(sorted(self._table))
            detail = f"no model {request.model!r}; names begin with one of {known}"
            raise ModelError(detail, code="model_not_found", status=404)
        return behaviour(request)


def echo(request: ChatRequest) -> Answer:
    """Say what the user said last."""
    return Answer(request.last_user_text)


def hang(request: ChatRequest) -> Answer:
    """Never answer; the client's timeout is what ends it."""
    return Answer(delay_s=FOREVER)


def slow_model(seconds: float, model: str = "echo") -> str:
    """Return the model name that answers as `model` does, so many seconds later."""
    return f"slow:{seconds}:{model}"


def status_model(code: int, times: int, nonce: str, model: str = "echo") -> str:
    """Return the model name that fails `times` times with HTTP `code`, then answers as `model`.

    The nonce, any text without a colon, names the count: each test takes its own.
    """
    return f"status:{code}:{times}:{nonce}:{model}"


class Slow:
    """Delays what another model says."""

    def __init__(self, others: Behaviour) -> None:
        self._others = others

    def __call__(self, request: ChatRequest) -> Answer:
        """Answer later; the seconds are the first part of the name's argument."""
        seconds, _, model = request.argument.partition(":")
        try:
            delay_s = float(seconds)
        except ValueError as failure:
            raise _bad_name(request, "slow:<seconds>[:<model>]") from failure
        return self._others(request.for_model(model or "echo")).delayed(delay_s)


class Status:
    """Fails a given number of times for each nonce. The counts live as long as the server."""

    def __init__(self, others: Behaviour, retry_after_s: float) -> None:
        self._others = others
        self._retry_after_s = retry_after_s
        self._failed: Counter[str] = Counter()

    def __call__(self, request: ChatRequest) -> Answer:
        """Fail, or answer where the nonce has had its failures."""
        code, times, nonce, *model = request.argument.split(":", 3) + [""] * 3
        if not (code.isdecimal() and int(code) >= 400 and times.isdecimal() and nonce):
            raise _bad_name(request, "status:<code>:<times>:<nonce>[:<model>]")
        if self._failed[nonce] >= int(times):
            return self._others(request.for_model(model[0] or "echo"))
        self._failed[nonce] += 1
        headers = {"Retry-After": f"{self._retry_after_s:g}"} if code == "429" else {}
        detail = f"failure {self._failed[nonce]} of {times} for {nonce!r}, as asked for"
        raise ModelError(detail, code="scripted_failure", status=int(code), headers=headers)


def _bad_name(request: ChatRequest, form: str) -> ModelError:
    detail = f"{request.model!r} is not of the form {form}"
    return ModelError(detail, code="model_not_found", status=404)
