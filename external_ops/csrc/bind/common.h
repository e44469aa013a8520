// What every binding needs: checks, casts to what the kernels take, allocation.
//
// An op is registered once, for all devices: its function here checks shapes, then runs the CUDA kernels (gpu.h) where the
// tensors are on a GPU, and the CPU kernels otherwise.
#pragma once

#include <stdlib.h>

#include <string>
#include <vector>

#include "../cpu/kernels.h"
#include "paddle/phi/api/all.h"
#include "recording.h"
#ifdef QWENVL_PYTHON
#include "direct.h"
#else
#define QWENVL_DIRECT(name)
#endif

namespace qwenvl {

using paddle::DataType;
using paddle::Tensor;
using Shape = std::vector<int64_t>;
using OptionalTensor = paddle::optional<Tensor>;

inline std::string text(const Shape& shape) {
  std::string s = "[";
  for (size_t i = 0; i < shape.size(); ++i) s += (i ? ", " : "") + std::to_string(shape[i]);
  return s + "]";
}

inline void expect_shape(const char* name, const Tensor& x, const Shape& shape) {
  PD_CHECK(x.shape() == shape, name, " has shape ", text(x.shape()), ", expected ", text(shape));
}
inline void expect_dtype(const char* name, const Tensor& x, DataType dtype) {
  PD_CHECK(x.dtype() == dtype, name, " has dtype ", x.dtype(), ", expected ", dtype);
}

inline void expect_together(const char* name, const Tensor& x, const Tensor& other) {
  PD_CHECK(x.place() == other.place(), name, " is on ", x.place(), " and what it goes with on ", other.place());
}

// The head size of packed qkv [T, (H + 2 Hkv) D], and tables [T, D/2] to turn heads by.
inline int64_t packed_head_dim(const Tensor& qkv, int64_t heads, int64_t kv_heads) {
  const int64_t width = qkv.shape().back(), all = heads + 2 * kv_heads;
  PD_CHECK(width % all == 0, "qkv has ", width, " columns, which ", all, " heads do not divide");
  return width / all;
}
inline void expect_tables(const Tensor& cos, const Tensor& sin, int64_t tokens, int64_t head_dim) {
  PD_CHECK(head_dim % 2 == 0, "rotary embedding needs an even head size, not ", head_dim);
  expect_shape("cos", cos, {tokens, head_dim / 2});
  expect_shape("sin", sin, {tokens, head_dim / 2});
}

// The CPU kernels compute on contiguous float32; anything else is cast or copied first.
inline Tensor wide(const Tensor& x) {
  PD_CHECK(x.is_cpu(), "this op of paddlemix_qwenvl_ops has a kernel for the CPU only here, and the tensor is on ",
           x.place());
  if (x.dtype() == DataType::FLOAT32) return x;
  const auto cast = [&] { return x.cast(DataType::FLOAT32); };
  Recording* const recording = Recording::current();
  return recording && recording->is_constant(x) ? recording->made(false, cast) : cast();
}
inline OptionalTensor wide(const OptionalTensor& x) { return x ? OptionalTensor(wide(*x)) : x; }
inline const float* data(const OptionalTensor& x) { return x ? x->data<float>() : nullptr; }

// On the CPU a large tensor lies in a plain block of the C library's, which the next of its size takes over once it is
// freed. Paddle asks for an alignment of 4096, for which glibc (2.36) looks for a hole that is larger by as much than the
// tensor, and so than the hole its like has left: with that the heap grew from prompt to prompt.
inline Tensor fresh(const Shape& shape, DataType dtype, const Tensor& like) {
  constexpr size_t LARGE = 1 << 20, ALIGNMENT = 64;
  size_t bytes = phi::SizeOf(dtype);
  for (int64_t size : shape) bytes *= size;
  if (!like.is_cpu() || bytes < LARGE) return paddle::empty(shape, dtype, like.place());
  void* const block = malloc(bytes + ALIGNMENT);
  PD_CHECK(block, "no memory for a tensor of ", bytes, " bytes");
  void* const data = (void*)(((size_t)block + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT);
  return paddle::from_blob(data, shape, dtype, phi::DataLayout::NCHW, like.place(), [block](void*) { free(block); });
}
// One whose numbers are all written next. Of a recording that is played it is the one that was made first.
inline Tensor empty(const Shape& shape, DataType dtype, const Tensor& like) {
  Recording* const recording = Recording::current();
  if (!recording) return fresh(shape, dtype, like);
  const Tensor kept = recording->made(true, [&] {
    const Tensor spare = recording->spare(shape, dtype);
    return spare.impl() ? spare : fresh(shape, dtype, like);
  });
  expect_shape("what is kept of a recording", kept, shape);
  return kept;
}
// A gradient that reaches an op: float32, zeros for an output that nothing depends on.
inline Tensor arriving(const Tensor& gradient, const Shape& shape, const Tensor& like) {
  return gradient.impl() ? wide(gradient) : paddle::full(shape, 0, DataType::FLOAT32, like.place());
}
inline Tensor narrow(const Tensor& y, const Tensor& like) { return y.dtype() == like.dtype() ? y : y.cast(like.dtype()); }

inline Shape with_last(Shape shape, int64_t last) {
  shape.back() = last;
  return shape;
}

inline QwenvlDtype kernel_dtype(const char* name, const Tensor& x) {
  switch (x.dtype()) {
    case DataType::FLOAT32: return QWENVL_FLOAT32;
    case DataType::BFLOAT16: return QWENVL_BFLOAT16;
    case DataType::FLOAT16: return QWENVL_FLOAT16;
    case DataType::INT8: return QWENVL_INT8;
    default: PD_THROW(name, " has dtype ", x.dtype(), "; expected float32, bfloat16, float16 or int8");
  }
}

// A cache is written by ops that name it in their SetInplaceMap and by no other.
inline QwenvlKvCache kv_cache(const Tensor& k_cache, const Tensor& v_cache) {
  const Shape shape = k_cache.shape();
  PD_CHECK(shape.size() == 4, "k_cache has shape ", text(shape), ", expected [N, Hkv, block, D]");
  PD_CHECK(shape[2] > 0, "k_cache has blocks of no slots");
  expect_shape("v_cache", v_cache, shape);
  expect_dtype("v_cache", v_cache, k_cache.dtype());
  const QwenvlDtype dtype = kernel_dtype("k_cache", k_cache);
  PD_CHECK(dtype != QWENVL_INT8, "a KV cache may be float32, bfloat16 or float16, not int8");
  return {const_cast<void*>(k_cache.data()), const_cast<void*>(v_cache.data()), dtype, shape[0], shape[1], shape[2],
          shape[3]};
}

// Of sample.cc and rotary.cc.
void expect_token(int64_t token, int64_t vocabulary);
void expect_slots(const QwenvlKvCache& cache, const Tensor& slot_mapping, const Tensor& x);
std::vector<Tensor> qkv_write_cache(const Tensor& qkv, const Tensor& cos, const Tensor& sin, Tensor& k_cache,
                                    Tensor& v_cache, const Tensor& slot_mapping, int num_heads);

}  // namespace qwenvl

// Declares the op qwenvl_NAME: NAME runs it, NAME_shape and NAME_dtype infer what it gives, all in namespace qwenvl.
#define QWENVL_BUILD_OP(name)                                \
  QWENVL_DIRECT(name)                                        \
  PD_BUILD_OP(qwenvl_##name)                                 \
      .SetKernelFn(PD_KERNEL(qwenvl::name))                  \
      .SetInferShapeFn(PD_INFER_SHAPE(qwenvl::name##_shape)) \
      .SetInferDtypeFn(PD_INFER_DTYPE(qwenvl::name##_dtype))

// And its gradient, the function NAME_gradient.
#define QWENVL_BUILD_GRADIENT(name) PD_BUILD_GRAD_OP(qwenvl_##name).SetKernelFn(PD_KERNEL(qwenvl::name##_gradient))
