// Products of many rows in bfloat16 by oneDNN, on CPUs that multiply bfloat16 in hardware. Compiled once.
#include "products.h"

#ifdef QWENVL_ONEDNN_BFLOAT16

#include <map>
#include <memory>
#include <tuple>

#include <oneapi/dnnl/dnnl.hpp>

namespace qwenvl {
namespace {

using dnnl::memory;

constexpr int64_t FEWEST_ROWS = 9;          // below, a weight is read once and widened: the memory is the limit
constexpr int64_t CHUNK_BYTES = 4 << 20;    // of an int8 weight turned to bfloat16 at a time
constexpr size_t MOST_PRODUCTS = 512;       // shapes to keep a compiled product for

bool supported() {
  static const bool supported = [] {
    const int bfloat16 = static_cast<int>(dnnl::cpu_isa::avx512_core_bf16);
    return (static_cast<int>(dnnl::get_effective_cpu_isa()) & bfloat16) == bfloat16;
  }();
  return supported;
}

// y [m, n], rows `stride` apart, = x [m, k] times the transpose of weight [n, k], plus bias unless null.
void multiply(const uint16_t* x, const uint16_t* weight, const float* bias, int64_t m, int64_t k, int64_t n,
              int64_t stride, float* y) {
  using Key = std::tuple<int64_t, int64_t, int64_t, int64_t, bool>;
  thread_local dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  thread_local dnnl::stream stream(engine);
  thread_local std::map<Key, dnnl::matmul> products;
  const memory::desc x_desc({m, k}, memory::data_type::bf16, memory::dims{k, 1});
  const memory::desc weight_desc({k, n}, memory::data_type::bf16, memory::dims{1, k});
  const memory::desc bias_desc({1, n}, memory::data_type::f32, memory::dims{n, 1});
  const memory::desc y_desc({m, n}, memory::data_type::f32, memory::dims{stride, 1});
  const Key key{m, k, n, stride, bias != nullptr};
  auto found = products.find(key);
  if (found == products.end()) {
    if (products.size() >= MOST_PRODUCTS) products.clear();
    const auto description =
        bias ? dnnl::matmul::primitive_desc(engine, x_desc, weight_desc, bias_desc, y_desc)
             : dnnl::matmul::primitive_desc(engine, x_desc, weight_desc, y_desc);
    found = products.emplace(key, dnnl::matmul(description)).first;
  }
  std::unordered_map<int, memory> arguments{
      {DNNL_ARG_SRC, memory(x_desc, engine, const_cast<uint16_t*>(x))},
      {DNNL_ARG_WEIGHTS, memory(weight_desc, engine, const_cast<uint16_t*>(weight))},
      {DNNL_ARG_DST, memory(y_desc, engine, y)}};
  if (bias) arguments.insert({DNNL_ARG_BIAS, memory(bias_desc, engine, const_cast<float*>(bias))});
  found->second.execute(stream, arguments);
  stream.wait();
}

// An int8 weight goes chunk by chunk; its scales and the bias apply to the product.
void multiply_int8(const uint16_t* x, const int8_t* weight, const float* scales, const float* bias, int64_t m,
                   int64_t k, int64_t n, float* y) {
  const int64_t chunk = CHUNK_BYTES / (2 * k) / 64 * 64 + 64;
  std::unique_ptr<uint16_t[]> wide(new uint16_t[chunk * k]);
  for (int64_t first = 0; first < n; first += chunk) {
    const int64_t columns = n - first < chunk ? n - first : chunk;
    qwenvl_cpu_kernels()->int8_to_bfloat16(weight + first * k, columns * k, wide.get());
    multiply(x, wide.get(), nullptr, m, k, columns, n, y + first);
    finish_columns(scales, bias, m, n, first, columns, y);
  }
}

}  // namespace

bool bfloat16_linear(const float* x, const void* weight, QwenvlDtype dtype, const float* scales, const float* bias,
                   int64_t m, int64_t k, int64_t n, float* y) {
  if (!supported() || m < FEWEST_ROWS || (dtype != QWENVL_BFLOAT16 && dtype != QWENVL_INT8)) return false;
  std::unique_ptr<uint16_t[]> narrow(new uint16_t[m * k]);
  qwenvl_cpu_kernels()->to_bfloat16(x, m * k, narrow.get());
  if (dtype == QWENVL_INT8)
    multiply_int8(narrow.get(), (const int8_t*)weight, scales, bias, m, k, n, y);
  else
    multiply(narrow.get(), (const uint16_t*)weight, bias, m, k, n, n, y);
  return true;
}

}  // namespace qwenvl

extern "C" int qwenvl_has_bfloat16_products(void) { return qwenvl::supported(); }

#else

bool qwenvl::bfloat16_linear(const float*, const void*, QwenvlDtype, const float*, const float*, int64_t, int64_t,
                           int64_t, float*) {
  return false;
}

extern "C" int qwenvl_has_bfloat16_products(void) {
#ifdef __x86_64__
  return __builtin_cpu_supports("avx512bf16") ? -1 : 0;
#else
  return 0;
#endif
}

#endif
