"""Errors as answers: a status code for each kind, its name, and what to do next."""

from http import HTTPStatus
from typing import Final

from fastapi import Request
from fastapi.responses import JSONResponse

import agent_client as agents

STATUS_CODES: Final[dict[type[Exception], HTTPStatus]] = {
    agents.UnknownRunError: HTTPStatus.NOT_FOUND,
    agents.UnknownAgentError: HTTPStatus.NOT_FOUND,
    agents.ConversationBusyError: HTTPStatus.CONFLICT,
    agents.IdempotencyConflictError: HTTPStatus.CONFLICT,
    agents.PayloadTooLargeError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    agents.RequestError: HTTPStatus.UNPROCESSABLE_ENTITY,
    agents.InvalidIdError: HTTPStatus.UNPROCESSABLE_ENTITY,
    agents.UnavailableError: HTTPStatus.SERVICE_UNAVAILABLE,
}
"""The first kind that an error is one of decides. None: it is this server's own fault."""


async def explain(_request: Request, error: Exception) -> JSONResponse:
    """The answer to a request that raised an error of this project."""
    fitting = (code for kind, code in STATUS_CODES.items() if isinstance(error, kind))
    return JSONResponse(describe(error), next(fitting, HTTPStatus.INTERNAL_SERVER_ERROR))


def describe(error: Exception) -> dict[str, str]:
    """An error as JSON."""
    return {"error": type(error).__name__, "message": str(error)}
