"""Normalisation layers."""

from __future__ import annotations

from paddle import nn

from paddlemix_qwenvl import ops


class RMSNorm(nn.Layer):
    """Root mean square normalisation over the last dimension (arXiv:1910.07467), statistics in float32."""

    def __init__(self, hidden_size: int, epsilon: float):
        super().__init__()
        self.epsilon = epsilon
        self.weight = self.create_parameter([hidden_size], default_initializer=nn.initializer.Constant(1.0))

    def forward(self, x, residual=None):
        """`x`: `[..., hidden]`. With `residual`, normalises the sum and returns `(y, x + residual)`."""
        return ops.rms_norm(x, self.weight, self.epsilon, residual)


class LayerNorm(nn.Layer):
    """Layer normalisation over the last dimension (arXiv:1607.06450), statistics in float32."""

    def __init__(self, hidden_size: int, epsilon: float):
        super().__init__()
        self.epsilon = epsilon
        self.weight = self.create_parameter([hidden_size], default_initializer=nn.initializer.Constant(1.0))
        self.bias = self.create_parameter([hidden_size], is_bias=True)

    def forward(self, x, residual=None):
        """As `RMSNorm.forward`."""
        return ops.layer_norm(x, self.weight, self.bias, self.epsilon, residual)
