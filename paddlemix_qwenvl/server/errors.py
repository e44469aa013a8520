"""Errors in OpenAI's form. Texts are fixed, or our own exceptions' without addresses in memory; there is never a traceback."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from paddlemix_qwenvl.errors import (
    ConfigurationError,
    ContextError,
    GenerationError,
    GroundingError,
    MediaError,
    PromptError,
    QwenVLError,
)
from paddlemix_qwenvl.server.protocol import ErrorAnswer

LONGEST = 500  # characters of a message
RETRY_AFTER = 5  # seconds
_LEFT = 499  # as nginx logs it; nobody reads it
_LOG = logging.getLogger(__name__)
_ADDRESS = re.compile(r"(?: at)? 0x[0-9a-fA-F]{4,}")
_TYPES = {400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error"}
_TEXTS = {
    404: "there is no such address: see /openapi.json for those there are",
    405: "this address takes another method: see /openapi.json",
}
_OF_REQUESTS = (ConfigurationError, GenerationError, GroundingError, MediaError, PromptError)
_FAILED = "the server failed at this request; its log says more"


class Gone(Exception):
    """The client has left."""


class RequestError(QwenVLError):
    """What a request is answered with in place of an answer.

    Args:
        message: what was given, and what to do.
        status: of HTTP.
        param: the field that is wrong.
        code: by which programs know the error.
        retry_after: seconds after which it is worth another try.
    """

    def __init__(
        self,
        message: str,
        status: int = 400,
        param: str | None = None,
        code: str | None = None,
        retry_after: int | None = None,
    ):
        super().__init__(message)
        self.status, self.param, self.code, self.retry_after = status, param, code, retry_after


def as_request_error(error: Exception) -> RequestError:
    """Any exception as what may be said of it."""
    if isinstance(error, RequestError):
        return error
    if isinstance(error, ContextError):
        return RequestError(str(error), 400, "messages", "context_length_exceeded")
    if isinstance(error, _OF_REQUESTS):
        return RequestError(str(error))
    _LOG.error("a request failed", exc_info=error)
    return RequestError(_FAILED, 500)


def body_of(error: RequestError) -> ErrorAnswer:
    """What is sent of an error."""
    message = " ".join(_ADDRESS.sub("", str(error)).split())
    message = message if len(message) <= LONGEST else message[: LONGEST - 3] + "..."
    kind = _TYPES.get(error.status, "invalid_request_error" if error.status < 500 else "server_error")
    return {
        "error": {"message": message, "type": kind, "param": error.param and error.param[:LONGEST], "code": error.code}
    }


def response_of(error: RequestError) -> JSONResponse:
    """The whole answer."""
    headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
    return JSONResponse(body_of(error), error.status, headers)


def install(app: FastAPI) -> None:
    """Answer every exception in this form."""

    @app.exception_handler(RequestValidationError)
    async def refuse(_: Request, error: RequestValidationError) -> JSONResponse:
        return response_of(invalid(error.errors(), error.body))

    @app.exception_handler(HTTPException)
    async def not_found(_: Request, error: HTTPException) -> JSONResponse:
        response = response_of(RequestError(_TEXTS.get(error.status_code, error.detail), error.status_code))
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(QwenVLError)
    async def known(_: Request, error: QwenVLError) -> JSONResponse:
        return response_of(as_request_error(error))

    @app.exception_handler(Gone)
    async def gone(_: Request, error: Gone) -> Response:
        return Response(status_code=_LEFT)

    @app.exception_handler(Exception)
    async def unknown(_: Request, error: Exception) -> JSONResponse:
        return response_of(RequestError(_FAILED, 500))


def invalid(found: Sequence[Mapping[str, Any]], body: Any) -> RequestError:
    """What pydantic found wrong in a request: the first unknown field, else what lies deepest, of a right kind if there is such."""
    unknown = [one for one in found if one["type"] == "extra_forbidden"]
    one = unknown[0] if unknown else max(found, key=lambda each: (len(each["loc"]), "_type" not in each["type"]))
    path = _path(one, body)
    name = ".".join(path) or None
    if unknown:
        hint = _hint(path[0]) if len(path) == 1 else ""
        return RequestError(f"{name} is no field that this server knows{hint}: leave it out.", 400, name)
    return RequestError(f"{name or 'the body'}: {_reason(one)}.", 400, name)


def _path(one: Mapping[str, Any], body: Any) -> list[str]:
    """Where in the body something is wrong, without what pydantic calls the kinds of values there. A kind that is told by `type`
    comes before the fields of the value, one of which may have its name."""
    path, at, steps, told = [], body, one["loc"][1:], None
    for number, step in enumerate(steps, 1):
        if isinstance(at, dict) and at is not told and step == at.get("type") != "function":
            told = at
            continue
        is_there = step in at if isinstance(at, dict) else isinstance(at, list) and isinstance(step, int)
        if is_there or (number == len(steps) and one["type"] in ("missing", "extra_forbidden")):
            path.append(str(step))
            at = at[step] if is_there else None
    return path


def _reason(one: Mapping[str, Any]) -> str:
    """What was expected, without the value that was given."""
    context = one.get("ctx", {})
    if one["type"] == "union_tag_invalid":
        return f"{context['discriminator']} should be one of {context['expected_tags']}"
    if one["type"] == "union_tag_not_found":
        return f"{context['discriminator']} is missing"
    return one["msg"].removeprefix("Value error, ")


def _hint(name: str) -> str:
    from paddlemix_qwenvl.server.protocol_chat import ChatRequest

    if name.startswith("guided_"):
        return " (use structured_outputs)"
    near = get_close_matches(name, ChatRequest.model_fields, 1)
    return f" (did you mean {near[0]!r}?)" if near else ""
