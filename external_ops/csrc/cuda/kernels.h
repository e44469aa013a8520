// The CUDA kernels' plain C interface: device pointers to contiguous arrays, sizes, a stream, no framework.
//
// What the CPU's interface (../cpu/kernels.h) has is meant alike here; arrays declared void* are of `dtype`, float32,
// float16 or bfloat16, and a cache has the dtype of its queries. T counts tokens, H query heads, Hkv key and value
// heads, D is the head size. Every function launches its kernels on `stream` (a cudaStream_t), does not wait for them, and
// returns a cudaError_t: 0, cudaErrorInvalidValue for sizes it has no kernel for, or what the launch met.
#pragma once

#include "../types.h"

#ifdef __cplusplus
extern "C" {
#endif

// y = layer_norm(x + residual), total = x + residual; residual and total may be null together. Arrays [rows, size],
// size up to QWENVL_LARGEST_CUDA_ROW.
int qwenvl_cuda_layer_norm(const void* x, const void* residual, const void* weight, const void* bias,
                           enum QwenvlDtype dtype, float epsilon, int64_t rows, int64_t size, void* total, void* y,
                           void* stream);

// Rotate q [T, H, D] and k [T, Hkv, D] by float32 tables [T, D/2]; the outputs may be the inputs.
int qwenvl_cuda_rotary(const void* q, const void* k, const float* cos, const float* sin, enum QwenvlDtype dtype,
                       int64_t tokens, int64_t heads, int64_t kv_heads, int64_t head_dim, void* q_out, void* k_out,
                       void* stream);
// Packed qkv [T, (H + 2 Hkv) D] to rotated q [T, H, D] and k [T, Hkv, D] and to v [T, Hkv, D].
int qwenvl_cuda_qkv_split(const void* qkv, const float* cos, const float* sin, enum QwenvlDtype dtype, int64_t tokens,
                          int64_t heads, int64_t kv_heads, int64_t head_dim, void* q, void* k, void* v, void* stream);
// Token t of k and v [T, Hkv, D] goes to slot slots[t]; nowhere if the cache has no such slot.
int qwenvl_cuda_write_cache(const void* k, const void* v, const struct QwenvlKvCache* cache, const int32_t* slots,
                            int64_t tokens, void* stream);
// qkv_split and write_cache in one pass.
int qwenvl_cuda_qkv_write_cache(const void* qkv, const float* cos, const float* sin, const struct QwenvlKvCache* cache,
                                const int32_t* slots, int64_t tokens, int64_t heads, void* q, void* stream);

// Running totals [batch + 1] of the nonzero bytes in each row of mask [batch, length].
int qwenvl_cuda_count_tokens(const uint8_t* mask, int64_t batch, int64_t length, int32_t* cu_seqlens, void* stream);
// Flat positions of the nonzero bytes, in order: as many as cu_seqlens ends with.
int qwenvl_cuda_token_indices(const uint8_t* mask, const int32_t* cu_seqlens, int64_t batch, int64_t length,
                              int64_t* indices, void* stream);
// Row t of y is row indices[t] of x, which has `rows` rows of row_bytes bytes; zeros if it has no such row.
int qwenvl_cuda_gather_rows(const void* x, const int64_t* indices, int64_t tokens, int64_t rows, int64_t row_bytes,
                            void* y, void* stream);
// Row t of x becomes row indices[t] of y, which has `rows` rows; the others become zeros.
int qwenvl_cuda_scatter_rows(const void* x, const int64_t* indices, int64_t tokens, int64_t rows, int64_t row_bytes,
                             void* y, void* stream);

// Bytes of scratch memory that the three below need for `tokens` queries, on the current device.
int64_t qwenvl_cuda_attention_scratch(const struct QwenvlKvCache* cache, const struct QwenvlRows* rows, int64_t tokens,
                                      int64_t heads);
// q and out [rows, H, D]; each row sees all of its tokens, but for those in a block that the cache has not got.
int qwenvl_cuda_decode_attention(const void* q, const struct QwenvlKvCache* cache, const struct QwenvlRows* rows,
                                 int64_t heads, float scale, void* scratch, void* out, void* stream);
// qkv_write_cache and decode_attention in one kernel: qkv [rows, (H + 2 Hkv) D] of each row's last token, for which slots [rows]
// say what its block table does. No row may see a token that another one writes.
int qwenvl_cuda_qkv_decode_attention(const void* qkv, const float* cos, const float* sin,
                                     const struct QwenvlKvCache* cache, const int32_t* slots,
                                     const struct QwenvlRows* rows, int64_t heads, float scale, void* scratch,
                                     void* out, void* stream);
// Row b's new queries, rows cu_q[b] .. cu_q[b + 1] of q and out [tokens, H, D], are the last of its tokens; causal. Reads
// the keys once a query: for a few new tokens a row.
int qwenvl_cuda_cached_attention(const void* q, const struct QwenvlKvCache* cache, const struct QwenvlRows* rows,
                                 const int32_t* cu_q, int64_t tokens, int64_t heads, float scale, void* scratch,
                                 void* out, void* stream);

// Bytes of scratch memory that the next one needs.
int64_t qwenvl_cuda_sample_scratch(const struct QwenvlTokenMarks* marks, int64_t batch, int64_t vocabulary);
// One token a row of logits [batch, vocabulary], by settings [batch], and the logarithm of its probability under softmax(logits).
// marks, on the host with arrays on the device, may be null, and so may allowed. Marks of no row and no token are left out.
int qwenvl_cuda_sample(const float* logits, const struct QwenvlSampling* settings, const float* uniform,
                       const struct QwenvlTokenMarks* marks, const int32_t* allowed, int64_t batch, int64_t vocabulary,
                       void* scratch, int64_t* tokens, float* log_probabilities, void* stream);

// y [rows, n] = x [rows, k] times the transposed weight, plus bias [n] if there is one; sums are float32. Reads the weight once
// for up to QWENVL_FEW_CUDA_ROWS rows; has none for more. x has its columns in the weight's order.
int qwenvl_cuda_linear_int4(const void* x, const struct QwenvlInt4Weight* weight, const void* bias,
                            enum QwenvlDtype dtype, int64_t rows, void* y, void* stream);
int qwenvl_cuda_linear_int8(const void* x, const struct QwenvlByteWeight* weight, const void* bias,
                            enum QwenvlDtype dtype, int64_t rows, void* y, void* stream);
int qwenvl_cuda_linear_fp8(const void* x, const struct QwenvlByteWeight* weight, const void* bias,
                           enum QwenvlDtype dtype, int64_t rows, void* y, void* stream);
// A weight's numbers [n, k], its columns as they lie.
int qwenvl_cuda_dequantize_int4(const struct QwenvlInt4Weight* weight, enum QwenvlDtype dtype, void* numbers,
                                void* stream);
int qwenvl_cuda_dequantize_int8(const struct QwenvlByteWeight* weight, enum QwenvlDtype dtype, void* numbers,
                                void* stream);
int qwenvl_cuda_dequantize_fp8(const struct QwenvlByteWeight* weight, enum QwenvlDtype dtype, void* numbers,
                               void* stream);
// Column i of y is column order[i] of x [rows, columns]; zeros if it has no such column.
int qwenvl_cuda_gather_columns(const void* x, const int32_t* order, enum QwenvlDtype dtype, int64_t rows,
                               int64_t columns, void* y, void* stream);

#ifdef __cplusplus
}
#endif
