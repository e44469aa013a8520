"""Samples through a model of which one block at a time is in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import paddle
from paddle import Tensor, nn

from paddlemix_qwenvl.layers.attention import AttentionContext
from paddlemix_qwenvl.layers.residual import ResidualStream
from paddlemix_qwenvl.models.prompts import Prompt
from paddlemix_qwenvl.quantization.calibration import Sample
from paddlemix_qwenvl.quantization.source import Source
from paddlemix_qwenvl.weights.loading import fill, readings

Watch = Callable[[str, nn.Layer], AbstractContextManager]
Progress = Callable[[int, int], None]
DTYPE = "float32"


def unwatched(path: str, block: nn.Layer) -> AbstractContextManager:
    """A block is run, and nothing else."""
    return nullcontext()


@paddle.no_grad()
def answer_logits(source: Source, samples: list[Sample], progress: Progress, watch: Watch = unwatched) -> Tensor:
    """Logits float32 `[n, vocab]` of the answers' tokens of all samples, computed in float32.

    Args:
        progress: called with the blocks that are done, and all.
        watch: gives a context for the path and the layer of each block, in which all samples are run through it.
    """
    lazy = _Lazy(source)
    model = lazy.model
    decoder = model.decoder
    paths = {id(layer): path for path, layer in model.named_sublayers()}
    ends = [paths[id(layer)] for layer in (decoder.last_norm, model.lm_head)]
    blocks = [(paths[id(layer)], layer) for layer in decoder.blocks]
    with lazy.filled(lazy.outside(*ends, *(path for path, _ in blocks))):
        hidden = [_embedded(model, each.prompt) for each in samples]
    contexts, total = [_context(model, each.prompt) for each in samples], len(blocks)
    for number in range(total):
        path, block = blocks.pop(0)
        del decoder.blocks[0]  # its memory is given back with it
        with lazy.filled(lazy.inside(path)), watch(path, block):
            hidden = [_through(block, *each) for each in zip(hidden, contexts, strict=True)]
        del block
        progress(number + 1, total)
    with lazy.filled(lazy.inside(*ends, *lazy.tied)):
        last = [x[each.answering] for x, each in zip(hidden, samples, strict=True)]
        return model.lm_head(decoder.last_norm(paddle.concat(last)))


class _Lazy:
    """A model whose parameters have values while these are needed."""

    def __init__(self, source: Source):
        self._checkpoint, self.model = source.checkpoint, source.model(DTYPE)
        self.model.eval()
        self._parameters = dict(self.model.named_parameters())
        head = self.model.lm_head.weight
        self.tied = [path for path, each in self._parameters.items() if each is head]

    def inside(self, *paths: str) -> list[str]:
        """Parameters of the layers at these paths."""
        return [
            path for path in self._parameters if path in paths or path.startswith(tuple(f"{each}." for each in paths))
        ]

    def outside(self, *paths: str) -> list[str]:
        """The others."""
        return sorted({*self._parameters} - {*self.inside(*paths)})

    @contextmanager
    def filled(self, paths: list[str]) -> Iterator[None]:
        """Parameters have their values within."""
        fill(readings({path: self._parameters[path] for path in paths}, self._checkpoint, DTYPE), self._checkpoint)
        yield
        for path in paths:
            self._parameters[path]._clear_data()


def _embedded(model, prompt: Prompt) -> Tensor:
    """`[T, hidden]` of a prompt, its pictures in their places."""
    found = model.get_input_embeddings()(paddle.to_tensor(prompt.token_ids))
    for media in prompt.media:
        features = model.encode(**{name: paddle.to_tensor(array) for name, array in media.inputs.items()})
        found = paddle.scatter(found, paddle.to_tensor(media.places), features.astype(found.dtype))
    return found


def _context(model, prompt: Prompt) -> AttentionContext:
    alpha = paddle.to_tensor([prompt.ntk_alpha], dtype="float32") if model.stretches else None
    cos, sin, scale = model.position_tables(paddle.to_tensor(prompt.position_ids), alpha)
    bounds = paddle.to_tensor([0, len(prompt.token_ids)], dtype="int32")
    return AttentionContext(cos, sin, bounds, query_scale=scale)


def _through(block: nn.Layer, x: Tensor, context: AttentionContext) -> Tensor:
    stream = ResidualStream(x)
    block(stream, context)
    return stream.total()
