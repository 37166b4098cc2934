"""What is sealed of a run: what was asked, what came of it, and the text that is being written."""

from typing import Final, NoReturn, TypeVar

from pydantic import BaseModel, ConfigDict, JsonValue

from shared.codec import decode, encode, storable
from shared.errors import CorruptEntryError, TamperedError
from shared.event import DeltaEvent
from shared.message import Content, Sealed, Usage
from shared.request_digest import asked_for
from shared.run import Ending, NewRun, Run, RunError, RunOptions, RunStatus
from shared.sealing.binding import Fact, facts_of_delta, facts_of_outcome, facts_of_request
from shared.sealing.key_ring import AES_GCM, KeyRing
from shared.version import SEALED_VERSION

Body = TypeVar("Body", bound=BaseModel)

LAYERS: Final = (AES_GCM,)


class RequestBody(BaseModel):
    """What of a request only those see who can open it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    input: Content
    metadata: dict[str, JsonValue]
    options: RunOptions
    version: int


class OutcomeBody(BaseModel):
    """What of an outcome only those see who can open it, and the numbers beside it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    output: JsonValue = None
    error: RunError | None = None
    usage: Usage = Usage()
    rounds: int = 0


class RunSealer:
    """Seals what a run says and opens it again. `open_` methods raise `SealError`."""

    def __init__(self, key_ring: KeyRing) -> None:
        self._key_ring = key_ring

    def seal_request(self, new: NewRun) -> NewRun:
        """What is submitted, with input, metadata and options sealed.

        Raises:
            UnstorableError: They could not be read again.
        """
        body = RequestBody.model_construct(
            input=new.input, metadata=new.metadata, options=new.options, version=new.version
        )
        data = encode(body).encode()
        shell = new.model_copy(
            update={
                "input": "",
                "metadata": {},
                "options": RunOptions(),
                "version": max(new.version, SEALED_VERSION),
                "idempotency_key": storable(new.idempotency_key),
                "request_digest": self._digest(new),
            }
        )
        return shell.model_copy(
            update={"sealed": self._seal(data, new.id, facts_of_request(shell))}
        )

    def open_request(self, run: Run, sealed: Sealed) -> Run:
        """The run with what was asked."""
        where = f"The request of run {run.id}"
        body = self._open(RequestBody, sealed, run.id, facts_of_request(run), where)
        return run.model_copy(
            update={
                "input": body.input,
                "metadata": body.metadata,
                "options": body.options,
                "version": body.version,
                "sealed": None,
                "request_digest": None,
            }
        )

    def seal_ending(self, new: NewRun, ending: Ending) -> Ending:
        """An outcome, with output and error sealed.

        Raises:
            UnstorableError: They could not be read again.
        """
        body = OutcomeBody.model_construct(
            output=ending.output, error=ending.error, usage=ending.usage, rounds=ending.rounds
        )
        facts = facts_of_outcome(new, RunStatus(ending.status))
        sealed = self._seal(encode(body).encode(), new.id, facts)
        return ending.model_copy(update={"output": None, "error": None, "sealed": sealed})

    def open_ending(self, run: Run, sealed: Sealed) -> Run:
        """The run with what came of it. The numbers are the sealed ones, too."""
        where = f"The outcome of run {run.id}"
        body = self._open(OutcomeBody, sealed, run.id, facts_of_outcome(run, run.status), where)
        return run.model_copy(
            update={
                "output": body.output,
                "error": body.error,
                "usage": body.usage,
                "rounds": body.rounds,
                "sealed_outcome": None,
            }
        )

    def seal_delta(self, event: DeltaEvent) -> DeltaEvent:
        """A piece of text, sealed."""
        data = event.text.encode(errors="replace")
        sealed = self._seal(data, event.run_id, facts_of_delta(event))
        return event.model_copy(update={"text": "", "sealed": sealed})

    def open_delta(self, event: DeltaEvent, sealed: Sealed) -> DeltaEvent:
        """The piece of text again."""
        where = f"Event {event.cursor} of run {event.run_id}"
        data = self._bytes(sealed, event.run_id, facts_of_delta(event), where)
        return event.model_copy(update={"text": data.decode(errors="replace"), "sealed": None})

    def _digest(self, new: NewRun) -> str:
        """See `request_digest`. Bound to its idempotency key: equal inputs have other digests."""
        if new.idempotency_key is None:
            return ""
        key = storable(new.idempotency_key)
        return self._key_ring.digest(["digest", new.conversation_id, key, asked_for(new)])

    def _seal(self, data: bytes, run_id: str, facts: list[Fact]) -> Sealed:
        return self._key_ring.seal(data, scope=scope_of(run_id), facts=facts)

    def _bytes(self, sealed: Sealed, run_id: str, facts: list[Fact], where: str) -> bytes:
        data = self._key_ring.open(sealed, scope=scope_of(run_id), facts=facts, where=where)
        if sealed.layers != LAYERS:
            refuse_layers(sealed, where)
        return data

    def _open(
        self, kind: type[Body], sealed: Sealed, run_id: str, facts: list[Fact], where: str
    ) -> Body:
        data = self._bytes(sealed, run_id, facts, where)
        try:
            return decode(kind, data, where=where)
        except CorruptEntryError as error:
            raise TamperedError(f"{error} It was altered, and is kept as it is.") from error


def scope_of(run_id: str) -> str:
    """The scope of what a run says in a key ring, its messages apart."""
    return f"run:{run_id}"


def refuse_layers(sealed: Sealed, where: str) -> NoReturn:
    """Raises `TamperedError` for layers that nobody writes here."""
    raise TamperedError(f"{where} has {len(sealed.layers)} layers, which nobody writes there.")
