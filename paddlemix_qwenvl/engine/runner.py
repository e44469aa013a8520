"""What an engine asks of a model, and the model that answers: layers made of a checkpoint. Static graphs are the other one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import paddle

from paddlemix_qwenvl.device import free_memory
from paddlemix_qwenvl.engine.repeats import Repeats
from paddlemix_qwenvl.engine.sampling import Row
from paddlemix_qwenvl.errors import ConfigurationError
from paddlemix_qwenvl.layers.kv_cache import KVCache
from paddlemix_qwenvl.models.prompts import Media, joined
from paddlemix_qwenvl.ops.arrays import to_device_together
from paddlemix_qwenvl.weights.casts import as_tensor


@dataclass
class StepInputs:
    """The tokens of one step, NumPy arrays as `DecoderModel.step` takes them as tensors.

    Attributes:
        source: with features: `t` for the embedding of token `t` itself, `T + f` for feature `f`. None without.
        decoding: each row has one new token.
    """

    ids: np.ndarray
    position_ids: np.ndarray
    cu_seqlens: np.ndarray
    lengths: np.ndarray
    block_tables: np.ndarray
    slot_mapping: np.ndarray
    wanted: np.ndarray
    ntk_alpha: np.ndarray
    source: np.ndarray | None = None
    decoding: bool = False

    def tensors(self) -> dict[str, Any]:
        """As arguments of `DecoderModel.step`."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        arrays = {name: x for name, x in values.items() if isinstance(x, np.ndarray)}
        return values | dict(zip(arrays, to_device_together([*arrays.values()]), strict=True))


@dataclass(frozen=True)
class Facts:
    """What an engine needs to know of a model.

    Attributes:
        layers, kv_heads, head_dim, dtype: of the cache of one rank.
        vocab_size: rows of the logits.
        context: tokens of prompt and answer together, at most.
        stretches: the rotary base may be stretched (Qwen-VL's dynamic NTK).
    """

    layers: int
    kv_heads: int
    head_dim: int
    dtype: str
    vocab_size: int
    context: int
    stretches: bool = False

    def shortened(self, context: int | None) -> Facts:
        """The same with a shorter context, unless that is None.

        Raises:
            ConfigurationError: it is longer than the model's.
        """
        if context is None:
            return self
        if context > self.context:
            raise ConfigurationError(f"max_model_len is {context}: the model's context is {self.context}; give less.")
        return replace(self, context=context)

    def cache_sizes(self) -> dict[str, Any]:
        """As `KVCache.allocate` takes them."""
        return {name: getattr(self, name) for name in ("layers", "kv_heads", "head_dim", "dtype")}

    def bytes_per_token(self) -> int:
        """Of the cache, on one rank."""
        return 2 * self.layers * self.kv_heads * self.head_dim * {"float32": 4}.get(self.dtype, 2)


class Drawn:
    """What a decode step drew, which may not have been computed yet."""

    def read(self) -> tuple[list[int], list[float]]:
        """The rows' tokens and the logarithms of their probabilities, once they are there."""
        raise NotImplementedError


class Runner:
    """A model as an engine sees it, with a cache of its own. A subclass has `encode` and `step`.

    Attributes:
        is_asynchronous: it has `decode`, which returns before its work is done.
    """

    is_asynchronous = False

    def __init__(self, facts: Facts):
        self.facts = facts
        self._cache: KVCache | None = None

    def free_memory(self) -> tuple[str, int]:
        """Where the cache lies, "cpu" or "gpu", and the bytes that are free there."""
        return free_memory()

    def allocate(self, num_blocks: int, block_size: int) -> None:
        """Make the cache."""
        self._cache = KVCache.allocate(num_blocks=num_blocks, block_size=block_size, **self.facts.cache_sizes())

    def copy_blocks(self, pairs: list[tuple[int, int]]) -> None:
        """Make of each pair's second block a copy of its first."""
        self._cache.copy_blocks(pairs)

    def beat(self) -> None:
        """A sign of life to other ranks, which wait for what is next; called from time to time while there is nothing to do."""

    def encode(self, media: Sequence[Media]) -> list:
        """Features `[places, hidden]` of each."""
        raise NotImplementedError

    def encoding(self, media: Media) -> Iterator:
        """`encode` of one in pieces, between which others may compute: None after each but the last, which gives the features."""
        yield self.encode([media])[0]

    def step(self, inputs: StepInputs, features: list) -> paddle.Tensor:
        """Logits float32 `[R, vocab]` of the tokens wanted; `source` counts `features`, each `[f, hidden]`, one after the other."""
        raise NotImplementedError

    def decode(self, inputs: StepInputs, rows: list[Row]) -> Drawn:
        """A step with one new token a row and a token drawn from each row's logits. An id `-1 - r` is the token that row `r` of the
        last such step drew, which need not have been read."""
        raise NotImplementedError


def split_features(features, media: Sequence[Media]) -> list:
    """The features of each, out of those of all."""
    sizes = [each.places.size for each in media]
    return features.split(sizes) if len(sizes) > 1 else [features]


class ModelRunner(Runner):
    """A model of `models/`, as it is: nothing about a request is kept on it."""

    def __init__(self, model):
        config = model.config
        facts = Facts(
            **model.cache_sizes(),
            vocab_size=config.vocab_size,
            context=config.max_position_embeddings,
            stretches=model.stretches,
        )
        super().__init__(facts)
        self.model = model
        self._repeats = Repeats(model)

    def encode(self, media: Sequence[Media]) -> list:
        """As in `Runner`."""
        inputs = {name: as_tensor(array) for name, array in joined(media).items()}
        with paddle.no_grad():  # as a decorator it would keep one state for all threads
            return split_features(self.model.encode(**inputs), media)

    def encoding(self, media: Media) -> Iterator:
        """As in `Runner`."""
        inputs = {name: as_tensor(array) for name, array in media.inputs.items()}
        pieces, features = self.model.encoding(**inputs), None
        while features is None:
            with paddle.no_grad():
                features = next(pieces)
            yield features

    def step(self, inputs: StepInputs, features: list) -> paddle.Tensor:
        """As in `Runner`."""
        tensors = inputs.tensors()
        if not self.facts.stretches:
            tensors["ntk_alpha"] = None
        joined = paddle.concat(features) if features else None
        start = self.model.scaled_from
        scaled = start is not None and inputs.position_ids.max(initial=0) >= start
        repeat = self._repeats if inputs.decoding else None
        with paddle.no_grad():
            return self.model.step(self._cache, **tensors, features=joined, scaled=scaled, repeat=repeat)
