// Products of many rows in bfloat16 by oneDNN, on CPUs that multiply bfloat16 in hardware. Compiled once.
#include "products.h"

#ifdef QWENVL_ONEDNN

#include <string.h>

#include <algorithm>
#include <map>
#include <memory>
#include <tuple>

#include "onednn.h"

namespace qwenvl {
namespace {

constexpr int64_t CHUNK_BYTES = 4 << 20;  // of a weight turned to bfloat16 at a time
constexpr int64_t GATED_BYTES = 8 << 20;  // of gates and ups at a time: the caches keep them, and they are not new memory
constexpr size_t MOST_PRODUCTS = 512;     // shapes to keep a compiled product for

// y [m, n], rows `stride` apart, = x [m, k] times the transpose of weight [n, k], plus a bias unless there is none.
class Product {
 public:
  Product(dnnl_engine_t engine, int64_t m, int64_t k, int64_t n, int64_t stride, bool bias) {
    dnnl_memory_desc_t src = describe(m, k, dnnl_bf16, k, 1), weights = describe(k, n, dnnl_bf16, 1, k);
    dnnl_memory_desc_t added = bias ? describe(1, n, dnnl_f32, n, 1) : nullptr, dst = describe(m, n, dnnl_f32, stride, 1);
    dnnl_primitive_desc_t desc = nullptr;
    good_ = good_ && !dnnl_matmul_primitive_desc_create(&desc, engine, src, weights, added, dst, nullptr) &&
            !dnnl_primitive_create(&primitive_, desc);
    add(DNNL_ARG_SRC, src, engine);
    add(DNNL_ARG_WEIGHTS, weights, engine);
    add(DNNL_ARG_DST, dst, engine);
    if (bias) add(DNNL_ARG_BIAS, added, engine);
    if (desc) dnnl_primitive_desc_destroy(desc);
    for (dnnl_memory_desc_t each : {src, weights, added, dst})
      if (each) dnnl_memory_desc_destroy(each);
  }
  ~Product() {
    for (int i = 0; i < count_; ++i) dnnl_memory_destroy(arguments_[i].memory);
    if (primitive_) dnnl_primitive_destroy(primitive_);
  }
  Product(const Product&) = delete;

  bool run(dnnl_stream_t stream, const void* x, const void* weight, const float* bias, float* y) {
    const void* data[] = {x, weight, y, bias};
    for (int i = 0; good_ && i < count_; ++i)
      good_ = !dnnl_memory_set_data_handle(arguments_[i].memory, const_cast<void*>(data[i]));
    return good_ && !dnnl_primitive_execute(primitive_, stream, count_, arguments_) && !dnnl_stream_wait(stream);
  }

 private:
  dnnl_memory_desc_t describe(int64_t rows, int64_t columns, int dtype, int64_t row_stride, int64_t column_stride) {
    const dnnl_dims_t dims = {rows, columns}, strides = {row_stride, column_stride};
    dnnl_memory_desc_t desc = nullptr;
    good_ = good_ && !dnnl_memory_desc_create_with_strides(&desc, 2, dims, dtype, strides);
    return desc;
  }
  void add(int argument, dnnl_memory_desc_t desc, dnnl_engine_t engine) {
    dnnl_memory_t memory = nullptr;
    good_ = good_ && !dnnl_memory_create(&memory, desc, engine, nullptr);
    if (memory) arguments_[count_++] = {argument, memory};
  }

  bool good_ = true;
  dnnl_primitive_t primitive_ = nullptr;
  dnnl_exec_arg_t arguments_[4];
  int count_ = 0;
};

struct Engine {
  dnnl_engine_t engine = nullptr;
  dnnl_stream_t stream = nullptr;
  Engine() {
    if (!dnnl_engine_create(&engine, dnnl_cpu, 0)) dnnl_stream_create(&stream, engine, dnnl_stream_default_flags);
  }
};

std::unique_ptr<uint16_t[]> to_bfloat16(const float* x, int64_t size) {
  std::unique_ptr<uint16_t[]> narrow(new uint16_t[size]);
  qwenvl_cpu_kernels()->to_bfloat16(x, size, narrow.get());
  return narrow;
}

bool multiply(const uint16_t* x, const uint16_t* weight, const float* bias, int64_t m, int64_t k, int64_t n,
              int64_t stride, float* y) {
  using Key = std::tuple<int64_t, int64_t, int64_t, int64_t, bool, int>;
  static thread_local Engine engine;
  static thread_local std::map<Key, Product> products;
  const OneDnnThreads threads;
  const Key key{m, k, n, stride, bias != nullptr, qwenvl_threads()};
  auto found = products.find(key);
  if (found == products.end()) {
    if (products.size() >= MOST_PRODUCTS) products.clear();
    found = products
                .emplace(std::piecewise_construct, std::forward_as_tuple(key),
                         std::forward_as_tuple(engine.engine, m, k, n, stride, bias != nullptr))
                .first;
  }
  return engine.stream && found->second.run(engine.stream, x, weight, bias, y);
}

// Weights [n, k] in bfloat16, where they lie so: rows(first, count) gives some of them.
class Bfloat16Rows {
 public:
  Bfloat16Rows(const void* weight, int64_t k) : weight_((const uint16_t*)weight), k_(k) {}
  int64_t most() const { return INT64_MAX; }
  const uint16_t* operator()(int64_t first, int64_t) const { return weight_ + first * k_; }

 private:
  const uint16_t* const weight_;
  const int64_t k_;
};

// Weights of few bits, `most` rows at a time: widen(first, count, rows) makes bfloat16 of them.
template <class Widen>
class WidenedRows {
 public:
  WidenedRows(Widen widen, int64_t k)
      : widen_(widen), most_(CHUNK_BYTES / (2 * k) / 64 * 64 + 64), rows_(new uint16_t[most_ * k]) {}
  int64_t most() const { return most_; }
  const uint16_t* operator()(int64_t first, int64_t count) const {
    widen_(first, count, rows_.get());
    return rows_.get();
  }

 private:
  const Widen widen_;
  const int64_t most_;
  const std::unique_ptr<uint16_t[]> rows_;
};

// Scales and the bias apply to the product.
template <class Rows>
bool multiply_chunks(const float* x, const Rows& rows, const float* scales, const float* bias, int64_t m, int64_t k,
                     int64_t n, float* y) {
  const std::unique_ptr<uint16_t[]> narrow = to_bfloat16(x, m * k);
  for (int64_t first = 0; first < n; first += rows.most()) {
    const int64_t count = std::min(rows.most(), n - first);
    if (!multiply(narrow.get(), rows(first, count), nullptr, m, k, count, n, y + first)) return false;
    finish_columns(scales, bias, m, n, first, count, y);
  }
  return true;
}

// y [m, n / 2]: silu of the first half of such a product's columns, times the second, some columns of both at a time.
template <class Rows>
bool multiply_gated(const float* x, const Rows& rows, const float* scales, const float* bias, int64_t m, int64_t k,
                    int64_t n, float* y) {
  const int64_t half = n / 2, most = std::min(rows.most(), GATED_BYTES / (8 * m) / 64 * 64 + 64);
  const int64_t parts = (half + most - 1) / most, chunk = (half + 64 * parts - 1) / (64 * parts) * 64;
  const std::unique_ptr<uint16_t[]> narrow = to_bfloat16(x, m * k);
  const std::unique_ptr<float[]> both(new float[2 * m * std::min(chunk, half)]);
  for (int64_t first = 0; first < half; first += chunk) {
    const int64_t count = std::min(chunk, half - first), width = 2 * count;
    for (int64_t column : {int64_t(0), count}) {
      const int64_t row = column ? half + first : first, before = row - column;
      if (!multiply(narrow.get(), rows(row, count), nullptr, m, k, count, width, both.get() + column)) return false;
      finish_columns(scales ? scales + before : nullptr, bias ? bias + before : nullptr, m, width, column, count, both.get());
    }
    qwenvl_cpu_kernels()->swiglu(both.get(), m, count, half, y + first);
  }
  return true;
}

// f(rows) with the rows of such a weight.
template <class F>
bool with_rows(const void* weight, QwenvlDtype dtype, int64_t k, F f) {
  if (dtype == QWENVL_BFLOAT16) return f(Bfloat16Rows(weight, k));
  auto widen = [=](int64_t first, int64_t count, uint16_t* rows) {
    qwenvl_cpu_kernels()->widen_to_bfloat16((const char*)weight + first * k, dtype, count * k, rows);
  };
  return f(WidenedRows(widen, k));
}

auto int4_rows(const QwenvlInt4Weight& weight) {
  auto widen = [&weight](int64_t first, int64_t count, uint16_t* rows) {
    qwenvl_cpu_kernels()->int4_to_bfloat16(&weight, first, count, rows);
  };
  return WidenedRows(widen, weight.k);
}

}  // namespace

bool has_bfloat16_products() {
  static const bool has = !strncmp(qwenvl_cpu_isa(), "avx512", 6) &&
                          (dnnl_get_effective_cpu_isa() & dnnl_cpu_isa_avx512_core_bf16) == dnnl_cpu_isa_avx512_core_bf16;
  return has;
}

bool bfloat16_linear(const float* x, const void* weight, QwenvlDtype dtype, const float* scales, const float* bias,
                     int64_t m, int64_t k, int64_t n, float* y) {
  if (dtype == QWENVL_BFLOAT16) return multiply(to_bfloat16(x, m * k).get(), (const uint16_t*)weight, bias, m, k, n, n, y);
  return with_rows(weight, dtype, k, [&](const auto& rows) { return multiply_chunks(x, rows, scales, bias, m, k, n, y); });
}

bool bfloat16_linear_swiglu(const float* x, const void* weight, QwenvlDtype dtype, const float* scales, const float* bias,
                            int64_t m, int64_t k, int64_t n, float* y) {
  return with_rows(weight, dtype, k, [&](const auto& rows) { return multiply_gated(x, rows, scales, bias, m, k, n, y); });
}

bool bfloat16_linear_int4(const float* x, const QwenvlInt4Weight& weight, const float* bias, int64_t m, float* y) {
  return multiply_chunks(x, int4_rows(weight), nullptr, bias, m, weight.k, weight.n, y);
}

bool bfloat16_linear_int4_swiglu(const float* x, const QwenvlInt4Weight& weight, const float* bias, int64_t m, float* y) {
  return multiply_gated(x, int4_rows(weight), nullptr, bias, m, weight.k, weight.n, y);
}

}  // namespace qwenvl

extern "C" int qwenvl_has_amx(void) {
  return (dnnl_get_effective_cpu_isa() & dnnl_cpu_isa_avx512_core_amx) == dnnl_cpu_isa_avx512_core_amx;
}

#else

bool qwenvl::has_bfloat16_products() { return false; }
bool qwenvl::bfloat16_linear(const float*, const void*, QwenvlDtype, const float*, const float*, int64_t, int64_t,
                             int64_t, float*) {
  return false;
}
bool qwenvl::bfloat16_linear_swiglu(const float*, const void*, QwenvlDtype, const float*, const float*, int64_t, int64_t,
                                    int64_t, float*) {
  return false;
}
bool qwenvl::bfloat16_linear_int4(const float*, const QwenvlInt4Weight&, const float*, int64_t, float*) { return false; }
bool qwenvl::bfloat16_linear_int4_swiglu(const float*, const QwenvlInt4Weight&, const float*, int64_t, float*) { return false; }
extern "C" int qwenvl_has_amx(void) { return 0; }

#endif
