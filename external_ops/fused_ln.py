"""The module `fused_ln` that models of PaddleMIX and PaddleNLP look for: norms with their names and argument order.

Each returns a tuple whose first element is the normalised tensor; its other elements in the original, kept for the
backward pass, have no reader. Differentiable.
"""

from paddlemix_qwenvl import ops

__all__ = ["fused_ln", "fused_rms_norm"]


def fused_ln(x, scale, bias, epsilon):
    """Layer norm over the last axis: x [..., N], scale [N], bias [N] -> (y [..., N],)."""
    return (ops.layer_norm(x, scale, bias, float(epsilon)),)


def fused_rms_norm(x, scale, epsilon):
    """Root-mean-square norm over the last axis: x [..., N], scale [N] -> (y [..., N],)."""
    return (ops.rms_norm(x, scale, float(epsilon)),)
