// The CPU kernels' plain C interface: raw pointers to contiguous arrays, sizes, no framework.
// Activations are float32. T counts tokens, H query heads, Hkv key and value heads, D is the head size.
#pragma once

#include "../types.h"

#ifdef __cplusplus
extern "C" {
#endif

struct QwenvlCpuKernels {
  const char* isa;
  int integer_products;   // whether `linear` multiplies narrow weights in integers, faster than float32 products can be
  int bfloat16_products;  // whether it multiplies bfloat16 ones in bfloat16
  int tiles;              // whether it multiplies many rows on AMX's tiles, narrow weights of every kind but float16
  int int4_integers;      // whether `linear_int4` multiplies in integers

  // y = norm(x + residual), total = x + residual; residual and total may be null together. Arrays [rows, size].
  void (*rms_norm)(const float* x, const float* residual, const float* weight, float epsilon, int64_t rows,
                   int64_t size, float* total, float* y);
  void (*layer_norm)(const float* x, const float* residual, const float* weight, const float* bias, float epsilon,
                     int64_t rows, int64_t size, float* total, float* y);

  // y [rows, size], rows `stride` apart, = silu(first half) * second half of gate_up [rows, 2 size].
  void (*swiglu)(const float* gate_up, int64_t rows, int64_t size, int64_t stride, float* y);

  // Gradients, of both norms (layer_norm's if d_bias is not null) from the sum that was normalised, its gradient d_total
  // (or null) added, and of swiglu.
  void (*norm_gradient)(const float* x, const float* weight, const float* dy, const float* d_total, float epsilon,
                        int64_t rows, int64_t size, float* dx, float* d_weight, float* d_bias);
  void (*swiglu_gradient)(const float* gate_up, const float* dy, int64_t rows, int64_t size, float* d_gate_up);

  // y [rows, size] += bias [size], and its gradient.
  void (*add_bias)(const float* bias, int64_t rows, int64_t size, float* y);
  void (*column_sums)(const float* x, int64_t rows, int64_t size, float* sums);

  // Cosines and sines [T, size] of positions [rows, T] times frequencies, `apart` from token to token (0: all have the same);
  // row r turns sections[r] of them, one after the other.
  void (*mrope_tables)(const int64_t* positions, const float* frequencies, int64_t apart, const int64_t* sections,
                       int64_t rows, int64_t tokens, int64_t size, float* cos, float* sin);
  // Rotate x [T, H, D] by tables [T, D/2]; y may be x.
  void (*rotary)(const float* x, const float* cos, const float* sin, int64_t tokens, int64_t heads, int64_t head_dim,
                 float* y);
  // Packed qkv [T, (H + 2 Hkv) D] to rotated q [T, H, D] and k [T, Hkv, D] and to v [T, Hkv, D].
  void (*qkv_split)(const float* qkv, const float* cos, const float* sin, int64_t tokens, int64_t heads,
                    int64_t kv_heads, int64_t head_dim, float* q, float* k, float* v);
  void (*qkv_split_gradient)(const float* dq, const float* dk, const float* dv, const float* cos, const float* sin,
                             int64_t tokens, int64_t heads, int64_t kv_heads, int64_t head_dim, float* d_qkv);
  // Token t of k and v [T, Hkv, D] goes to slot slots[t].
  void (*write_cache)(const float* k, const float* v, const struct QwenvlKvCache* cache, const int32_t* slots,
                      int64_t tokens);
  // qkv_split and write_cache in one pass.
  void (*qkv_write_cache)(const float* qkv, const float* cos, const float* sin, const struct QwenvlKvCache* cache,
                          const int32_t* slots, int64_t tokens, int64_t heads, float* q);

  // Queries of segment i, rows cu_q[i] .. cu_q[i + 1], see keys cu_k[i] .. cu_k[i + 1]; causal is bottom-right aligned.
  void (*varlen_attention)(const float* q, const float* k, const float* v, const int32_t* cu_q, const int32_t* cu_k,
                           int64_t segments, int64_t heads, int64_t kv_heads, int64_t head_dim, int causal,
                           float scale, float* out);
  // The same of packed qkv [T, (H + 2 Hkv) D], whose queries and keys are turned by tables [T, D/2] on the way. If `narrow`,
  // both products may be computed in bfloat16.
  void (*qkv_attention)(const float* qkv, const float* cos, const float* sin, const int32_t* cu, int64_t segments,
                        int64_t heads, int64_t kv_heads, int64_t head_dim, int causal, float scale, int narrow,
                        float* out);
  void (*attention_gradient)(const float* q, const float* k, const float* v, const float* d_out, const int32_t* cu_q,
                             const int32_t* cu_k, int64_t segments, int64_t heads, int64_t kv_heads, int64_t head_dim,
                             int causal, float scale, float* dq, float* dk, float* dv);
  // Row b's new queries, rows cu_q[b] .. cu_q[b + 1] of q and out, are the last of its tokens; causal.
  void (*cached_attention)(const float* q, const struct QwenvlKvCache* cache, const struct QwenvlRows* rows,
                           const int32_t* cu_q, int64_t heads, float scale, float* out);
  // q and out [rows, H, D]; each row sees all of its tokens.
  void (*decode_attention)(const float* q, const struct QwenvlKvCache* cache, const struct QwenvlRows* rows,
                           int64_t heads, float scale, float* out);

  // Rows of x up to which `linear` uses such a weight right from the registers it was widened in: to float32, int8 to integers.
  int64_t (*few_rows)(enum QwenvlDtype weight);
  // y [m, n] = x [m, k] times the transpose of weight [n, k], times scales unless null, plus bias unless null.
  void (*linear)(const float* x, const void* weight, enum QwenvlDtype dtype, const float* scales, const float* bias,
                 int64_t m, int64_t k, int64_t n, float* y);
  // y [m, n / 2] = silu of the first half of such a product's columns, times the second half; for many rows.
  void (*linear_swiglu)(const float* x, const void* weight, enum QwenvlDtype dtype, const float* scales,
                        const float* bias, int64_t m, int64_t k, int64_t n, float* y);
  // `linear` with an int4 weight; x is in its order.
  void (*linear_int4)(const float* x, const struct QwenvlInt4Weight* weight, const float* bias, int64_t m, float* y);
  void (*linear_int4_swiglu)(const float* x, const struct QwenvlInt4Weight* weight, const float* bias, int64_t m, float* y);
  // Rows first .. first + count of such a weight, rounded to bfloat16.
  void (*int4_to_bfloat16)(const struct QwenvlInt4Weight* weight, int64_t first, int64_t count, uint16_t* y);
  // Rows `ids` [T] of a weight [., size], times their scales unless null: y [T, size].
  void (*embedding)(const int64_t* ids, const void* weight, enum QwenvlDtype dtype, const float* scales, int64_t tokens,
                    int64_t size, float* y);
  // weight [rows, size] of float32, bfloat16 or float16 to int8 y and the worth of a step, scales [rows].
  void (*quantize)(const void* weight, enum QwenvlDtype dtype, int64_t rows, int64_t size, int8_t* y, float* scales);
  // From any dtype that a weight may have, exactly.
  void (*to_float32)(const void* x, enum QwenvlDtype dtype, int64_t size, float* y);
  // To the nearest bfloat16.
  void (*to_bfloat16)(const float* x, int64_t size, uint16_t* y);
  // From int8 or fp8 to bfloat16, exactly.
  void (*widen_to_bfloat16)(const void* x, enum QwenvlDtype dtype, int64_t size, uint16_t* y);

  // One token a row of logits [batch, vocabulary], by settings [batch]; marks may be null, and so may allowed, a bit a
  // token in [batch, ceil(vocabulary / 32)].
  void (*sample)(const float* logits, const struct QwenvlSampling* settings, const float* uniform,
                 const struct QwenvlTokenMarks* marks, const int32_t* allowed, int64_t batch, int64_t vocabulary,
                 int64_t* tokens);
  // Logarithms of the tokens' probabilities under softmax(logits).
  void (*log_probability)(const float* logits, const int64_t* tokens, int64_t batch, int64_t vocabulary, float* y);
};

// The kernels for the best instruction set that both this build and this CPU have, or for the one that the environment
// variable QWENVL_ISA names (generic, avx2, avx512, avx512_vnni, avx512_bf16, amx).
const struct QwenvlCpuKernels* qwenvl_cpu_kernels(void);
const char* qwenvl_cpu_isa(void);

// How a product is computed, which says how it rounds: in float32; x and narrow weights as integers in blocks
// (products_integer.h); or x as bfloat16 (products_bfloat16.h, products_tiles.h, or oneDNN), with sums in float32.
enum QwenvlProduct { QWENVL_PRODUCT_FLOAT32 = 0, QWENVL_PRODUCT_INTEGERS = 1, QWENVL_PRODUCT_BFLOAT16 = 2 };
enum {
  QWENVL_FEW_ROWS = 8,         // what few_rows of a kernel is where nothing else was measured to be faster
  QWENVL_SOME_ROWS = 32        // more than which are multiplied faster by tiles, or in bfloat16 by oneDNN
};
enum QwenvlProduct qwenvl_product(enum QwenvlDtype weight, int64_t rows);

// The table's `linear`, or oneDNN where that is faster.
void qwenvl_linear(const float* x, const void* weight, enum QwenvlDtype dtype, const float* scales, const float* bias,
                   int64_t m, int64_t k, int64_t n, float* y);
// The table's `linear_swiglu`, or what comes to the same.
void qwenvl_linear_swiglu(const float* x, const void* weight, enum QwenvlDtype dtype, const float* scales,
                          const float* bias, int64_t m, int64_t k, int64_t n, float* y);
void qwenvl_linear_int4(const float* x, const struct QwenvlInt4Weight* weight, const float* bias, int64_t m, float* y);
void qwenvl_linear_int4_swiglu(const float* x, const struct QwenvlInt4Weight* weight, const float* bias, int64_t m, float* y);
// Whether this build was linked with Paddle's oneDNN, and whether that has AMX on this CPU.
int qwenvl_has_onednn(void);
int qwenvl_has_amx(void);

// The kernels and products that run: the table's name, or avx512_bf16 or amx where it is oneDNN that multiplies so.
const char* qwenvl_cpu_path(void);

// How many threads every kernel uses; by default as many as OpenMP would.
int qwenvl_threads(void);
void qwenvl_set_threads(int threads);

#ifdef __cplusplus
}
#endif
