// What the C interfaces of the CPU and the CUDA kernels share.
#pragma once

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum QwenvlDtype { QWENVL_FLOAT32, QWENVL_BFLOAT16, QWENVL_FLOAT16, QWENVL_INT8 };

enum { QWENVL_LARGEST_HEAD = 512, QWENVL_LARGEST_CUDA_HEAD = 256 };  // of decode_attention and cached_attention
enum { QWENVL_LARGEST_CUDA_ROW = 16384 };                            // of layer_norm

struct QwenvlKvCache {  // k and v: [batch, kv_heads, slots, head_dim]
  void* k;
  void* v;
  enum QwenvlDtype dtype;  // float32, bfloat16 or float16
  int64_t batch, kv_heads, slots, head_dim;
};

struct QwenvlSampling {
  float temperature, top_p, repetition_penalty;
  int64_t top_k;
};

#ifdef __cplusplus
}
#endif
