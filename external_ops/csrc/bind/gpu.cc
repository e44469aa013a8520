#include "gpu.h"

extern "C" int qwenvl_has_cuda(void) {
#ifdef PADDLE_WITH_CUDA
  return 1;
#else
  return 0;
#endif
}

#ifdef PADDLE_WITH_CUDA
#include "../cuda/kernels.h"

namespace qwenvl {
namespace gpu {
namespace {

void check(int error, const char* op) {
  PD_CHECK(error == 0, op, " met the CUDA error ", error, ": ", cudaGetErrorString((cudaError_t)error));
}

void* stream_of(const Tensor& x) { return (void*)x.stream(); }

Tensor as(const Tensor& x, DataType dtype) { return x.dtype() == dtype ? x : x.cast(dtype); }

const uint8_t* bytes(const Tensor& mask) { return (const uint8_t*)mask.data<bool>(); }

// `few` multiplies few rows by a narrow weight. Many are multiplied by Paddle, with the weight's numbers in x's dtype, which
// live as long as the call.
template <class Few, class Dequantize, class Weight>
Tensor product(Few few, Dequantize dequantize, const Tensor& x, const Weight& weight, const OptionalTensor& bias) {
  const int64_t rows = x.numel() / weight.k;
  const QwenvlDtype dtype = kernel_dtype("x", x);
  const OptionalTensor added = bias ? OptionalTensor(as(*bias, x.dtype())) : bias;
  if (rows <= QWENVL_FEW_CUDA_ROWS) {
    Tensor y = empty(with_last(x.shape(), weight.n), x.dtype(), x);
    check(few(x.data(), &weight, added ? added->data() : nullptr, dtype, rows, y.data(), stream_of(x)), "linear");
    return y;
  }
  Tensor numbers = empty({weight.n, weight.k}, x.dtype(), x);
  check(dequantize(&weight, dtype, numbers.data(), stream_of(x)), "linear");
  const Tensor y = paddle::matmul(x, numbers, false, true);
  return added ? paddle::add(y, *added) : y;
}

}  // namespace

std::vector<Tensor> layer_norm(const Tensor& x, const OptionalTensor& residual, const Tensor& weight,
                               const Tensor& bias, float epsilon) {
  const int64_t size = x.shape().back(), rows = size ? x.numel() / size : 0;
  const Tensor scale = as(weight, x.dtype()), shift = as(bias, x.dtype());
  const OptionalTensor added = residual ? OptionalTensor(as(*residual, x.dtype())) : residual;
  std::vector<Tensor> outputs{empty(x.shape(), x.dtype(), x)};
  if (residual) outputs.push_back(empty(x.shape(), x.dtype(), x));
  check(qwenvl_cuda_layer_norm(x.data(), added ? added->data() : nullptr, scale.data(), shift.data(),
                               kernel_dtype("x", x), epsilon, rows, size, residual ? outputs[1].data() : nullptr,
                               outputs[0].data(), stream_of(x)),
        "layer_norm");
  return outputs;
}

Tensor linear_int4(const Tensor& x, const QwenvlInt4Weight& weight, const OptionalTensor& bias) {
  if (!weight.order) return product(qwenvl_cuda_linear_int4, qwenvl_cuda_dequantize_int4, x, weight, bias);
  Tensor in = empty(x.shape(), x.dtype(), x);
  check(qwenvl_cuda_gather_columns(x.data(), weight.order, kernel_dtype("x", x), x.numel() / weight.k, weight.k,
                                   in.data(), stream_of(x)),
        "linear_int4");
  return product(qwenvl_cuda_linear_int4, qwenvl_cuda_dequantize_int4, in, weight, bias);
}

Tensor linear_bytes(const Tensor& x, const Tensor& values, const Tensor& scale, const OptionalTensor& bias) {
  const QwenvlByteWeight weight{(const uint8_t*)values.data(), scale.data(), kernel_dtype("scale", scale),
                                values.shape()[0], values.shape()[1]};
  if (values.dtype() == DataType::INT8)
    return product(qwenvl_cuda_linear_int8, qwenvl_cuda_dequantize_int8, x, weight, bias);
  return product(qwenvl_cuda_linear_fp8, qwenvl_cuda_dequantize_fp8, x, weight, bias);
}

std::vector<Tensor> encode_rotary_qk(const Tensor& q, const Tensor& k, const Tensor& cos, const Tensor& sin) {
  expect_dtype("k", k, q.dtype());
  const Tensor c = as(cos, DataType::FLOAT32), s = as(sin, DataType::FLOAT32);
  Tensor q_out = empty(q.shape(), q.dtype(), q), k_out = empty(k.shape(), k.dtype(), k);
  check(qwenvl_cuda_rotary(q.data(), k.data(), c.data<float>(), s.data<float>(), kernel_dtype("q", q), q.shape()[0],
                           q.shape()[1], k.shape()[1], q.shape()[2], q_out.data(), k_out.data(), stream_of(q)),
        "encode_rotary_qk");
  return {q_out, k_out};
}

std::vector<Tensor> qkv_transpose_split(const Tensor& qkv, const Tensor& cos, const Tensor& sin, int num_heads,
                                        int num_kv_heads) {
  const int64_t tokens = qkv.shape()[0], head_dim = qkv.shape().back() / (num_heads + 2 * num_kv_heads);
  const Tensor c = as(cos, DataType::FLOAT32), s = as(sin, DataType::FLOAT32);
  Tensor q = empty({tokens, num_heads, head_dim}, qkv.dtype(), qkv);
  Tensor k = empty({tokens, num_kv_heads, head_dim}, qkv.dtype(), qkv);
  Tensor v = empty({tokens, num_kv_heads, head_dim}, qkv.dtype(), qkv);
  check(qwenvl_cuda_qkv_split(qkv.data(), c.data<float>(), s.data<float>(), kernel_dtype("qkv", qkv), tokens,
                              num_heads, num_kv_heads, head_dim, q.data(), k.data(), v.data(), stream_of(qkv)),
        "qkv_transpose_split");
  return {q, k, v};
}

void write_cache_kv(const Tensor& k, const Tensor& v, const Tensor& k_cache, const QwenvlKvCache& cache,
                    const Tensor& slot_mapping) {
  const Tensor new_k = as(k, k_cache.dtype()), new_v = as(v, k_cache.dtype());
  check(qwenvl_cuda_write_cache(new_k.data(), new_v.data(), &cache, slot_mapping.data<int32_t>(), k.shape()[0],
                                stream_of(k)),
        "write_cache_kv");
}

std::vector<Tensor> qkv_write_cache(const Tensor& qkv, const Tensor& cos, const Tensor& sin, const Tensor& k_cache,
                                    const QwenvlKvCache& cache, const Tensor& slot_mapping, int num_heads) {
  const Tensor in = as(qkv, k_cache.dtype()), c = as(cos, DataType::FLOAT32), s = as(sin, DataType::FLOAT32);
  Tensor q = empty({qkv.shape()[0], num_heads, cache.head_dim}, in.dtype(), qkv);
  check(qwenvl_cuda_qkv_write_cache(in.data(), c.data<float>(), s.data<float>(), &cache,
                                    slot_mapping.data<int32_t>(), qkv.shape()[0], num_heads, q.data(), stream_of(qkv)),
        "qkv_write_cache");
  return {narrow(q, qkv)};
}

std::vector<Tensor> get_padding_offset(const Tensor& mask) {
  const int64_t batch = mask.shape()[0], length = mask.shape()[1];
  Tensor cu_seqlens = empty({batch + 1}, DataType::INT32, mask);
  check(qwenvl_cuda_count_tokens(bytes(mask), batch, length, cu_seqlens.data<int32_t>(), stream_of(mask)),
        "get_padding_offset");
  const Tensor counted = cu_seqlens.copy_to(paddle::CPUPlace(), true);
  Tensor indices = empty({counted.data<int32_t>()[batch]}, DataType::INT64, mask);
  check(qwenvl_cuda_token_indices(bytes(mask), cu_seqlens.data<int32_t>(), batch, length, indices.data<int64_t>(),
                                  stream_of(mask)),
        "get_padding_offset");
  return {indices, cu_seqlens};
}

// `move` is one of the two kernels that copy rows to a new tensor; `whole` is the number of numbers in the one of both that has
// `rows` rows.
template <class Move>
Tensor moved(Move move, const char* name, const Tensor& x, const Tensor& indices, int64_t rows, int64_t whole,
             const Shape& shape) {
  Tensor y = empty(shape, x.dtype(), x);
  const int64_t row_bytes = rows ? whole / rows * phi::SizeOf(x.dtype()) : 0;
  check(move(x.data(), indices.data<int64_t>(), indices.numel(), rows, row_bytes, y.data(), stream_of(x)), name);
  return y;
}

Tensor gather_rows(const Tensor& x, const Tensor& indices, int64_t rows, const Shape& shape) {
  return moved(qwenvl_cuda_gather_rows, "transpose_remove_padding", x, indices, rows, x.numel(), shape);
}

Tensor scatter_rows(const Tensor& x, const Tensor& indices, int64_t rows, const Shape& shape) {
  int64_t whole = 1;
  for (int64_t size : shape) whole *= size;
  return moved(qwenvl_cuda_scatter_rows, "rebuild_padding", x, indices, rows, whole, shape);
}

Tensor attention(const Tensor& q, const Tensor& k_cache, const QwenvlKvCache& cache, const QwenvlRows& rows,
                 const OptionalTensor& cu_seqlens, float scale) {
  const Tensor queries = as(q, k_cache.dtype());
  const int64_t tokens = q.shape()[0], heads = q.shape()[1];
  Tensor scratch = empty({qwenvl_cuda_attention_scratch(&cache, &rows, tokens, heads)}, DataType::UINT8, q);
  Tensor out = empty(q.shape(), queries.dtype(), q);
  const int error =
      cu_seqlens ? qwenvl_cuda_cached_attention(queries.data(), &cache, &rows, cu_seqlens->data<int32_t>(), tokens,
                                                heads, scale, scratch.data(), out.data(), stream_of(q))
                 : qwenvl_cuda_decode_attention(queries.data(), &cache, &rows, heads, scale, scratch.data(),
                                                out.data(), stream_of(q));
  check(error, "attention to the cache");
  return narrow(out, q);
}

std::vector<Tensor> qkv_decode_attention(const Tensor& qkv, const Tensor& cos, const Tensor& sin,
                                         const Tensor& k_cache, const QwenvlKvCache& cache, const Tensor& slot_mapping,
                                         const QwenvlRows& rows, int num_heads, float scale) {
  const Tensor in = as(qkv, k_cache.dtype()), c = as(cos, DataType::FLOAT32), s = as(sin, DataType::FLOAT32);
  Tensor scratch = empty({qwenvl_cuda_attention_scratch(&cache, &rows, rows.count, num_heads)}, DataType::UINT8, qkv);
  Tensor out = empty({rows.count, num_heads * cache.head_dim}, in.dtype(), qkv);
  check(qwenvl_cuda_qkv_decode_attention(in.data(), c.data<float>(), s.data<float>(), &cache,
                                         slot_mapping.data<int32_t>(), &rows, num_heads, scale, scratch.data(),
                                         out.data(), stream_of(qkv)),
        "qkv_decode_attention");
  return {narrow(out, qkv)};
}

std::vector<Tensor> sample(const Tensor& logits, const QwenvlSampling* settings, const Tensor& uniform,
                           const QwenvlTokenMarks* marks, const int32_t* allowed) {
  const Tensor in = as(logits, DataType::FLOAT32);
  const int64_t batch = logits.shape()[0], vocabulary = logits.shape()[1];
  Tensor scratch = empty({qwenvl_cuda_sample_scratch(marks, batch, vocabulary)}, DataType::UINT8, logits);
  Tensor drawn = empty({batch}, DataType::INT64, logits), logs = empty({batch}, DataType::FLOAT32, logits);
  check(qwenvl_cuda_sample(in.data<float>(), settings, uniform.data<float>(), marks, allowed, batch, vocabulary,
                           scratch.data(), drawn.data<int64_t>(), logs.data<float>(), stream_of(logits)),
        "sample");
  return {drawn, logs};
}

}  // namespace gpu
}  // namespace qwenvl
#endif
