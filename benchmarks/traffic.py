"""Requests for an engine on a random checkpoint, and what became of them. Imported by engine.py and run_trace.py."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import numpy as np
import paddle
from compare import cpu_name, make_once
from options import DType, Model
from random_checkpoint import config_3b

import paddlemix_qwenvl  # noqa: F401, prepares the process for Paddle
from paddlemix_qwenvl import Qwen2_5_VLForConditionalGeneration
from paddlemix_qwenvl.engine.engine import BLOCK_SIZE, Engine
from paddlemix_qwenvl.engine.events import Event, Failed, Finished, Token
from paddlemix_qwenvl.engine.grammar import Matcher
from paddlemix_qwenvl.engine.runner import ModelRunner
from paddlemix_qwenvl.engine.sequence import Request
from paddlemix_qwenvl.engine.settings import GenerationSettings
from paddlemix_qwenvl.media import preprocess_images
from paddlemix_qwenvl.models.prompts import Prompt
from paddlemix_qwenvl.models.qwen2_5_vl import positions
from paddlemix_qwenvl.threads import thread_count

WORDS = (1000, 100000)  # tokens that random texts are made of
END = 151645  # that no answer may have
RAISED = 1e4


@contextmanager
def checkpoint(model: Model):
    """The folder of the checkpoint, made if it is not there, and its config."""
    config = config_3b(model.layers, model.vision_blocks)
    with TemporaryDirectory() as scratch:
        folder = model.checkpoint or Path(scratch)
        make_once(folder, config)
        print(f"{cpu_name()}, {thread_count()} threads, paddlepaddle {paddle.__version__}, medians of {model.repeats}")
        yield folder


def load(folder: Path, dtype: DType) -> ModelRunner:
    return ModelRunner(Qwen2_5_VLForConditionalGeneration.from_pretrained(str(folder), **dtype.given()))


def runners(model: Model, *head: str) -> Iterable[tuple[str, ModelRunner]]:
    """The model in each dtype, one after the other, once a table's head has been printed."""
    with checkpoint(model) as folder:
        print_head(*head)
        for dtype in model.dtypes:
            yield dtype.value, load(folder, dtype)


def words(count: int, seed: int) -> np.ndarray:
    """Random tokens, none twice."""
    return np.random.default_rng(seed).choice(np.arange(*WORDS), count, replace=False)


def picture(side: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)


def prompt_of(runner: ModelRunner, ids: Sequence[int], image: np.ndarray | None = None) -> Prompt:
    """A picture, if there is one, and tokens after it."""
    config, inputs = runner.model.config, {}
    if image is not None:
        inputs = preprocess_images([image])
        count = int(inputs["image_grid_thw"].prod()) // config.vision_config.spatial_merge_size**2
        start, end = config.vision_start_token_id, config.vision_end_token_id
        ids = np.concatenate([[start], [config.image_token_id] * count, [end], ids])
        inputs = {name: inputs[name] for name in ("pixel_values", "image_grid_thw")}
    return positions.prompts(config, {"input_ids": np.asarray(ids, np.int64)[None], **inputs})[0]


def request_of(prompt: Prompt, new_tokens: int, grammar=None, **settings) -> Request:
    """So many new tokens, neither more nor less."""
    bounds = {"max_new_tokens": new_tokens, "min_new_tokens": new_tokens, "eos_token_ids": [END]}
    return Request(prompt, GenerationSettings(**bounds, **settings), grammar)


def engine_for(runner, requests: Sequence[Request], **how) -> Engine:
    """With a cache that all of these fit in together."""
    size = how.get("block_size", BLOCK_SIZE)
    tokens = sum(len(each.prompt.token_ids) + each.settings.max_new_tokens + size for each in requests)
    return Engine(runner, -(-tokens // size), **how)


class Told(list):
    """Events, each with when it came, in seconds from `started` on, which is `time.perf_counter`'s."""

    def __init__(self, started: float):
        super().__init__()
        self.started = started


def serve(engine: Engine, requests: Sequence[Request]) -> Told:
    """Answer all of these at once."""
    told = Told(perf_counter())
    for request in requests:
        engine.add(request)
    while engine.busy:
        events = engine.step()
        now = perf_counter() - told.started
        for event in events:
            if isinstance(event, Failed):
                raise event.error
            told.append((now, event))
    return told


def token_times(told: Iterable[tuple[float, Event]]) -> list[list[float]]:
    """When each request's tokens came; in the order of the requests."""
    times: dict[int, list[float]] = {}
    for now, event in told:
        if isinstance(event, Token):
            times.setdefault(event.request_id, []).append(now)
    return [times[number] for number in sorted(times)]


def answers(told: Iterable[tuple[float, Event]]) -> list[list[int]]:
    """Of the requests, in their order."""
    done = [event for _, event in told if isinstance(event, Finished)]
    return [event.token_ids for event in sorted(done, key=lambda event: event.request_id)]


class Gaps:
    """Steps of an engine, and the time between tokens.

    Attributes:
        last: when each request's last token came.
    """

    def __init__(self, engine: Engine):
        self._engine, self.last = engine, {}

    def step(self) -> list[float]:
        """Seconds since the token before, for each of the step's tokens that is not its request's first."""
        events = self._engine.step()
        now, gaps = perf_counter(), []
        for event in events:
            if isinstance(event, Failed):
                raise event.error
            if isinstance(event, Token):
                if event.request_id in self.last:
                    gaps.append(now - self.last[event.request_id])
                self.last[event.request_id] = now
        return gaps


def by_turns(sides: Sequence[Callable[[], Any]], repeats: int) -> list:
    """What each side measures, `repeats` times, in turn forwards and backwards; a first time does not count.

    Returns:
        For each side its figures, or where it measures several at a time, a list of each of them.
    """
    found: list[list] = [[] for _ in sides]
    for number in range(repeats + 1):
        pairs = list(zip(sides, found, strict=True))
        for side, figures in pairs if number % 2 else pairs[::-1]:
            figures.append(side())
    kept = [figures[1:] for figures in found]
    return [[*zip(*figures, strict=True)] if isinstance(figures[0], tuple) else figures for figures in kept]


class Scripted(ModelRunner):
    """Computes each step as it is; of the logits, the one that follows by a script is then raised.

    Args:
        prompt, answer: tokens; each of the answer's follows the one before it, the first one the prompt's last.
    """

    def __init__(self, runner: ModelRunner, prompt: np.ndarray, answer: np.ndarray):
        super().__init__(runner.model)
        self._following = np.zeros(runner.facts.vocab_size, np.int64)
        self._following[[prompt[-1], *answer[:-1]]] = answer

    def step(self, inputs, features):
        """As in `engine.runner.Runner`."""
        logits = super().step(inputs, features)
        following = paddle.to_tensor(self._following[inputs.ids[inputs.wanted]])
        return paddle.put_along_axis(logits, following[:, None], paddle.to_tensor(RAISED), axis=1)


@contextmanager
def watched_masks():
    """When each call of a grammar's masks ended while this is open, and the seconds it took."""
    calls: list[tuple[float, float]] = []
    own = {name: getattr(Matcher, name) for name in ("mask", "accept")}

    def watched(function):
        def call(*arguments):
            started = perf_counter()
            found = function(*arguments)
            ended = perf_counter()
            calls.append((ended, ended - started))
            return found

        return call

    for name, function in own.items():
        setattr(Matcher, name, watched(function))
    try:
        yield calls
    finally:
        for name, function in own.items():
            setattr(Matcher, name, function)


def print_row(*cells) -> None:
    print("|", " | ".join(map(str, cells)), "|", flush=True)


def print_head(*cells) -> None:
    print()
    print_row(*cells)
    print("|" + "---|" * len(cells), flush=True)
