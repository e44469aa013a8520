"""One Python function per operation: compiled where it is built, plain Paddle elsewhere.

The compiled ones come from `external_ops`; those that training needs have gradients, the others run where none is asked for.
The environment variable QWENVL_OPS forces a way: `reference` is plain Paddle, `compiled` is an OpsError where the compiled ones
are missing.

T counts packed tokens, H query heads, Hkv key and value heads, D is the head size. Activations on CPU are float32;
weights and KV cache may be narrower.
"""

from .dispatch import operation, status

activation_dtype = operation("activation_dtype")
cached_attention = operation("cached_attention")
decode_attention = operation("decode_attention")
embedding = operation("embedding")
embedding_int8 = operation("embedding_int8")
encode_rotary_qk = operation("encode_rotary_qk")
get_padding_offset = operation("get_padding_offset")
layer_norm = operation("layer_norm")
linear = operation("linear")
linear_int8 = operation("linear_int8")
log_probability = operation("log_probability")
mrope_tables = operation("mrope_tables")
qkv_attention = operation("qkv_attention")
qkv_transpose_split = operation("qkv_transpose_split")
qkv_write_cache = operation("qkv_write_cache")
quantize_int8 = operation("quantize_int8")
rebuild_padding = operation("rebuild_padding")
rms_norm = operation("rms_norm")
sample = operation("sample")
sample_with_settings = operation("sample_with_settings")
swiglu = operation("swiglu")
transpose_remove_padding = operation("transpose_remove_padding")
varlen_attention = operation("varlen_attention")
write_cache_kv = operation("write_cache_kv")

__all__ = [
    "activation_dtype",
    "cached_attention",
    "decode_attention",
    "embedding",
    "embedding_int8",
    "encode_rotary_qk",
    "get_padding_offset",
    "layer_norm",
    "linear",
    "linear_int8",
    "log_probability",
    "mrope_tables",
    "qkv_attention",
    "qkv_transpose_split",
    "qkv_write_cache",
    "quantize_int8",
    "rebuild_padding",
    "rms_norm",
    "sample",
    "sample_with_settings",
    "status",
    "swiglu",
    "transpose_remove_padding",
    "varlen_attention",
    "write_cache_kv",
]
