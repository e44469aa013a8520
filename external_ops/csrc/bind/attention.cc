#include "gpu.h"

namespace qwenvl {

void expect_segments(const char* name, const Tensor& cu_seqlens, int64_t total) {
  expect_dtype(name, cu_seqlens, DataType::INT32);
  const int64_t count = cu_seqlens.numel();
  const int32_t* cu = cu_seqlens.data<int32_t>();
  bool rising = count > 0 && cu[0] == 0 && cu[count - 1] == total;
  for (int64_t i = 1; i < count; ++i) rising = rising && cu[i] >= cu[i - 1];
  PD_CHECK(rising, name, " must rise from 0 to ", total, ", the number of rows");
}

std::vector<Tensor> varlen_attention(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& cu_seqlens_q,
                                     const Tensor& cu_seqlens_k, bool causal, float scale) {
  PD_CHECK(q.shape().size() == 3 && k.shape().size() == 3, "q and k are [T, heads, D], not ", text(q.shape()), " and ",
           text(k.shape()));
  const int64_t heads = q.shape()[1], head_dim = q.shape()[2], kv_heads = k.shape()[1];
  PD_CHECK(kv_heads > 0 && heads % kv_heads == 0, heads, " query heads do not share ", kv_heads, " kv heads evenly");
  expect_shape("k", k, {k.shape()[0], kv_heads, head_dim});
  expect_shape("v", v, k.shape());
  expect_segments("cu_seqlens_q", cu_seqlens_q, q.shape()[0]);
  expect_segments("cu_seqlens_k", cu_seqlens_k, k.shape()[0]);
  expect_shape("cu_seqlens_k", cu_seqlens_k, cu_seqlens_q.shape());
  const Tensor queries = wide(q), keys = wide(k), values = wide(v);
  Tensor out = empty(q.shape(), DataType::FLOAT32, q);
  qwenvl_cpu_kernels()->varlen_attention(queries.data<float>(), keys.data<float>(), values.data<float>(),
                                         cu_seqlens_q.data<int32_t>(), cu_seqlens_k.data<int32_t>(),
                                         cu_seqlens_q.numel() - 1, heads, kv_heads, head_dim, causal, scale,
                                         out.data<float>());
  return {narrow(out, q)};
}

std::vector<Tensor> attention_of_qkv(const Tensor& qkv, const Tensor& cos, const Tensor& sin, const Tensor& cu_seqlens,
                                     int num_heads, int num_kv_heads, bool causal, float scale, bool narrow_products) {
  const int64_t tokens = qkv.shape()[0];
  PD_CHECK(num_kv_heads > 0 && num_heads % num_kv_heads == 0, num_heads, " query heads do not share ", num_kv_heads,
           " kv heads evenly");
  const int64_t head_dim = packed_head_dim(qkv, num_heads, num_kv_heads);
  expect_tables(cos, sin, tokens, head_dim);
  expect_segments("cu_seqlens", cu_seqlens, tokens);
  const Tensor in = wide(qkv), c = wide(cos), s = wide(sin);
  Tensor out = empty({tokens, num_heads, head_dim}, DataType::FLOAT32, qkv);
  qwenvl_cpu_kernels()->qkv_attention(in.data<float>(), c.data<float>(), s.data<float>(), cu_seqlens.data<int32_t>(),
                                      cu_seqlens.numel() - 1, num_heads, num_kv_heads, head_dim, causal, scale,
                                      narrow_products, out.data<float>());
  return {narrow(out, qkv)};
}

std::vector<Tensor> qkv_attention(const Tensor& qkv, const Tensor& cos, const Tensor& sin, const Tensor& cu_seqlens,
                                  int num_heads, int num_kv_heads, bool causal, float scale) {
  return attention_of_qkv(qkv, cos, sin, cu_seqlens, num_heads, num_kv_heads, causal, scale, false);
}

std::vector<Tensor> narrow_qkv_attention(const Tensor& qkv, const Tensor& cos, const Tensor& sin,
                                         const Tensor& cu_seqlens, int num_heads, int num_kv_heads, bool causal,
                                         float scale) {
  return attention_of_qkv(qkv, cos, sin, cu_seqlens, num_heads, num_kv_heads, causal, scale, true);
}

std::vector<Tensor> varlen_attention_gradient(const Tensor& q, const Tensor& k, const Tensor& v,
                                              const Tensor& cu_seqlens_q, const Tensor& cu_seqlens_k,
                                              const Tensor& d_out, bool causal, float scale) {
  const Tensor queries = wide(q), keys = wide(k), values = wide(v), from = wide(d_out);
  Tensor dq = empty(q.shape(), DataType::FLOAT32, q), dk = empty(k.shape(), DataType::FLOAT32, k);
  Tensor dv = empty(v.shape(), DataType::FLOAT32, v);
  qwenvl_cpu_kernels()->attention_gradient(
      queries.data<float>(), keys.data<float>(), values.data<float>(), from.data<float>(),
      cu_seqlens_q.data<int32_t>(), cu_seqlens_k.data<int32_t>(), cu_seqlens_q.numel() - 1, q.shape()[1], k.shape()[1],
      q.shape()[2], causal, scale, dq.data<float>(), dk.data<float>(), dv.data<float>());
  return {narrow(dq, q), narrow(dk, k), narrow(dv, v)};
}

// Checks what both ways of attending to a cache need; the kernels do not write to it.
struct Cached {
  QwenvlKvCache cache;
  QwenvlRows rows;

  Cached(const Tensor& q, const Tensor& k_cache, const Tensor& v_cache, const Tensor& block_tables,
         const Tensor& lengths)
      : Cached(q, heads_of(q), k_cache, v_cache, block_tables, lengths) {
    expect_shape("q", q, {q.shape()[0], q.shape()[1], cache.head_dim});
  }
  Cached(const Tensor& q, int64_t heads, const Tensor& k_cache, const Tensor& v_cache, const Tensor& block_tables,
         const Tensor& lengths)
      : cache(kv_cache(k_cache, v_cache)) {
    PD_CHECK(cache.kv_heads > 0 && heads % cache.kv_heads == 0, heads, " query heads do not share ", cache.kv_heads,
             " kv heads evenly");
    PD_CHECK(cache.head_dim <= QWENVL_LARGEST_HEAD, "heads of at most ", (int)QWENVL_LARGEST_HEAD,
             " are supported, not ", cache.head_dim);
    const Shape shape = block_tables.shape();
    PD_CHECK(shape.size() == 2, "block_tables has shape ", text(shape), ", expected [B, blocks]");
    expect_shape("lengths", lengths, {shape[0]});
    expect_dtype("block_tables", block_tables, DataType::INT32);
    expect_dtype("lengths", lengths, DataType::INT32);
    expect_together("block_tables", block_tables, q);
    expect_together("lengths", lengths, q);
    rows = {block_tables.data<int32_t>(), lengths.data<int32_t>(), shape[0], shape[1]};
    if (q.is_cpu()) expect_blocks();
  }

  static int64_t heads_of(const Tensor& q) {
    PD_CHECK(q.shape().size() == 3, "q has shape ", text(q.shape()), ", expected [T, H, D]");
    return q.shape()[1];
  }

  void expect_blocks() const {
    for (int64_t b = 0; b < rows.count; ++b) {
      const int64_t length = rows.lengths[b];
      PD_CHECK(length >= 0 && length <= rows.blocks * cache.block_size, "row ", b, " has length ", length, " and ",
               rows.blocks, " blocks of ", cache.block_size, " slots");
      for (int64_t i = 0; i * cache.block_size < length; ++i) {
        const int32_t block = rows.block_tables[b * rows.blocks + i];
        PD_CHECK(block >= 0 && block < cache.blocks, "block ", i, " of row ", b, " is ", block, " in a cache of ",
                 cache.blocks, " blocks");
      }
    }
  }
};

std::vector<Tensor> cached_attention(const Tensor& q, const Tensor& k_cache, const Tensor& v_cache,
                                     const Tensor& cu_seqlens, const Tensor& block_tables, const Tensor& lengths,
                                     float scale) {
  const Cached cached(q, k_cache, v_cache, block_tables, lengths);
  expect_shape("cu_seqlens", cu_seqlens, {cached.rows.count + 1});
  expect_dtype("cu_seqlens", cu_seqlens, DataType::INT32);
  expect_together("cu_seqlens", cu_seqlens, q);
  QWENVL_IF_ON_GPU(q, {gpu::attention(q, k_cache, cached.cache, cached.rows, cu_seqlens, scale)});
  expect_segments("cu_seqlens", cu_seqlens, q.shape()[0]);
  const Tensor queries = wide(q);
  Tensor out = empty(q.shape(), DataType::FLOAT32, q);
  qwenvl_cpu_kernels()->cached_attention(queries.data<float>(), &cached.cache, &cached.rows,
                                         cu_seqlens.data<int32_t>(), q.shape()[1], scale, out.data<float>());
  return {narrow(out, q)};
}

// `out` is q's shape, or the same numbers otherwise.
Tensor attend(const Tensor& q, const Cached& cached, float scale, const Shape& out) {
  const Tensor queries = wide(q);
  Tensor y = empty(out, DataType::FLOAT32, q);
  qwenvl_cpu_kernels()->decode_attention(queries.data<float>(), &cached.cache, &cached.rows, q.shape()[1], scale,
                                         y.data<float>());
  return narrow(y, q);
}

std::vector<Tensor> decode_attention(const Tensor& q, const Tensor& k_cache, const Tensor& v_cache,
                                     const Tensor& block_tables, const Tensor& lengths, float scale) {
  const Cached cached(q, k_cache, v_cache, block_tables, lengths);
  PD_CHECK(q.shape()[0] == cached.rows.count, "q has ", q.shape()[0], " rows and block_tables ", cached.rows.count);
  QWENVL_IF_ON_GPU(q, {gpu::attention(q, k_cache, cached.cache, cached.rows, paddle::none, scale)});
  return {attend(q, cached, scale, q.shape())};
}

std::vector<Tensor> qkv_decode_attention(const Tensor& qkv, const Tensor& cos, const Tensor& sin, Tensor& k_cache,
                                         Tensor& v_cache, const Tensor& slot_mapping, const Tensor& block_tables,
                                         const Tensor& lengths, int num_heads, float scale) {
  const Cached cached(qkv, num_heads, k_cache, v_cache, block_tables, lengths);
  const int64_t rows = cached.rows.count, head_dim = cached.cache.head_dim;
  expect_shape("qkv", qkv, {rows, (num_heads + 2 * cached.cache.kv_heads) * head_dim});
  expect_tables(cos, sin, rows, head_dim);
  expect_slots(cached.cache, slot_mapping, qkv);
  QWENVL_IF_ON_GPU(qkv, gpu::qkv_decode_attention(qkv, cos, sin, k_cache, cached.cache, slot_mapping, cached.rows,
                                                  num_heads, scale));
  const Tensor q = qkv_write_cache(qkv, cos, sin, k_cache, v_cache, slot_mapping, num_heads)[0];
  return {attend(q, cached, scale, {rows, num_heads * head_dim})};
}

std::vector<Shape> varlen_attention_shape(Shape q, Shape, Shape, Shape, Shape) { return {q}; }
std::vector<DataType> varlen_attention_dtype(DataType q, DataType, DataType, DataType, DataType) { return {q}; }
std::vector<Shape> qkv_attention_shape(Shape qkv, Shape, Shape, Shape, int num_heads, int num_kv_heads, bool, float) {
  return {{qkv[0], num_heads, qkv[1] / (num_heads + 2 * num_kv_heads)}};
}
std::vector<DataType> qkv_attention_dtype(DataType qkv, DataType, DataType, DataType) { return {qkv}; }
std::vector<Shape> narrow_qkv_attention_shape(Shape qkv, Shape, Shape, Shape, int num_heads, int num_kv_heads, bool,
                                              float) {
  return {{qkv[0], num_heads, qkv[1] / (num_heads + 2 * num_kv_heads)}};
}
std::vector<DataType> narrow_qkv_attention_dtype(DataType qkv, DataType, DataType, DataType) { return {qkv}; }
std::vector<Shape> cached_attention_shape(Shape q, Shape, Shape, Shape, Shape, Shape) { return {q}; }
std::vector<DataType> cached_attention_dtype(DataType q, DataType, DataType, DataType, DataType, DataType) { return {q}; }
std::vector<Shape> decode_attention_shape(Shape q, Shape, Shape, Shape, Shape) { return {q}; }
std::vector<DataType> decode_attention_dtype(DataType q, DataType, DataType, DataType, DataType) { return {q}; }
std::vector<Shape> qkv_decode_attention_shape(Shape qkv, Shape, Shape, Shape k_cache, Shape v_cache, Shape, Shape, Shape,
                                              int num_heads, float) {
  return {{qkv[0], num_heads * k_cache[3]}, k_cache, v_cache};
}
std::vector<DataType> qkv_decode_attention_dtype(DataType qkv, DataType, DataType, DataType k_cache, DataType v_cache,
                                                 DataType, DataType, DataType) {
  return {qkv, k_cache, v_cache};
}

}  // namespace qwenvl

QWENVL_BUILD_OP(varlen_attention)
    .Inputs({"q", "k", "v", "cu_seqlens_q", "cu_seqlens_k"})
    .Outputs({"out"})
    .Attrs({"causal: bool", "scale: float"});

QWENVL_BUILD_OP(qkv_attention)
    .Inputs({"qkv", "cos", "sin", "cu_seqlens"})
    .Outputs({"out"})
    .Attrs({"num_heads: int", "num_kv_heads: int", "causal: bool", "scale: float"});

QWENVL_BUILD_OP(narrow_qkv_attention)
    .Inputs({"qkv", "cos", "sin", "cu_seqlens"})
    .Outputs({"out"})
    .Attrs({"num_heads: int", "num_kv_heads: int", "causal: bool", "scale: float"});

QWENVL_BUILD_OP(cached_attention)
    .Inputs({"q", "k_cache", "v_cache", "cu_seqlens", "block_tables", "lengths"})
    .Outputs({"out"})
    .Attrs({"scale: float"});

QWENVL_BUILD_OP(decode_attention)
    .Inputs({"q", "k_cache", "v_cache", "block_tables", "lengths"})
    .Outputs({"out"})
    .Attrs({"scale: float"});

QWENVL_BUILD_OP(qkv_decode_attention)
    .Inputs({"qkv", "cos", "sin", "k_cache", "v_cache", "slot_mapping", "block_tables", "lengths"})
    .Outputs({"out", "k_cache_out", "v_cache_out"})
    .SetInplaceMap({{"k_cache", "k_cache_out"}, {"v_cache", "v_cache_out"}})
    .Attrs({"num_heads: int", "scale: float"});

QWENVL_BUILD_GRADIENT(varlen_attention)
    .Inputs({"q", "k", "v", "cu_seqlens_q", "cu_seqlens_k", paddle::Grad("out")})
    .Outputs({paddle::Grad("q"), paddle::Grad("k"), paddle::Grad("v")})
    .Attrs({"causal: bool", "scale: float"});
