"""Low-rank adapters (LoRA, arXiv:2106.09685) around the package's Linear layers, for fine-tuning with few parameters."""

import paddle
from paddle import nn

from paddlemix_qwenvl import ops
from paddlemix_qwenvl.layers.embedding import ParallelLMHead
from paddlemix_qwenvl.layers.linear import GatedLinear, Linear


class LoRA(nn.Layer):
    """The product of `base` and `alpha / rank * x A^T B^T`; `B` starts at zero, so nothing changes at first."""

    def __init__(self, base: Linear, rank: int, alpha: float):
        super().__init__()
        outputs, inputs = base.weight.shape
        self.base, self.scale = base, alpha / rank
        self.down = self.create_parameter([rank, inputs], default_initializer=nn.initializer.Normal(std=inputs**-0.5))
        self.up = self.create_parameter([outputs, rank], default_initializer=nn.initializer.Constant(0.0))

    @property
    def weight(self):
        """The base weight: its dtype is asked for."""
        return self.base.weight

    def forward(self, x):
        added = ops.linear(ops.linear(x, self.down), self.up) * self.scale
        if isinstance(self.base, GatedLinear):  # what it gives is no sum any more
            return ops.swiglu(self.base.product(x, self.base.bias) + added)
        return self.base(x) + added

    @paddle.no_grad()
    def merge(self, sign: float = 1.0) -> None:
        """Add the adapter to the base weight, or with -1 take it out again."""
        self.base.weight.add_(paddle.matmul(self.up, self.down) * (sign * self.scale))


def add_lora(model, rank: int, alpha: float | None = None) -> list[LoRA]:
    """Freeze `model` and put an adapter around each of its Linear layers (not the output head)."""
    for parameter in model.parameters():
        parameter.stop_gradient = True
    places = [
        (parent, name, child)
        for parent in model.sublayers(include_self=True)
        for name, child in parent.named_children()
        if isinstance(child, Linear) and not isinstance(child, ParallelLMHead)
    ]
    adapters = [LoRA(child, rank, alpha or 2.0 * rank) for _, _, child in places]
    for (parent, name, _), adapter in zip(places, adapters, strict=True):
        setattr(parent, name, adapter)
    return adapters


class merged:
    """In this context the model has the adapters' weights in its own, under its own names, so that it can be saved."""

    def __init__(self, model, adapters: list[LoRA]):
        self.places = [
            (parent, name, child)
            for parent in (model.sublayers() if adapters else [])
            for name, child in parent.named_children()
            if isinstance(child, LoRA)
        ]

    def __enter__(self):
        for parent, name, adapter in self.places:
            adapter.merge()
            setattr(parent, name, adapter.base)

    def __exit__(self, *error):
        for parent, name, adapter in self.places:
            adapter.merge(-1.0)
            setattr(parent, name, adapter)
