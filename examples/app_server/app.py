"""The app server: HTTP in front, the client behind. The package's docstring has the tour."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, Request
from fastapi.responses import FileResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel

from agent_client import AgentsError, AsyncAgentClient, Run, RunEvent
from examples.app_server.errors import describe, explain


@asynccontextmanager
async def _lifespan(_: FastAPI) -> AsyncIterator[dict[str, AsyncAgentClient]]:
    async with AsyncAgentClient() as client:
        yield {"client": client}


app = FastAPI(title="Agents", lifespan=_lifespan, exception_handlers={AgentsError: explain})


class NewRun(BaseModel):
    """What a caller asks for."""

    agent: str
    input: str
    conversation_id: str | None = None


def opened_client(request: Request) -> AsyncAgentClient:
    """The one client of this process."""
    client: AsyncAgentClient = request.state.client
    return client


Client = Annotated[AsyncAgentClient, Depends(opened_client)]


async def _events(
    run_id: str, client: Client, last_event_id: Annotated[str | None, Header()] = None
) -> AsyncGenerator[RunEvent, None]:
    await client.run(run_id).get()  # an unknown run is an answer, not a stream that breaks
    return client.run(run_id).events(after=last_event_id)


@app.post("/runs", status_code=202)
async def submit(
    new: NewRun, client: Client, idempotency_key: Annotated[str | None, Header()] = None
) -> dict[str, Any]:
    """Accept a run."""
    run = await client.submit(**new.model_dump(), idempotency_key=idempotency_key)
    path = f"/runs/{run.id}"
    links = {"run": path, "events": f"{path}/events", "cancel": f"{path}/cancel"}
    return {"run_id": run.id, "links": links}


@app.get("/runs/{run_id}")
async def read_run(run_id: str, client: Client) -> Run:
    """Where a run stands."""
    return await client.run(run_id).get()


@app.post("/runs/{run_id}/cancel", status_code=202)
async def cancel(run_id: str, client: Client) -> dict[str, str]:
    """Stop a run."""
    return {"run_id": run_id, "result": await client.run(run_id).cancel()}


@app.get("/runs/{run_id}/events", response_class=EventSourceResponse)
async def watch(
    events: Annotated[AsyncGenerator[RunEvent, None], Depends(_events)],
) -> AsyncIterator[ServerSentEvent]:
    """Everything that happens in a run, until it ends. FastAPI adds the keep-alive comments."""
    async with aclosing(events):
        try:
            async for event in events:
                data = event.model_dump_json(exclude={"message": {"engine"}})
                yield ServerSentEvent(raw_data=data, event=event.type, id=event.cursor)
        except AgentsError as error:
            yield ServerSentEvent(data=describe(error), event="failure")


@app.get("/conversations/{conversation_id}/messages")
async def read_messages(
    conversation_id: str, client: Client, after: str | None = None
) -> list[dict[str, Any]]:
    """The newest 100 messages, or the first 100 behind a cursor; always oldest first."""
    messages = await client.history(conversation_id, after=after, limit=100)
    return [{"cursor": m.cursor, **m.model_dump(exclude={"engine"})} for m in messages]


@app.get("/", include_in_schema=False)
async def show_page() -> FileResponse:
    """A page that submits a run and shows it."""
    return FileResponse(Path(__file__).with_name("index.html"))
