"""The routes: a request is checked by its type, made by `asking`, run by the service and told by `chat` or `completions`."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from fastapi.routing import APIRoute
from pydantic_core import from_json
from starlette.exceptions import HTTPException

from paddlemix_qwenvl.engine.session import Assistant
from paddlemix_qwenvl.server import errors
from paddlemix_qwenvl.server.asking import ask_chat, ask_completion, takes_long, text_of, token_ids
from paddlemix_qwenvl.server.chat import Chat
from paddlemix_qwenvl.server.completions import Texts
from paddlemix_qwenvl.server.description import describe
from paddlemix_qwenvl.server.errors import RETRY_AFTER, RequestError
from paddlemix_qwenvl.server.keys import KeyCheck, salt
from paddlemix_qwenvl.server.limits import Limits, RequestLimit
from paddlemix_qwenvl.server.messages import media_parts
from paddlemix_qwenvl.server.protocol import ErrorAnswer, Given, Health, ModelCard, ModelList, Sampling
from paddlemix_qwenvl.server.protocol_chat import ChatCompletion, ChatRequest, Conversation
from paddlemix_qwenvl.server.protocol_completions import (
    Completion,
    CompletionRequest,
    Detokenized,
    DetokenizeRequest,
    TokenizeChat,
    Tokenized,
    TokenizeRequest,
)
from paddlemix_qwenvl.server.spelling import Spelling
from paddlemix_qwenvl.server.streams import pieces, server_sent_events, unless_gone
from paddlemix_qwenvl.server.web import OwnPages, SafeHeaders, page_routes

if TYPE_CHECKING:
    from paddlemix_qwenvl.server.media import MediaPolicy
    from paddlemix_qwenvl.server.service import Service

_REFUSED = {"model": ErrorAnswer, "description": "What was wrong."}
_ERRORS: dict[int | str, Any] = {"4XX": _REFUSED, "5XX": _REFUSED}
_EVENT = {"type": "object", "properties": {"data": {"type": "string"}}, "required": ["data"]}
_STREAM = {"content": {"text/event-stream": {"itemSchema": _EVENT}}, "description": "The answer, or its events."}
T = TypeVar("T")
_EVENTS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


class _Json(Request):
    """A request whose JSON is read strictly: no NaN, no half characters, no endless nesting."""

    async def json(self) -> Any:
        try:
            return _whole_numbers(from_json(await self.body(), allow_inf_nan=False))
        except ValueError as error:
            raise HTTPException(400, f"the body is no JSON: {error}.") from None


def _whole_numbers(value: Any) -> Any:
    """JSON does not tell 1.0 from 1."""
    if isinstance(value, dict):
        return {name: _whole_numbers(each) for name, each in value.items()}
    if isinstance(value, list):
        return [*map(_whole_numbers, value)]
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value


class _Route(APIRoute):
    def get_route_handler(self) -> Callable:
        handle = super().get_route_handler()

        async def read_strictly(request: Request) -> Response:
            return await handle(_Json(request.scope, request.receive))

        return read_strictly


class Api:
    """What the routes do.

    Args:
        service: has the model.
        media: loads what a request shows.
    """

    def __init__(self, service: Service, media: MediaPolicy):
        self._service, self._media = service, media
        self._created = int(time.time())

    @cached_property
    def _spelling(self) -> Spelling:
        return Spelling(self._service.assistant.processor.tokenizer)

    def routes(self) -> APIRouter:
        """All of them."""
        router = APIRouter(route_class=_Route, responses=_ERRORS)
        told = {"response_model": ChatCompletion, "responses": {200: _STREAM}}
        router.add_api_route("/v1/chat/completions", self.chat, methods=["POST"], **told)
        told = {"response_model": Completion, "responses": {200: _STREAM}}
        router.add_api_route("/v1/completions", self.complete, methods=["POST"], **told)
        router.add_api_route("/v1/models", self.models, response_model=ModelList)
        router.add_api_route("/v1/models/{model:path}", self.model, response_model=ModelCard)
        told = {"response_model": Health, "responses": {503: {"model": Health, "description": "Not ready."}}}
        router.add_api_route("/health", self.health, **told)
        router.add_api_route("/tokenize", self.tokenize, methods=["POST"], response_model=Tokenized)
        router.add_api_route("/detokenize", self.detokenize, methods=["POST"], response_model=Detokenized)
        return router

    async def chat(self, body: ChatRequest, request: Request) -> Response:
        """The next turn of a conversation, whole or as server-sent events."""
        assistant, model = self._ready(body.model)

        async def answers() -> Chat:
            media = await self._media.load(media_parts(body))
            shared = salt(request, body.cache_salt)

            def make() -> Chat:
                asked = ask_chat(assistant, body, media, shared)
                return Chat(body, asked, assistant.processor, self._spelling, model)

            return await self._prepared(make, request, body, media)

        return await self._answer(request, body, answers())

    async def complete(self, body: CompletionRequest, request: Request) -> Response:
        """What follows a text, or each of several, whole or as server-sent events."""
        assistant, model = self._ready(body.model)
        shared = salt(request, body.cache_salt)

        def make() -> Texts:
            return Texts(body, ask_completion(assistant, body, shared), self._spelling, model)

        return await self._answer(request, body, self._prepared(make, request, body))

    async def _prepared(self, make: Callable[[], T], request: Request, body: Given, media: Sequence[Any] = ()) -> T:
        """What is made of a request on a thread."""
        parts = media_parts(body) if isinstance(body, Conversation) else []
        text_bytes = len(await request.body()) - sum(len(part[part["type"]]) for part in parts)
        return await self._service.prepare(make, takes_long(body, text_bytes, media))

    async def _answer(self, request: Request, body: Sampling, making: Awaitable[Chat | Texts]) -> Response:
        """Run what is asked. A stream begins when the engine has taken it, so that until then errors have their status."""

        async def begun() -> tuple[Chat | Texts, AsyncIterator]:
            answers = await making
            return answers, await self._service.run(answers.asked.requests)

        async def whole() -> Response:
            answers, events = await begun()
            async with aclosing(events):
                return JSONResponse(await answers.whole(pieces(events, body)))

        if not body.stream:
            return await unless_gone(request, whole())
        answers, events = await unless_gone(request, begun())
        lines = server_sent_events(request, answers.chunks(pieces(events, body)), events)
        return StreamingResponse(lines, media_type="text/event-stream", headers=_EVENTS)

    async def models(self) -> ModelList:
        """The names that the model is served by."""
        return {"object": "list", "data": [self._card(name) for name in self._service.model_names]}

    async def model(self, model: str) -> ModelCard:
        """One of them."""
        self._named(model)
        return self._card(model)

    async def health(self) -> Response:
        """How far the server is; 503 unless it is ready."""
        health = self._service.health()
        return JSONResponse(health, 200 if health["state"] == "ready" else 503)

    async def tokenize(self, body: TokenizeRequest, request: Request) -> Tokenized:
        """The token ids of a text, or of a conversation as the model is given it."""
        assistant, _ = self._ready(body.model)
        media = await self._media.load(media_parts(body)) if isinstance(body, TokenizeChat) else []
        ids, spelling = await self._prepared(
            lambda: (token_ids(assistant, body, media), self._spelling), request, body, media
        )
        texts = [spelling.text(i) for i in ids] if body.return_token_strs else None
        return {"count": len(ids), "max_model_len": assistant.engine.facts.context, "tokens": ids, "token_strs": texts}

    async def detokenize(self, body: DetokenizeRequest, request: Request) -> Detokenized:
        """The text of token ids, special ones by name."""
        assistant, _ = self._ready(body.model)
        return {"prompt": await self._prepared(lambda: text_of(assistant, body.tokens), request, body)}

    def _ready(self, model: str | None) -> tuple[Assistant, str]:
        """The model, and the name that answers say."""
        self._named(model)
        if self._service.assistant is None:
            raise RequestError("the model is still loading: see /health.", 503, code="loading", retry_after=RETRY_AFTER)
        return self._service.assistant, model or self._service.model_names[0]

    def _named(self, model: str | None) -> None:
        if model is not None and model not in self._service.model_names:
            names = ", ".join(self._service.model_names)
            raise RequestError(f"there is no model of that name: take one of {names}.", 404, "model", "model_not_found")

    def _card(self, name: str) -> ModelCard:
        card = {"id": name, "object": "model", "created": self._created, "owned_by": "paddlemix_qwenvl"}
        assistant = self._service.assistant
        return card | ({"max_model_len": assistant.engine.facts.context} if assistant else {})


def create_app(
    service: Service, media: MediaPolicy, limits: Limits, keys: Sequence[str] = (), local: bool = False
) -> FastAPI:
    """The server's application. It has no pages of documentation, which would fetch their parts from foreign addresses.

    Args:
        limits: of one request.
        keys: of clients; without any, everybody may ask.
        local: without keys, nobody but this machine may.
    """
    app = FastAPI(title="paddlemix_qwenvl", docs_url=None, redoc_url=None)
    errors.install(app)
    app.include_router(Api(service, media).routes())
    app.include_router(service.metrics.routes())
    app.include_router(page_routes())
    app.add_middleware(RequestLimit, limits=limits)
    describe(app, service)
    if keys:
        app.add_middleware(KeyCheck, keys=keys)
    app.add_middleware(OwnPages, local=local and not keys)
    app.add_middleware(SafeHeaders)
    return app
