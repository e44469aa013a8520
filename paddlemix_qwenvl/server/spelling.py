"""Tokens and their log probabilities, as answers tell them."""

from __future__ import annotations

from collections.abc import Iterable

from paddlemix_qwenvl.engine.events import Token
from paddlemix_qwenvl.models.tokenizer import Tokenizer
from paddlemix_qwenvl.server.protocol_chat import TokenLogprob, TopLogprob

LEAST = -9999.0
"""In place of minus infinity, which JSON has not."""


class Spelling:
    """Tokens of a tokenizer as bytes; a released one takes a moment to be read."""

    def __init__(self, tokenizer: Tokenizer):
        self._bytes = tokenizer.token_bytes()

    def text(self, token_id: int) -> str:
        """A token alone; bytes that are no whole character are U+FFFD."""
        return self._bytes.get(token_id, b"").decode(errors="replace")

    def logprobs(self, tokens: Iterable[Token]) -> list[TokenLogprob]:
        """As in an answer of a chat."""
        return [
            self._one(token.token_id, token.log_probability)
            | {"top_logprobs": [self._one(*each) for each in token.top]}
            for token in tokens
        ]

    def _one(self, token_id: int, log_probability: float) -> TopLogprob:
        return {
            "token": self.text(token_id),
            "logprob": max(log_probability, LEAST),
            "bytes": [*self._bytes.get(token_id, b"")],
        }
