"""/v1/completions: pieces of answers as texts, whole or in chunks."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from paddlemix_qwenvl.server.asking import Asked
from paddlemix_qwenvl.server.protocol_completions import (
    Completion,
    CompletionChoice,
    CompletionLogprobs,
    CompletionRequest,
)
from paddlemix_qwenvl.server.spelling import Spelling
from paddlemix_qwenvl.server.streams import Piece, Tally


@dataclass
class Texts:
    """One request for texts, and what is told of them.

    Args:
        model: the name that answers say.
    """

    body: CompletionRequest
    asked: Asked
    spelling: Spelling
    model: str
    id: str = field(default_factory=lambda: f"cmpl-{uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    def __post_init__(self):
        self._tally = Tally(self.asked, self.body.n or 1)
        self._offsets = [0] * len(self.asked.requests)

    async def whole(self, pieces: AsyncIterator[Piece]) -> Completion:
        """All texts, when they have finished."""
        texts, found = [""] * len(self._offsets), [self._no_logprobs() for _ in self._offsets]
        choices: list[Any] = [None] * len(self._offsets)
        async for piece in pieces:
            told = self._choice(piece)
            texts[piece.index] += told["text"]
            for name, values in (told["logprobs"] or {}).items():
                found[piece.index][name] += values
            if piece.finished:
                logprobs = None if self.body.logprobs is None else found[piece.index]
                choices[piece.index] = told | {"text": texts[piece.index], "logprobs": logprobs}
        return {**self._head(), "choices": choices, "usage": self._tally.usage()}

    async def chunks(self, pieces: AsyncIterator[Piece]) -> AsyncIterator[Completion]:
        """The texts as they come."""
        usage = {"usage": None} if self.body.includes_usage else {}
        async for piece in pieces:
            yield {**self._head(), "choices": [self._choice(piece)], **usage}
        if usage:
            yield {**self._head(), "choices": [], "usage": self._tally.usage()}

    def _head(self) -> dict[str, Any]:
        return {"id": self.id, "object": "text_completion", "created": self.created, "model": self.model}

    def _choice(self, piece: Piece) -> CompletionChoice:
        self._tally.add(piece)
        stop = {"stop_reason": piece.stop} if piece.finished else {}
        return {
            "index": piece.index,
            "text": piece.text,
            "logprobs": self._logprobs(piece),
            "finish_reason": piece.reason,
            **stop,
        }

    def _no_logprobs(self) -> CompletionLogprobs:
        return {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}

    def _logprobs(self, piece: Piece) -> CompletionLogprobs | None:
        if self.body.logprobs is None:
            return None
        found = self._no_logprobs()
        for token in self.spelling.logprobs(piece.tokens):
            found["tokens"].append(token["token"])
            found["token_logprobs"].append(token["logprob"])
            found["top_logprobs"].append({each["token"]: each["logprob"] for each in token["top_logprobs"]})
            found["text_offset"].append(self._offsets[piece.index])
            self._offsets[piece.index] += len(token["token"])
        return found
