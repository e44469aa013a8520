"""Token embedding and output head, their vocabulary split over the tensor-parallel group."""

from __future__ import annotations

import paddle
from paddle import nn

from paddlemix_qwenvl import ops
from paddlemix_qwenvl.layers.linear import Linear
from paddlemix_qwenvl.layers.parameter import Piece
from paddlemix_qwenvl.ops.int8 import Int8Weight
from paddlemix_qwenvl.parallel import tensor_parallel


class VocabParallelEmbedding(nn.Layer):
    """Rows `start:stop` of the token embedding; the other ranks' tokens count as zero and the results are added up."""

    def __init__(self, vocab_size: int, hidden_size: int, initializer_range: float):
        super().__init__()
        self.parallel = tensor_parallel()
        self.start, self.stop = self.parallel.split(vocab_size)
        self.weight = self.create_parameter(
            [self.stop - self.start, hidden_size],
            default_initializer=nn.initializer.Normal(std=initializer_range),
        )
        self.weight.pieces = vocabulary_pieces(vocab_size, hidden_size, self.start, self.stop)
        self.scale, self._wide = None, None

    @property
    def dtype(self):
        """Of the weight, or of what it was before it became int8."""
        return self._wide or self.weight.dtype

    def share_int8(self, head: Linear) -> None:
        """Read the int8 rows of a tied head from now on, and give the wide ones up."""
        self._wide = self.weight.dtype
        del self.weight, self.scale
        self.register_buffer("weight", head.weight)
        self.register_buffer("scale", head.scale)

    def forward(self, ids):
        """Rows of the embedding, `[..., hidden]`, in the activations' dtype."""
        if self.parallel.degree == 1:
            return self._rows(ids)
        mine = paddle.logical_and(ids >= self.start, ids < self.stop)
        rows = self._rows(paddle.where(mine, ids - self.start, paddle.zeros_like(ids)))
        return self.parallel.all_reduce(rows * mine.unsqueeze(-1).astype(rows.dtype))

    def _rows(self, ids):
        if self.scale is None:
            return ops.embedding(ids, self.weight)
        return ops.embedding_int8(ids, Int8Weight(self.weight, self.scale), ops.activation_dtype(self.dtype))


def vocabulary_pieces(vocab_size: int, hidden_size: int, start: int, stop: int, linear: bool = False) -> list[Piece]:
    """Rows `start:stop` of a `[vocab, hidden]` tensor."""
    rows = slice(0, stop - start)
    return [Piece((vocab_size, hidden_size), (slice(start, stop), slice(0, hidden_size)), rows, linear=linear)]


class ParallelLMHead(Linear):
    """Scores of all tokens from the last hidden states; a tied head shares the embedding's weight.

    Returns float32 `[..., vocab]`, gathered from the ranks.
    """

    def __init__(self, vocab_size: int, hidden_size: int, tied_to: VocabParallelEmbedding | None = None):
        nn.Layer.__init__(self)
        self.parallel = tensor_parallel()
        self.sizes, self._tied_to = self.parallel.sizes(vocab_size), []
        if tied_to is None:
            start, stop = self.parallel.split(vocab_size)
            pieces = vocabulary_pieces(vocab_size, hidden_size, start, stop, linear=True)
            self._make(hidden_size, stop - start, pieces, None)
        else:
            self.weight, self.bias, self.scale, self.arranged = tied_to.weight, None, None, False
            self._tied_to = [tied_to]  # in a list, so that it is not a layer of this one

    def quantize_int8(self) -> None:
        """As in `Linear`; a tied embedding reads the same int8 rows, unless they are arranged for a GPU's kernel."""
        super().quantize_int8()
        for embedding in () if self.arranged else self._tied_to:
            embedding.share_int8(self)

    def forward(self, x):
        return self.parallel.all_gather(self.product(x, None), self.sizes).astype("float32")
