"""The module `fast_ln` that models of PaddleMIX and PaddleNLP look for: the norms of `fused_ln` under its names."""

from fused_ln import fused_ln as fast_ln
from fused_ln import fused_rms_norm as fast_rms_norm

__all__ = ["fast_ln", "fast_rms_norm"]
