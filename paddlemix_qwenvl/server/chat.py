"""/v1/chat/completions: pieces of answers as messages, whole or in chunks."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from paddlemix_qwenvl.models.processor import Processor
from paddlemix_qwenvl.server import tool_calls
from paddlemix_qwenvl.server.asking import Asked
from paddlemix_qwenvl.server.located import first_shown, grounding, pictures
from paddlemix_qwenvl.server.protocol_chat import (
    AnswerMessage,
    CalledTool,
    ChatChunk,
    ChatCompletion,
    ChatRequest,
    ChunkChoice,
    TokenLogprob,
)
from paddlemix_qwenvl.server.spelling import Spelling
from paddlemix_qwenvl.server.streams import Piece, Tally


@dataclass
class Chat:
    """One request for answers, and what is told of them.

    Args:
        model: the name that answers say.
    """

    body: ChatRequest
    asked: Asked
    processor: Processor
    spelling: Spelling
    model: str
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    def __post_init__(self):
        self._tally = Tally(self.asked, self.body.n or 1)
        self._texts = [""] * self._tally.n
        self._parsers: list[tool_calls.ToolCallParser | None] = [None] * self._tally.n
        if tool_calls.offered(self.body):
            most = 1 if self.body.parallel_tool_calls is False else None
            self._parsers = [tool_calls.ToolCallParser(most) for _ in self._parsers]

    async def whole(self, pieces: AsyncIterator[Piece]) -> ChatCompletion:
        """All answers, when they have finished."""
        choices: list[dict[str, Any]] = [{} for _ in self._texts]
        told: list[list[str | CalledTool]] = [[] for _ in self._texts]
        logprobs: list[list[TokenLogprob]] = [[] for _ in self._texts]
        async for piece in pieces:
            told[piece.index] += self._told(piece)
            logprobs[piece.index] += self._logprobs(piece)
            if piece.finished:
                choices[piece.index] = {
                    "index": piece.index,
                    "message": self._message(piece.index, told[piece.index]),
                    "logprobs": {"content": logprobs[piece.index]} if self.body.logprobs else None,
                    **self._end(piece),
                }
        head = {"id": self.id, "object": "chat.completion", "created": self.created, "model": self.model}
        return {**head, "choices": choices, "usage": self._tally.usage()}

    async def chunks(self, pieces: AsyncIterator[Piece]) -> AsyncIterator[ChatChunk]:
        """The answers as they come: the role, pieces, and at last the reason of the end with what is known then."""
        shown = {"pictures": pictures(self.asked.sizes, self.processor)} if self.body.grounding else {}
        for index in range(self._tally.n):
            yield self._chunk([self._delta(index, {"role": "assistant", "content": "", **shown})])
        held: list[list[TokenLogprob]] = [[] for _ in self._texts]
        async for piece in pieces:
            held[piece.index] += self._logprobs(piece)
            for told in self._told(piece):
                delta = {"content": told} if isinstance(told, str) else {"tool_calls": [told]}
                yield self._chunk([self._delta(piece.index, delta, held[piece.index])])
                held[piece.index] = []
            if piece.finished:
                last = self._delta(piece.index, self._grounding(piece.index), held[piece.index])
                yield self._chunk([last | self._end(piece)])
        if self.body.includes_usage:
            yield {**self._chunk([]), "usage": self._tally.usage()}

    def _told(self, piece: Piece) -> list[str | CalledTool]:
        """Content and calls that a piece brings."""
        self._tally.add(piece)
        self._texts[piece.index] += piece.text
        parser = self._parsers[piece.index]
        if parser is None:
            return [piece.text] if piece.text else []
        return [*parser.add(piece.text), *(parser.end() if piece.finished else ())]

    def _logprobs(self, piece: Piece) -> list[TokenLogprob]:
        return self.spelling.logprobs(piece.tokens) if self.body.logprobs else []

    def _message(self, index: int, told: list[str | CalledTool]) -> AnswerMessage:
        content = "".join(each for each in told if isinstance(each, str))
        calls = tool_calls.merged([each for each in told if not isinstance(each, str)])
        message = {"role": "assistant", "content": None if calls and not content.strip() else content, "refusal": None}
        return message | ({"tool_calls": calls} if calls else {}) | self._grounding(index)

    def _grounding(self, index: int) -> AnswerMessage:
        if not self.body.grounding:
            return {}
        found = grounding(self._texts[index], self.asked.sizes, self.processor, first_shown(self.body))
        return {"grounding": found}

    def _end(self, piece: Piece) -> dict[str, Any]:
        parser = self._parsers[piece.index]
        reason = "tool_calls" if parser and parser.count and piece.reason == "stop" else piece.reason
        return {"finish_reason": reason, "stop_reason": piece.stop}

    def _delta(self, index: int, delta: AnswerMessage, logprobs: list | None = None) -> ChunkChoice:
        told = {"content": logprobs} if logprobs else None
        return {"index": index, "delta": delta, "logprobs": told, "finish_reason": None}

    def _chunk(self, choices: list[ChunkChoice]) -> ChatChunk:
        head = {"id": self.id, "object": "chat.completion.chunk", "created": self.created, "model": self.model}
        return {**head, "choices": choices, **({"usage": None} if self.body.includes_usage else {})}
