"""One Python function per operation: compiled where it is built, plain Paddle elsewhere.

T counts packed tokens, H query heads, Hkv key and value heads, D is the head size. Activations on CPU are float32;
weights and KV cache may be narrower.
"""

from .linear import activation_dtype, embedding, linear, linear_int8, quantize_int8
from .reference import (
    encode_rotary_qk,
    get_padding_offset,
    layer_norm,
    mrope_tables,
    qkv_transpose_split,
    qkv_write_cache,
    rebuild_padding,
    rms_norm,
    sample,
    swiglu,
    transpose_remove_padding,
    write_cache_kv,
)
from .reference_attention import decode_attention, varlen_attention

__all__ = [
    "activation_dtype",
    "decode_attention",
    "embedding",
    "encode_rotary_qk",
    "get_padding_offset",
    "layer_norm",
    "linear",
    "linear_int8",
    "mrope_tables",
    "qkv_transpose_split",
    "qkv_write_cache",
    "quantize_int8",
    "rebuild_padding",
    "rms_norm",
    "sample",
    "swiglu",
    "transpose_remove_padding",
    "varlen_attention",
    "write_cache_kv",
]
