#include "gpu.h"

namespace qwenvl {

void expect_slots(const QwenvlKvCache& cache, const Tensor& slot_mapping, const Tensor& x) {
  const int64_t tokens = x.shape()[0];
  expect_shape("slot_mapping", slot_mapping, {tokens});
  expect_dtype("slot_mapping", slot_mapping, DataType::INT32);
  expect_together("slot_mapping", slot_mapping, x);
  if (!slot_mapping.is_cpu()) return;
  const int32_t* slot = slot_mapping.data<int32_t>();
  for (int64_t t = 0; t < tokens; ++t)
    PD_CHECK(slot[t] >= 0 && slot[t] < cache.blocks * cache.block_size, "token ", t, " goes to slot ", slot[t],
             " of a cache of ", cache.blocks, " blocks of ", cache.block_size, " slots");
}

std::vector<Tensor> mrope_tables(const Tensor& position_ids, const Tensor& inv_freq, int first, int second, int third) {
  const Shape shape = position_ids.shape();
  const int64_t size = inv_freq.shape().back(), tokens = shape.back(), rows = shape.size() == 1 ? 1 : shape[0];
  const int64_t sections[] = {first, second, third};
  PD_CHECK(shape.size() == 1 || (shape.size() == 2 && rows > 0 && rows <= 3),
           "positions are [T] or up to three rows of them, not ", text(shape));
  int64_t turned = 0;
  for (int64_t r = 0; r < rows; ++r) turned += sections[r] < 0 ? size + 1 : sections[r];
  PD_CHECK(turned == size, "mrope_section does not share out ", size, " frequencies among ", rows, " rows of positions");
  const bool for_each = inv_freq.numel() != size;  // token
  if (for_each) expect_shape("inv_freq", inv_freq, {tokens, size});
  const Tensor positions = position_ids.dtype() == DataType::INT64 ? position_ids : position_ids.cast(DataType::INT64);
  const Tensor frequencies = wide(inv_freq);
  Tensor cos = empty({tokens, size}, DataType::FLOAT32, inv_freq), sin = empty({tokens, size}, DataType::FLOAT32, inv_freq);
  qwenvl_cpu_kernels()->mrope_tables(positions.data<int64_t>(), frequencies.data<float>(),
                                     for_each ? size : 0, sections, rows, tokens, size, cos.data<float>(), sin.data<float>());
  return {cos, sin};
}

std::vector<Tensor> encode_rotary_qk(const Tensor& q, const Tensor& k, const Tensor& cos, const Tensor& sin) {
  for (const Shape& shape : {q.shape(), k.shape()}) {
    PD_CHECK(shape.size() == 3, "q and k are [T, heads, D], not ", text(shape));
    expect_tables(cos, sin, shape[0], shape[2]);
  }
  QWENVL_IF_ON_GPU(q, gpu::encode_rotary_qk(q, k, cos, sin));
  std::vector<Tensor> outputs;
  const Tensor c = wide(cos), s = wide(sin);
  for (const Tensor& x : {q, k}) {
    const Shape shape = x.shape();
    const Tensor in = wide(x);
    Tensor y = empty(shape, DataType::FLOAT32, x);
    qwenvl_cpu_kernels()->rotary(in.data<float>(), c.data<float>(), s.data<float>(), shape[0], shape[1], shape[2],
                                 y.data<float>());
    outputs.push_back(narrow(y, x));
  }
  return outputs;
}

std::vector<Tensor> qkv_transpose_split(const Tensor& qkv, const Tensor& cos, const Tensor& sin, int num_heads,
                                        int num_kv_heads) {
  const int64_t tokens = qkv.shape()[0], head_dim = packed_head_dim(qkv, num_heads, num_kv_heads);
  expect_tables(cos, sin, tokens, head_dim);
  QWENVL_IF_ON_GPU(qkv, gpu::qkv_transpose_split(qkv, cos, sin, num_heads, num_kv_heads));
  const Tensor in = wide(qkv), c = wide(cos), s = wide(sin);
  Tensor q = empty({tokens, num_heads, head_dim}, DataType::FLOAT32, qkv);
  Tensor k = empty({tokens, num_kv_heads, head_dim}, DataType::FLOAT32, qkv);
  Tensor v = empty({tokens, num_kv_heads, head_dim}, DataType::FLOAT32, qkv);
  qwenvl_cpu_kernels()->qkv_split(in.data<float>(), c.data<float>(), s.data<float>(), tokens, num_heads, num_kv_heads,
                                  head_dim, q.data<float>(), k.data<float>(), v.data<float>());
  return {narrow(q, qkv), narrow(k, qkv), narrow(v, qkv)};
}

std::vector<Tensor> qkv_transpose_split_gradient(const Tensor& cos, const Tensor& sin, const Tensor& dq,
                                                 const Tensor& dk, const Tensor& dv, int num_heads, int num_kv_heads) {
  const int64_t tokens = cos.shape()[0], head_dim = 2 * cos.shape()[1];
  const Shape query_shape{tokens, num_heads, head_dim}, key_shape{tokens, num_kv_heads, head_dim};
  const Tensor c = wide(cos), s = wide(sin), q = arriving(dq, query_shape, cos);
  const Tensor k = arriving(dk, key_shape, cos), v = arriving(dv, key_shape, cos);
  Tensor d_qkv = empty({tokens, (num_heads + 2 * num_kv_heads) * head_dim}, DataType::FLOAT32, cos);
  qwenvl_cpu_kernels()->qkv_split_gradient(q.data<float>(), k.data<float>(), v.data<float>(), c.data<float>(),
                                           s.data<float>(), tokens, num_heads, num_kv_heads, head_dim,
                                           d_qkv.data<float>());
  return {dq.impl() ? narrow(d_qkv, dq) : d_qkv};
}

void write_cache_kv(const Tensor& k, const Tensor& v, Tensor& k_cache, Tensor& v_cache,
                    const Tensor& slot_mapping) {
  const QwenvlKvCache cache = kv_cache(k_cache, v_cache);
  const int64_t tokens = k.shape()[0];
  expect_shape("k", k, {tokens, cache.kv_heads, cache.head_dim});
  expect_shape("v", v, k.shape());
  expect_slots(cache, slot_mapping, k);
  QWENVL_IF_ON_GPU(k, gpu::write_cache_kv(k, v, k_cache, cache, slot_mapping));
  const Tensor new_k = wide(k), new_v = wide(v);
  qwenvl_cpu_kernels()->write_cache(new_k.data<float>(), new_v.data<float>(), &cache,
                                    slot_mapping.data<int32_t>(), tokens);
}

std::vector<Tensor> qkv_write_cache(const Tensor& qkv, const Tensor& cos, const Tensor& sin, Tensor& k_cache,
                                    Tensor& v_cache, const Tensor& slot_mapping, int num_heads) {
  const QwenvlKvCache cache = kv_cache(k_cache, v_cache);
  const int64_t tokens = qkv.shape()[0];
  expect_shape("qkv", qkv, {tokens, (num_heads + 2 * cache.kv_heads) * cache.head_dim});
  expect_tables(cos, sin, tokens, cache.head_dim);
  expect_slots(cache, slot_mapping, qkv);
  QWENVL_IF_ON_GPU(qkv, gpu::qkv_write_cache(qkv, cos, sin, k_cache, cache, slot_mapping, num_heads));
  const Tensor in = wide(qkv), c = wide(cos), s = wide(sin);
  Tensor q = empty({tokens, num_heads, cache.head_dim}, DataType::FLOAT32, qkv);
  qwenvl_cpu_kernels()->qkv_write_cache(in.data<float>(), c.data<float>(), s.data<float>(), &cache,
                                        slot_mapping.data<int32_t>(), tokens, num_heads, q.data<float>());
  return {narrow(q, qkv)};
}

std::vector<Shape> mrope_tables_shape(Shape position_ids, Shape inv_freq, int, int, int) {
  const Shape table{position_ids.back(), inv_freq.back()};
  return {table, table};
}
std::vector<DataType> mrope_tables_dtype(DataType, DataType) { return {DataType::FLOAT32, DataType::FLOAT32}; }
std::vector<Shape> encode_rotary_qk_shape(Shape q, Shape k, Shape, Shape) { return {q, k}; }
std::vector<DataType> encode_rotary_qk_dtype(DataType q, DataType k, DataType, DataType) { return {q, k}; }
std::vector<Shape> qkv_transpose_split_shape(Shape qkv, Shape cos, Shape, int num_heads, int num_kv_heads) {
  const int64_t head_dim = qkv[1] / (num_heads + 2 * num_kv_heads);
  return {{qkv[0], num_heads, head_dim}, {qkv[0], num_kv_heads, head_dim}, {qkv[0], num_kv_heads, head_dim}};
}
std::vector<DataType> qkv_transpose_split_dtype(DataType qkv, DataType, DataType) { return {qkv, qkv, qkv}; }
std::vector<Shape> write_cache_kv_shape(Shape, Shape, Shape k_cache, Shape v_cache, Shape) {
  return {k_cache, v_cache};
}
std::vector<DataType> write_cache_kv_dtype(DataType, DataType, DataType k_cache, DataType v_cache, DataType) {
  return {k_cache, v_cache};
}
std::vector<Shape> qkv_write_cache_shape(Shape qkv, Shape, Shape, Shape k_cache, Shape v_cache, Shape,
                                         int num_heads) {
  return {{qkv[0], num_heads, k_cache[3]}, k_cache, v_cache};
}
std::vector<DataType> qkv_write_cache_dtype(DataType qkv, DataType, DataType, DataType k_cache, DataType v_cache,
                                            DataType) {
  return {qkv, k_cache, v_cache};
}

}  // namespace qwenvl

QWENVL_BUILD_OP(mrope_tables)
    .Inputs({"position_ids", "inv_freq"})
    .Outputs({"cos", "sin"})
    .Attrs({"first: int", "second: int", "third: int"});

QWENVL_BUILD_OP(encode_rotary_qk)
    .Inputs({"q", "k", "cos", "sin"})
    .Outputs({"q_out", "k_out"});

QWENVL_BUILD_OP(qkv_transpose_split)
    .Inputs({"qkv", "cos", "sin"})
    .Outputs({"q", "k", "v"})
    .Attrs({"num_heads: int", "num_kv_heads: int"});

QWENVL_BUILD_OP(write_cache_kv)
    .Inputs({"k", "v", "k_cache", "v_cache", "slot_mapping"})
    .Outputs({"k_cache_out", "v_cache_out"})
    .SetInplaceMap({{"k_cache", "k_cache_out"}, {"v_cache", "v_cache_out"}});

QWENVL_BUILD_OP(qkv_write_cache)
    .Inputs({"qkv", "cos", "sin", "k_cache", "v_cache", "slot_mapping"})
    .Outputs({"q", "k_cache_out", "v_cache_out"})
    .SetInplaceMap({{"k_cache", "k_cache_out"}, {"v_cache", "v_cache_out"}})
    .Attrs({"num_heads: int"});

QWENVL_BUILD_GRADIENT(qkv_transpose_split)
    .Inputs({"cos", "sin", paddle::Grad("q"), paddle::Grad("k"), paddle::Grad("v")})
    .Outputs({paddle::Grad("qkv")})
    .Attrs({"num_heads: int", "num_kv_heads: int"});
