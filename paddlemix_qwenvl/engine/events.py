"""What `Engine.step` tells about its requests."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Progress:
    """A part of a prompt has been computed.

    Attributes:
        request_id: of `Engine.add`.
        done, total: tokens of the prompt.
    """

    request_id: int
    done: int
    total: int


@dataclass(frozen=True)
class Token:
    """An answer has grown by one token.

    Attributes:
        index: which of the request's answers.
        token_id: the new token.
        log_probability: of it, before temperature, penalties and cuts.
        text: what it makes whole; empty where the request has no `decoder`.
        top: the likeliest tokens in its place with their log probabilities, as many as the request asks for.
    """

    request_id: int
    index: int
    token_id: int
    log_probability: float
    text: str
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Finished:
    """An answer is done.

    Attributes:
        reason: "stop" for an end token or a stop string, "length", or "cancelled".
        token_ids: of the whole answer, the one that ended it included.
        score: mean log-probability of its tokens, or the beam search's own.
        text: the last piece, that was held back until now; of a beam search all of it.
        prompt_tokens, cached_tokens: length of the prompt, and how much of it was in the cache.
        seconds: "waiting" in the queue, "vision", "prefill" up to the first token, and "decode".
    """

    request_id: int
    index: int
    reason: str
    token_ids: list[int]
    score: float
    text: str = ""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Failed:
    """A request has ended in an error, which is its own alone."""

    request_id: int
    error: Exception


Event = Progress | Token | Finished | Failed
