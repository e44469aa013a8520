// What the C interfaces of the CPU and the CUDA kernels share.
#pragma once

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum QwenvlDtype { QWENVL_FLOAT32, QWENVL_BFLOAT16, QWENVL_FLOAT16, QWENVL_INT8, QWENVL_FP8, QWENVL_INT4 };

enum { QWENVL_LARGEST_HEAD = 512, QWENVL_LARGEST_CUDA_HEAD = 256 };  // of decode_attention and cached_attention
enum { QWENVL_LARGEST_CUDA_ROW = 16384 };                            // of layer_norm
enum { QWENVL_FEW_CUDA_ROWS = 32 };                                  // of products with narrow weights
enum { QWENVL_CUDA_BYTE_INPUTS_OF = 32 };                            // what the inputs of linear_int8 and linear_fp8 are a multiple of

// [n, k], numbers (q - zero) * scale in groups of inputs, whose number is a multiple of QWENVL_INT4_GROUPS_OF and divides k.
struct QwenvlInt4Weight {
  const uint8_t* values;        // [n, k / 2], two q of neighbouring inputs a byte, the lower four bits first
  const void* scales;           // [n, k / group], of scale_dtype: float32, bfloat16 or float16
  const uint8_t* zeros;         // [n, k / group], or null where all are 8
  const int32_t* order;         // [k], which number of x an input takes, or null
  enum QwenvlDtype scale_dtype;
  int64_t n, k, group;
};
enum { QWENVL_INT4_GROUPS_OF = 32 };

struct QwenvlByteWeight {   // [n, k], numbers value * scale
  const uint8_t* values;    // [n, k], int8, or the bits of float8 e4m3
  const void* scales;       // [n], of scale_dtype: float32, bfloat16 or float16
  enum QwenvlDtype scale_dtype;
  int64_t n, k;
};

struct QwenvlKvCache {  // k and v: [blocks, kv_heads, block_size, head_dim]; slot s is offset s % block_size of block s / block_size
  void* k;
  void* v;
  enum QwenvlDtype dtype;  // float32, bfloat16 or float16
  int64_t blocks, kv_heads, block_size, head_dim;
};

struct QwenvlRows {  // of a batch: row b's lengths[b] tokens fill the blocks that row b of block_tables [count, blocks] names, in order
  const int32_t* block_tables;
  const int32_t* lengths;
  int64_t count, blocks;
};

struct QwenvlSampling {  // a row's
  float temperature, top_k, top_p, min_p, repetition_penalty, presence_penalty, frequency_penalty;
};

// Row b's tokens that penalties or a bias fall on, each once, are numbers offsets[b] to offsets[b + 1] of `size`.
struct QwenvlTokenMarks {
  const int32_t* offsets;
  const int32_t* tokens;
  const int32_t* counts;  // times in the answer; 0 for a token of the prompt alone, -1 for one that is in neither
  const float* bias;
  int64_t size;
};

#ifdef __cplusplus
}
#endif
