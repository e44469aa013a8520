"""A request, and what of an answer to it there is so far."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import blake2b
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from paddlemix_qwenvl.engine.events import Finished
from paddlemix_qwenvl.engine.lookup import PromptLookup
from paddlemix_qwenvl.engine.marks import Marks
from paddlemix_qwenvl.engine.settings import GenerationSettings
from paddlemix_qwenvl.engine.streaming import Characters
from paddlemix_qwenvl.models.prompts import Prompt

if TYPE_CHECKING:
    from paddlemix_qwenvl.engine.grammar import Grammar


@dataclass
class Request:
    """What is asked of an engine.

    Attributes:
        prompt: one row.
        settings: of the answer; with `seed` None it is drawn by the engine.
        grammar: that the answer follows; None for any text.
        decoder: anything with `decode(token_ids, skip_special_tokens=...)`, for text and stop strings; None for neither.
        stop: strings that end the answer and stay at its end.
        priority: requests of a smaller number go first.
        top_logprobs: how many of the likeliest tokens are told with each token of the answer.
        cache_salt: what is remembered of prompts and pictures is shared among requests of the same salt alone.
    """

    prompt: Prompt
    settings: GenerationSettings
    grammar: Grammar | None = None
    decoder: Any = None
    stop: tuple[str, ...] = ()
    priority: int = 0
    top_logprobs: int = 0
    cache_salt: bytes = b""


@dataclass
class Clock:
    """Where the time of a request went, as `time.perf_counter` has it."""

    added: float = field(default_factory=perf_counter)
    started: float | None = None
    first_token: float | None = None
    vision: float = 0.0

    def seconds(self) -> dict[str, float]:
        """As `Finished.seconds`."""
        now = perf_counter()
        started = self.started or now
        first = self.first_token or now
        return {
            "waiting": started - self.added,
            "vision": self.vision,
            "prefill": max(0.0, first - started - self.vision),
            "decode": now - first,
        }


class Sequence:
    """Tokens of a prompt and of one answer to it.

    Attributes:
        key: its rank among the sequences of an engine, the smallest first.
        length: tokens there are.
        unread: one more is drawn, and nobody has read it from the device.
        computed: tokens whose keys and values lie in the cache.
        known: full blocks whose content the block manager knows.
        cached: tokens of the prompt that others had computed before.
        blocks: where they lie.
        features: of the prompt's media, by key, while they are needed.
    """

    def __init__(self, request: Request, key: tuple[int, ...], seed: int, index: int = 0):
        self.request, self.prompt, self.settings = request, request.prompt, request.settings
        self.key, self.index = key, index
        self.prompt_length = self.length = len(self.prompt.token_ids)
        self.ids = np.empty(self.length + self.settings.max_new_tokens, np.int64)
        self.ids[: self.length] = self.prompt.token_ids
        self.computed = self.known = self.cached = 0
        self.unread = False
        self.blocks: list[int] = []
        self.features: dict[bytes, Any] = {}
        self.clock = Clock()
        self.score_sum = 0.0
        self._hashes: list[bytes] = []
        self._seed = seed
        self._generator, self._uniforms = self._new_generator(), []
        self.marks = Marks.of(self.settings, self.prompt.token_ids)
        self.lookup = PromptLookup(self.settings.prompt_lookup_num_tokens)
        self.matcher = request.grammar.matcher() if request.grammar else None
        self.text = Characters(request.decoder) if request.decoder else None
        self._stops = Characters(request.decoder, skip_special_tokens=False) if request.stop else None
        self._tail = ""

    def fork(self, key: tuple[int, ...], index: int) -> Sequence:
        """Another that goes on from here. Blocks are shared: the caller holds them."""
        twin = object.__new__(Sequence)
        vars(twin).update(vars(self))
        twin.key, twin.index = key, index
        twin.ids, twin.blocks, twin.features = self.ids.copy(), [*self.blocks], {**self.features}
        twin._hashes = [*self._hashes]
        twin.marks = self.marks.copy()
        twin._generator, twin._uniforms = twin._new_generator(), []
        twin.lookup = self.lookup.copy()
        twin.matcher = self.matcher.copy() if self.matcher else None
        twin.text = self.text.copy() if self.text else None
        twin._stops = self._stops.copy() if self._stops else None
        return twin

    def _new_generator(self) -> np.random.Generator:
        """The first answer draws as if there were no other."""
        return np.random.default_rng([self._seed, self.index] if self.index else self._seed)

    def uniform(self, number: int) -> float:
        """The draw of token `number` of the answer, in [0, 1): always the same."""
        while len(self._uniforms) <= number:
            self._uniforms.append(float(self._generator.random(dtype=np.float32)))
        return self._uniforms[number]

    @property
    def total(self) -> int:
        """Tokens there are, the unread one among them."""
        return self.length + self.unread

    @property
    def remaining(self) -> int:
        """Tokens still to be computed."""
        return self.total - self.computed

    @property
    def new_ids(self) -> np.ndarray:
        """The answer so far."""
        return self.ids[self.prompt_length : self.length]

    @property
    def may_be_read_late(self) -> bool:
        """It has begun, and where it goes on does not depend on what its next token is, but for its end."""
        is_plain = self.matcher is None and not self.settings.prompt_lookup_num_tokens and self.settings.num_beams == 1
        return is_plain and not self.request.top_logprobs and self.total > self.prompt_length and self.remaining == 1

    def expect(self, row: int) -> None:
        """One more token is drawn, in this row of a step. Until it is read `-1 - row` stands in its place."""
        self.ids[self.length] = -1 - row
        self.unread = True

    def append(self, token_id: int, log_probability: float) -> str | None:
        """Take one more token; returns why the answer ends with it, None if it goes on."""
        self.ids[self.length] = token_id
        self.length += 1
        self.unread = False
        self.score_sum += log_probability
        self.marks.add(token_id)
        if token_id in self.settings.eos_token_ids or self._stopped(token_id):
            return "stop"
        if self.matcher is not None:
            self.matcher.accept(token_id)
            if self.matcher.ended:
                return "stop"
        return "length" if self.length == self.ids.size else None

    def finished(self, reason: str, score: float | None, text: str) -> Finished:
        """What is told when it ends: with the score of its tokens where none is given, and what it held back after `text`."""
        answer = self.new_ids.tolist()
        return Finished(
            self.key[1],
            self.index,
            reason,
            answer,
            self.score_sum / max(1, len(answer)) if score is None else score,
            text + (self.text.flush() if self.text else ""),
            self.prompt_length,
            self.cached,
            self.clock.seconds(),
        )

    def _stopped(self, token_id: int) -> bool:
        if self._stops is None:
            return False
        text = self._tail + self._stops.add(token_id)
        self._tail = text[max(0, len(text) - max(map(len, self.request.stop)) + 1) :]
        return any(stop in text for stop in self.request.stop)

    def positions(self, start: int, stop: int) -> np.ndarray:
        """Positions int64 `[rows, stop - start]` of the tokens from `start` on."""
        own = self.prompt.position_ids[:, start:stop]
        after = self.prompt.next_position - self.prompt_length + np.arange(max(start, self.prompt_length), stop)
        return np.concatenate([own, np.broadcast_to(after, (len(own), after.size))], axis=1) if after.size else own

    def hashes(self, count: int, block_size: int) -> list[bytes]:
        """Of the first `count` blocks, all full: what decides their keys and values, and those of all before."""
        beginning = f"{self.prompt.ntk_alpha}|".encode() + self.request.cache_salt
        for block in range(len(self._hashes), count):
            start, stop = block * block_size, (block + 1) * block_size
            digest = blake2b(self._hashes[-1] if self._hashes else beginning, digest_size=32)
            digest.update(self.ids[start:stop])
            digest.update(np.ascontiguousarray(self.positions(start, stop)))
            for media in self.prompt.media:
                first, last = np.searchsorted(media.places, (start, stop))
                if first < last:
                    digest.update(media.key + repr((int(first), int(last))).encode())
            self._hashes.append(digest.digest())
        return self._hashes[:count]
