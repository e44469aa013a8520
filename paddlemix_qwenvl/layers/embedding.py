"""Token embedding and output head, their vocabulary split over the tensor-parallel group."""

from __future__ import annotations

import paddle
from paddle import nn

from paddlemix_qwenvl import ops
from paddlemix_qwenvl.layers.formats import Dense, Format
from paddlemix_qwenvl.layers.linear import Linear
from paddlemix_qwenvl.layers.parameter import Piece
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
        self.weight.pieces = self.pieces = vocabulary_pieces(vocab_size, hidden_size, self.start, self.stop)
        self.format, self._wide = Dense(), None

    @property
    def dtype(self):
        """Of the weight, or of what it was before it was quantised."""
        return self._wide or self.weight.dtype

    def share(self, head: Linear) -> None:
        """Read the quantised rows of a tied head from now on, and give the wide ones up."""
        self._wide = self.weight.dtype
        del self.weight
        for name, tensor in head.named_buffers(include_sublayers=False):
            self.register_buffer(name, tensor)
        self.format = head.format

    def forward(self, ids):
        """Rows of the embedding, `[..., hidden]`, in the activations' dtype."""
        if self.parallel.degree == 1:
            return self._rows(ids)
        mine = paddle.logical_and(ids >= self.start, ids < self.stop)
        rows = self._rows(paddle.where(mine, ids - self.start, paddle.zeros_like(ids)))
        return self.parallel.all_reduce(rows * mine.unsqueeze(-1).astype(rows.dtype))

    def _rows(self, ids):
        return self.format.rows(self, ids, ops.activation_dtype(self.dtype))


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
            self.weight, self.bias, self.format, self.pieces = tied_to.weight, None, Dense(), tied_to.pieces
            self._tied_to = [tied_to]  # in a list, so that it is not a layer of this one

    @property
    def is_tied(self) -> bool:
        """Whether its rows are those of the embedding."""
        return bool(self._tied_to)

    def hold(self, format: Format, tensors: dict[str, paddle.Tensor]) -> None:
        """As in `Linear`; a tied embedding reads the same rows, if it can."""
        super().hold(format, tensors)
        for embedding in self._tied_to if format.has_rows else ():
            embedding.share(self)

    def forward(self, x):
        scores = self.parallel.all_gather(self.product(x, None), self.sizes)
        return scores if scores.dtype == paddle.float32 else scores.astype("float32")
