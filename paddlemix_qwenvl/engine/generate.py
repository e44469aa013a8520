"""`generate`: a batch of prompts in, new tokens out, with PaddleNLP's arguments and return value."""

from __future__ import annotations

import functools
import threading
import weakref
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import paddle

from paddlemix_qwenvl.device import to_device
from paddlemix_qwenvl.engine.capacity import blocks_needed, blocks_there_is_room_for
from paddlemix_qwenvl.engine.device_runner import runner_of
from paddlemix_qwenvl.engine.engine import BLOCK_SIZE, MAX_NUM_BATCHED_TOKENS, Engine
from paddlemix_qwenvl.engine.events import Failed, Finished, Token
from paddlemix_qwenvl.engine.ranks import on_all_ranks
from paddlemix_qwenvl.engine.runner import Facts, Runner
from paddlemix_qwenvl.engine.sequence import Request
from paddlemix_qwenvl.engine.settings import GenerationSettings, check_leftovers, stop_texts
from paddlemix_qwenvl.engine.streaming import listed, stream_text
from paddlemix_qwenvl.errors import GenerationError, PromptError
from paddlemix_qwenvl.models.batch import SIZES
from paddlemix_qwenvl.models.family import family_of_config
from paddlemix_qwenvl.models.inputs import check_ids, check_tensors

_MAKING = threading.Lock()
_SHARED = (paddle.float32, paddle.float16, paddle.int64, paddle.int32)  # dtypes
_PLAIN_INPUTS = ("input_ids", "second_per_grid_ts")  # of which the first is looked at before


class Generates:
    """What makes a model of `models/` answer; put before its class.

    The class has `step`, `encode`, `config`, `generation_config` and `prompt_inputs` (`models/base.py`).
    """

    _kept_engine: Engine | None = None  # rank 0's
    _kept_runner: Runner | None = None  # of each rank, which that engine leads

    def can_generate(self) -> bool:
        """As the hosts ask."""
        return True

    def train(self) -> None:
        """As in `nn.Layer`; what is kept of prompts and pictures seen so far is forgotten."""
        self.forget_images()
        super().train()

    def forget_images(self) -> None:
        """Drop what `remember_images` keeps, and its memory: for weights that were changed by hand. With several ranks all of
        them call this."""
        self._kept_engine = self._kept_runner = None

    def __getstate__(self) -> dict[str, Any]:
        """As copies and pickles have it: without what is kept of prompts and pictures."""
        return {name: value for name, value in vars(self).items() if name not in ("_kept_engine", "_kept_runner")}

    def generate(
        self,
        input_ids=None,
        generation_config=None,
        stopping_criteria=None,
        streamer=None,
        stop_strings: str | list[str] | None = None,
        tokenizer=None,
        remember_images: bool = False,
        kv_cache_gib: float | None = None,
        **kwargs,
    ):
        """Answer a batch of prompts.

        With several ranks all of them call this and get the same answer; what counts is what rank 0 is given. Its streamer and
        criteria alone are asked while tokens come; the others' streamers get all of them at the end.

        Args:
            input_ids: int64 `[B, S]`, padded on the left.
            generation_config: defaults in place of the model's `generation_config.json`.
            stopping_criteria: one or several callables, called after every step with `(all ids [B, S + new], scores [B, 1])`;
                each returns True to end all rows, or a bool a row to end these. One that reads a `threading.Event` cancels an
                answer from another thread: `lambda ids, scores: event.is_set()`.
            streamer: gets the new tokens of every step by `put`, then `end`.
            stop_strings, tokenizer: a row ends with the first of these strings that its text holds, which stays there.
            remember_images: keep what was computed of a prompt and its pictures for when another begins alike, as in the next
                turn of a chat; `forget_images()`, `train()` and another dtype drop it, and in training nothing is kept.
            kv_cache_gib: memory on each rank of the cache that is kept, which the first call that keeps one decides; None for a
                share of what is free.
            kwargs: settings (`engine.settings.GenerationSettings`, or PaddleNLP's `decode_strategy`) and the processor's other
                outputs (`attention_mask`, `pixel_values`, `image_grid_thw`, ...).

        Returns:
            PaddleNLP's pair `(ids int64 [B, new], scores float32 [B, 1])`: only new tokens, and their mean log-probability. Each
            prompt has `num_return_sequences` rows.

        Raises:
            GenerationError: settings that cannot be carried out.
            ConfigurationError: a `kv_cache_gib` that there is no room for.
            PromptError: a prompt that does not fit the context or the media.
            ParallelError: another rank is lost, or rank 0 ended with an error that is not of this package.
        """
        criteria = listed(stopping_criteria)

        def requests() -> list[Request]:
            if kv_cache_gib is not None and not remember_images:
                raise GenerationError(
                    "kv_cache_gib is of the cache that remember_images keeps: set remember_images=True, or leave it out."
                )
            stop = stop_texts(stop_strings)
            if stop and tokenizer is None:
                raise GenerationError("stop_strings need the tokenizer: pass tokenizer=processor.tokenizer as well.")
            asked = self._requests(input_ids, generation_config, kwargs, stop, tokenizer)
            if asked[0].settings.num_beams > 1 and (streamer is not None or criteria or stop):
                raise GenerationError(
                    "beam search takes no streamer and no stopping_criteria: leave them out, or num_beams."
                )
            return asked

        def answer(asked: list[Request], runner: Runner, kept_runner: Runner) -> tuple[np.ndarray, np.ndarray]:
            keeps = remember_images and not self.training
            engine = self._remembering(kept_runner, kv_cache_gib) if keeps else _engine_for(asked, runner)
            return answer_batch(engine, asked, _numpy(input_ids), streamer, criteria)

        parallel, runner = self.lm_head.parallel, runner_of(self)
        with paddle.no_grad():
            ids, scores = on_all_ranks(parallel, [runner, self._runner_to_keep(runner.facts)], requests, answer)
        if parallel.rank and streamer is not None:
            for taken in ids.T:
                streamer.put(taken)
            streamer.end()
        return to_device(ids), to_device(scores)

    def stream(self, tokenizer, **inputs) -> Iterator[str]:
        """The first row's text piece by piece while it is generated; arguments as `generate`'s, as in `stream_text`."""
        return stream_text(self.generate, tokenizer, **inputs)

    def _requests(
        self, input_ids, generation_config, given: dict[str, Any], stop: tuple[str, ...], tokenizer
    ) -> list[Request]:
        """One a row; arguments as `generate`'s."""
        if input_ids is None:
            raise PromptError("generate needs input_ids: pass on what the processor returned, generate(**inputs).")
        check_ids(input_ids)
        check_tensors({name: given.get(name) for name in self.prompt_inputs if name not in _PLAIN_INPUTS})
        settings = GenerationSettings.resolve(generation_config or self.generation_config, self.config, given)
        check_leftovers(given, (*self.prompt_inputs, *SIZES))
        inputs = {name: given[name] for name in self.prompt_inputs if given.get(name) is not None}
        inputs = {name: _numpy(value) for name, value in {"input_ids": input_ids, **inputs}.items()}
        prompts = family_of_config(self.config).module("positions").prompts(self.config, inputs)
        return [
            Request(prompt, each, decoder=tokenizer if stop else None, stop=stop)
            for prompt, each in zip(prompts, seeded(settings, len(prompts)), strict=True)
        ]

    def _runner_to_keep(self, facts: Facts) -> Runner:
        """The runner of the engine that is kept, a new one where the model has another dtype. It does not keep the model alive."""
        if self._kept_runner is None or self._kept_runner.facts != facts:
            self._kept_engine, self._kept_runner = None, runner_of(weakref.proxy(self))
        return self._kept_runner

    def _remembering(self, runner: Runner, kv_cache_gib: float | None) -> Engine:
        """The engine that is kept from call to call, one for all threads."""
        with _MAKING:
            if self._kept_engine is None:
                self._kept_engine = Engine(runner, blocks_there_is_room_for(runner, BLOCK_SIZE, kv_cache_gib))
            return self._kept_engine


def _engine_for(requests: list[Request], runner: Runner) -> Engine:
    """One whose cache holds just these."""
    blocks, sequences, tokens = 0, 0, 0
    for each in requests:
        length = len(each.prompt.token_ids)
        settings = each.settings.within_context(length, runner.facts.context)
        blocks += settings.num_return_sequences * blocks_needed(length, settings, BLOCK_SIZE, shared=False)
        sequences, tokens = sequences + settings.width, tokens + length
    # The rows of a batch go step by step together, as streamers and criteria expect it.
    at_once = MAX_NUM_BATCHED_TOKENS if len(requests) == 1 else tokens
    return Engine(runner, blocks, max_num_seqs=sequences, max_num_batched_tokens=at_once, prefix_cache=False)


def answer_batch(
    engine: Engine, requests: list[Request], prompt_ids: np.ndarray, streamer=None, criteria=()
) -> tuple[np.ndarray, np.ndarray]:
    """Answers to a batch of requests: ids int64 `[B, new]` and scores float32 `[B, 1]`, as `generate` returns them.

    Args:
        prompt_ids: int64 `[requests, S]`, padded, for the criteria.
        streamer: `put(token_ids [B])` for each token of the longest row, with the pad token for rows that have ended, and `end()`
            once.
        criteria: as `generate`'s.
    """
    rows = _Answers(requests[0].settings, prompt_ids)
    numbers: list[int] = []
    try:
        for request in requests:
            numbers.append(engine.add(request))
        while rows.going:
            for event in engine.step(numbers):
                if isinstance(event, Failed):
                    raise event.error
                if isinstance(event, Token | Finished):
                    rows.take(numbers.index(event.request_id), event)
            for step in rows.steps() if streamer is not None or criteria else ():
                if streamer is not None:
                    streamer.put(step[:, -1])
                for row in rows.end(criteria, step):
                    with suppress(GenerationError):  # another thread's step has ended it
                        engine.cancel(numbers[row // rows.width], row % rows.width)
    finally:
        for number in numbers:
            engine.discard(number)
        if streamer is not None:
            streamer.end()
    return rows.answer()


class _Answers:
    """The answers of a batch while they grow. Streamers and criteria see them step by step: the next token of all rows at a time,
    though the engine may be ahead with some.

    Attributes:
        going: rows that have not ended.
        width: rows of a prompt.
    """

    def __init__(self, settings: GenerationSettings, prompt_ids: np.ndarray):
        self.width, self._pad = settings.num_return_sequences, settings.pad_token_id
        self._prompts = np.repeat(prompt_ids, self.width, axis=0)
        self.going = set(range(len(self._prompts)))
        self._tokens: list[list[int]] = [[] for _ in self._prompts]
        self._scores: list[list[float]] = [[] for _ in self._prompts]
        self._seen = 0

    def take(self, request: int, event: Token | Finished) -> None:
        """What has become of a request's answer."""
        row = request * self.width + event.index
        if row not in self.going:
            return  # what another thread's step has added after its end
        if isinstance(event, Token):
            self._tokens[row].append(event.token_id)
            self._scores[row].append(event.log_probability)
            return
        self.going.discard(row)
        if not self._tokens[row]:  # a beam search tells its answer at the end
            self._tokens[row], self._scores[row] = event.token_ids, [event.score]

    def steps(self) -> Iterator[np.ndarray]:
        """The answers, int64 `[B, step]`, after each step that all rows have taken and that was not seen before."""
        while self._seen < self._taken():
            self._seen += 1
            yield _padded([tokens[: self._seen] for tokens in self._tokens], self._pad)

    def _taken(self) -> int:
        return min((len(self._tokens[row]) for row in self.going), default=max(map(len, self._tokens)))

    def end(self, criteria, ids: np.ndarray) -> list[int]:
        """End the rows that the criteria end after a step; returns those with which the engine would go on."""
        if not criteria:
            return []
        ended = np.zeros(len(ids), bool)
        everything = to_device(np.concatenate([self._prompts, ids], axis=1))
        scores = to_device(self._means(ids.shape[1]))
        for criterion in criteria:
            ended |= np.asarray(criterion(everything, scores), bool)
        rows = np.flatnonzero(ended).tolist()
        for row in rows:
            del self._tokens[row][self._seen :], self._scores[row][self._seen :]
        stopped = [row for row in rows if row in self.going]
        self.going.difference_update(rows)
        return stopped

    def _means(self, steps: int | None = None) -> np.ndarray:
        """Mean log-probabilities of the rows' first tokens, float32 `[B, 1]`."""
        return np.array([[np.mean(scores[:steps])] for scores in self._scores], np.float32)

    def answer(self) -> tuple[np.ndarray, np.ndarray]:
        """As `answer_batch` returns it."""
        return _padded(self._tokens, self._pad), self._means()


def _padded(rows: list[list[int]], pad: int) -> np.ndarray:
    longest = max(map(len, rows))
    return np.array([[*row, *[pad] * (longest - len(row))] for row in rows], np.int64).reshape(len(rows), longest)


def seeded(settings: GenerationSettings, rows: int) -> list[GenerationSettings]:
    """The settings of each row, whose draws differ; the first row's are those it has alone."""
    if settings.seed is None:
        if not settings.do_sample:
            return [settings] * rows
        settings = replace(settings, seed=int(paddle.randint(0, 2**31 - 1, [1], dtype="int64")))
    others = [int(np.random.SeedSequence([settings.seed, row]).generate_state(1)[0]) for row in range(1, rows)]
    return [settings, *(replace(settings, seed=seed) for seed in others)]


def _numpy(value):
    """An array of a tensor's numbers: in its own memory on the CPU, where NumPy has the dtype."""
    if not isinstance(value, paddle.Tensor):
        return value
    in_place = value.place.is_cpu_place() and value.dtype in _SHARED
    return np.from_dlpack(value.detach()) if in_place else value.numpy()


@functools.cache
def generating(model_class: type) -> type:
    """A class of `models/` with `Generates` in front of it."""
    return type(
        model_class.__name__, (Generates, model_class), {"__module__": __name__, "__doc__": model_class.__doc__}
    )
