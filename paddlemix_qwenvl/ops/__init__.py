"""One Python function per operation: compiled where it is built, plain Paddle elsewhere.

T counts packed tokens, H query heads, Hkv key and value heads, D is the head size. Activations on CPU are float32;
weights and KV cache may be narrower.
"""

from .packed import PackedWeight, linear, pack_linear, packed_linear
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
    "PackedWeight",
    "decode_attention",
    "encode_rotary_qk",
    "get_padding_offset",
    "layer_norm",
    "linear",
    "mrope_tables",
    "pack_linear",
    "packed_linear",
    "qkv_transpose_split",
    "qkv_write_cache",
    "rebuild_padding",
    "rms_norm",
    "sample",
    "swiglu",
    "transpose_remove_padding",
    "varlen_attention",
    "write_cache_kv",
]
