"""Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon): momentum whose matrix is made orthogonal.

Small transformers leave their first plateau several times sooner with it than with AdamW.
"""

from collections import defaultdict

import paddle
import paddle.distributed as dist

from paddlemix_qwenvl.layers.parameter import pieces_of

MOMENTUM = 0.95
WEIGHT_DECAY = 0.03  # times the learning rate; without it the residual stream outgrows what later layers add to it


def orthogonalize(matrices):
    """The nearest (semi-)orthogonal matrices of `[k, m, n]`, roughly, by five Newton-Schulz steps."""
    wide = matrices.shape[1] <= matrices.shape[2]
    x = matrices if wide else matrices.transpose([0, 2, 1])
    x = x / ((x * x).sum([1, 2], keepdim=True).sqrt() + 1e-7)
    for _ in range(5):
        square = paddle.bmm(x, x.transpose([0, 2, 1]))
        x = 3.4445 * x + paddle.bmm(-4.7750 * square + 2.0315 * paddle.bmm(square, square), x)
    return x if wide else x.transpose([0, 2, 1])


class Muon:
    """Steps all matrices of `parameters`; merged ones (query, key and value; gate and up) piece by piece."""

    def __init__(self, parameters):
        self.parameters = list(parameters)
        self.groups = defaultdict(list)  # pieces of one shape are stepped together
        for number, parameter in enumerate(self.parameters):
            for piece in pieces_of(parameter):
                rows = piece.rows.stop - piece.rows.start
                self.groups[rows, parameter.shape[1]].append((number, piece.rows))
        self.momentum = {shape: paddle.zeros([len(parts), *shape]) for shape, parts in self.groups.items()}

    @paddle.no_grad()
    def step(self, learning_rate: float) -> None:
        """One update from the parameters' gradients, which are the same in all processes; each does a part of the work."""
        updates = defaultdict(list)
        for shape, parts in self.groups.items():
            gradient = paddle.stack([self.parameters[number].grad[rows] for number, rows in parts])
            momentum = self.momentum[shape] * MOMENTUM + gradient * (1 - MOMENTUM)
            self.momentum[shape] = momentum
            update = self._shared(momentum * MOMENTUM + gradient * (1 - MOMENTUM))
            update = update * (learning_rate * max(1, shape[0] / shape[1]) ** 0.5)
            for (number, rows), matrix in zip(parts, update, strict=True):
                updates[number].append((rows.start, matrix))
        for number, rows in updates.items():
            matrices = [matrix for _, matrix in sorted(rows, key=lambda pair: pair[0])]
            self.parameters[number].scale_(1 - learning_rate * WEIGHT_DECAY)
            self.parameters[number].subtract_(matrices[0] if len(matrices) == 1 else paddle.concat(matrices))

    def _shared(self, matrices):
        """`orthogonalize`, each process a part of the matrices."""
        processes, rank = dist.get_world_size(), dist.get_rank()
        if processes == 1:
            return orthogonalize(matrices)
        first, last = (len(matrices) * i // processes for i in (rank, rank + 1))
        parts = [paddle.zeros([first, *matrices.shape[1:]]), paddle.zeros([len(matrices) - last, *matrices.shape[1:]])]
        if first < last:
            parts.insert(1, orthogonalize(matrices[first:last]))
        shared = paddle.concat(parts)
        dist.all_reduce(shared)
        return shared

    def state_dict(self) -> dict:
        return {f"muon {rows} {columns}": value for (rows, columns), value in self.momentum.items()}

    def set_state_dict(self, state: dict) -> None:
        self.momentum = {shape: paddle.to_tensor(state[f"muon {shape[0]} {shape[1]}"]) for shape in self.groups}
