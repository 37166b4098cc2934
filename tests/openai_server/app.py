"""The stand-in as an ASGI app, as the API's reference describes conversations and their items."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from tests.openai_server.checking import (
    BadRequestError,
    check_body,
    check_items,
    check_metadata,
)
from tests.openai_server.fault import Fault, Faults
from tests.openai_server.keeping import Keeping, MissingError

KEY = "sk-test"
_LOST = frozenset({Fault.LOST_ANSWER, Fault.LOST_REQUEST})
_STATUS = {Fault.LIMITED: 429, Fault.BROKEN: 500, Fault.OVERLOADED: 503}
_UNDONE = frozenset({Fault.LIMITED, Fault.BROKEN, Fault.LOST_REQUEST})

Handler = Callable[[Request], Awaitable[Response]]


class _Api:
    """The endpoints, over what is kept."""

    def __init__(self, keeping: Keeping) -> None:
        self._keeping = keeping

    async def create(self, request: Request) -> Response:
        body = check_body(await _json(request), {"items", "metadata"})
        items = check_items(body["items"]) if body.get("items") else []
        kept = self._keeping.create(check_metadata(body.get("metadata")))
        if items:
            self._keeping.add(kept.id, items)
        return JSONResponse(kept.body)

    async def retrieve(self, request: Request) -> Response:
        return JSONResponse(self._keeping.get(request.path_params["place"]).body)

    async def delete(self, request: Request) -> Response:
        place = request.path_params["place"]
        self._keeping.delete(place)
        return JSONResponse({"id": place, "object": "conversation.deleted", "deleted": True})

    async def add_items(self, request: Request) -> Response:
        body = check_body(await _json(request), {"items"})
        made = self._keeping.add(request.path_params["place"], check_items(body.get("items")))
        return JSONResponse(_list(made, has_more=False))

    async def list_items(self, request: Request) -> Response:
        query = request.query_params
        for name in query.keys() - {"after", "limit", "order", "include"}:
            raise BadRequestError("Unknown parameter", name, "unknown_parameter")
        limit, order = int(query.get("limit", "20")), query.get("order", "desc")
        if not 1 <= limit <= 100 or order not in {"asc", "desc"}:
            raise BadRequestError("1 to 100, asc or desc", "limit", "integer_above_max_value")
        items, has_more = self._keeping.page(
            request.path_params["place"], after=query.get("after"), limit=limit, order=order
        )
        return JSONResponse(_list(items, has_more=has_more))

    async def retrieve_item(self, request: Request) -> Response:
        return JSONResponse(self._keeping.item(**request.path_params))

    async def delete_item(self, request: Request) -> Response:
        place, item_id = request.path_params["place"], request.path_params["item_id"]
        self._keeping.item(place, item_id)
        del self._keeping.get(place).items[item_id]
        return JSONResponse(self._keeping.get(place).body)


def create_app(keeping: Keeping, faults: Faults) -> Starlette:
    """An API over `keeping`, with `faults`."""
    api = _Api(keeping)
    base = "/v1/conversations"
    routes = [
        ("POST", base, "conversation", api.create),
        ("GET", base + "/{place}", "conversation", api.retrieve),
        ("DELETE", base + "/{place}", "conversation", api.delete),
        ("POST", base + "/{place}/items", "items", api.add_items),
        ("GET", base + "/{place}/items", "items", api.list_items),
        ("GET", base + "/{place}/items/{item_id}", "item", api.retrieve_item),
        ("DELETE", base + "/{place}/items/{item_id}", "item", api.delete_item),
    ]
    return Starlette(
        routes=[
            Route(path, _Endpoint(f"{method} {name}", handler, faults), methods=[method])
            for method, path, name, handler in routes
        ]
    )


class _Endpoint:
    """An ASGI app, so that it can leave a request without an answer."""

    def __init__(self, name: str, handler: Handler, faults: Faults) -> None:
        self._name = name
        self._handler = handler
        self._faults = faults

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        fault = self._faults.arrive(self._name)
        response: Response | None = None
        if fault not in _UNDONE:
            response = await self._answer(request)
        if fault in _LOST:
            await receive()  # returns when the client has left
            return
        if fault is Fault.ENDLESS:
            response = StreamingResponse(_drip(), media_type="application/json")
        elif fault is not None or response is None:
            response = _error(_STATUS.get(fault or Fault.BROKEN, 500), "planned", "planned")
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        if request.headers.get("authorization") != f"Bearer {KEY}":
            return _error(401, "Incorrect API key provided.", "invalid_api_key")
        try:
            return await self._handler(request)
        except BadRequestError as error:
            return _error(400, str(error), error.code, error.param)
        except MissingError as error:
            return _error(404, str(error), "not_found")


async def _drip() -> AsyncIterator[bytes]:
    while True:
        yield b" "
        await asyncio.sleep(0.05)


async def _json(request: Request) -> Any:
    try:
        return json.loads(await request.body())
    except ValueError as error:
        raise BadRequestError("no JSON", "", "invalid_json") from error


def _list(items: list[dict[str, Any]], *, has_more: bool) -> dict[str, Any]:
    return {
        "object": "list",
        "data": items,
        "first_id": items[0]["id"] if items else None,
        "last_id": items[-1]["id"] if items else None,
        "has_more": has_more,
    }


def _error(status: int, message: str, code: str, param: str | None = None) -> Response:
    kind = "server_error" if status >= 500 else "invalid_request_error"
    error = {"message": message, "type": kind, "param": param, "code": code}
    return JSONResponse({"error": error}, status, headers={"x-request-id": "req_test"})
