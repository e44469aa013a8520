// The same ops for tensors on a GPU, in a build of Paddle with CUDA. Shapes have been checked by the caller; values on the
// device are not looked at, and the kernels leave alone what lies outside of their arrays.
#pragma once

#include "common.h"

#ifdef PADDLE_WITH_CUDA
// Leaves the function with `call`'s result where x is on a GPU.
#define QWENVL_IF_ON_GPU(x, call) \
  if ((x).is_gpu()) return call
#else
#define QWENVL_IF_ON_GPU(x, call) (void)0
#endif

namespace qwenvl {
namespace gpu {

std::vector<Tensor> layer_norm(const Tensor& x, const OptionalTensor& residual, const Tensor& weight,
                               const Tensor& bias, float epsilon);

Tensor linear_int4(const Tensor& x, const QwenvlInt4Weight& weight, const OptionalTensor& bias);
// int8 values, or the bits of fp8 ones.
Tensor linear_bytes(const Tensor& x, const Tensor& values, const Tensor& scale, const OptionalTensor& bias);

std::vector<Tensor> encode_rotary_qk(const Tensor& q, const Tensor& k, const Tensor& cos, const Tensor& sin);
std::vector<Tensor> qkv_transpose_split(const Tensor& qkv, const Tensor& cos, const Tensor& sin, int num_heads,
                                        int num_kv_heads);
void write_cache_kv(const Tensor& k, const Tensor& v, const Tensor& k_cache, const QwenvlKvCache& cache,
                    const Tensor& slot_mapping);
std::vector<Tensor> qkv_write_cache(const Tensor& qkv, const Tensor& cos, const Tensor& sin, const Tensor& k_cache,
                                    const QwenvlKvCache& cache, const Tensor& slot_mapping, int num_heads);

std::vector<Tensor> get_padding_offset(const Tensor& mask);
Tensor gather_rows(const Tensor& x, const Tensor& indices, int64_t rows, const Shape& shape);
Tensor scatter_rows(const Tensor& x, const Tensor& indices, int64_t rows, const Shape& shape);

std::vector<Tensor> qkv_decode_attention(const Tensor& qkv, const Tensor& cos, const Tensor& sin,
                                         const Tensor& k_cache, const QwenvlKvCache& cache, const Tensor& slot_mapping,
                                         const QwenvlRows& rows, int num_heads, float scale);
// cu_seqlens is none where token t is the only one of row t.
Tensor attention(const Tensor& q, const Tensor& k_cache, const QwenvlKvCache& cache, const QwenvlRows& rows,
                 const OptionalTensor& cu_seqlens, float scale);

std::vector<Tensor> sample(const Tensor& logits, const QwenvlSampling* settings, const Tensor& uniform,
                           const QwenvlTokenMarks* marks, const int32_t* allowed);

}  // namespace gpu
}  // namespace qwenvl
